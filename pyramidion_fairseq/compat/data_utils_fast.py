"""Pure-Python stand-in for fairseq's compiled ``fairseq.data.data_utils_fast``: which documents share a batch.

The names, signatures and results are those of the extension in fairseq 0.12 (tests/data/data_utils_fast.json holds
what the compiled one answered), so that training and generation need no compiler. The batches of 200,000 documents
take a fraction of a second. Lengths are in tokens, sizes in documents; a limit that is not positive is no limit.
"""

from typing import Callable, List

import numpy as np


def batch_by_size_vec(
    indices: np.ndarray, num_tokens_vec: np.ndarray, max_tokens: int, max_sentences: int, bsz_mult: int
) -> List[np.ndarray]:
    """Cut ordered documents into batches of consecutive ones.

    A batch costs its number of documents times its longest one. Its size is below ``bsz_mult`` or a multiple of it;
    the last batch alone may break that rule, because what is left over when the documents end is a batch of its own.

    Args:
        indices: ``(N,)`` int64, the documents in the order in which they are batched.
        num_tokens_vec: ``(N,)`` int64, ``num_tokens_vec[i]`` is the length of document ``indices[i]``.
        max_tokens: most tokens in a batch, padding included.
        max_sentences: most documents in a batch.
        bsz_mult: the multiple.

    Returns:
        Views of ``indices``, in order, which together are all of it.

    Raises:
        AssertionError: a document is longer than ``max_tokens``.
        TypeError, ValueError: an argument is no number, or no int64 array of one dimension.
    """
    _check_int64("indices", indices, 1)
    _check_int64("num_tokens_vec", num_tokens_vec, 1)
    max_tokens, max_sentences, bsz_mult = int(max_tokens), int(max_sentences), int(bsz_mult)
    if len(indices) == 0:
        return []
    if max_tokens > 0 and num_tokens_vec.max() > max_tokens:
        # The extension asserts, and python -O must not change what happens.
        raise AssertionError(f"Sentences lengths should not exceed max_tokens={max_tokens}")
    if len(num_tokens_vec) < len(indices):
        raise ValueError(f"{len(num_tokens_vec)} lengths for {len(indices)} documents")
    cuts = [0, *_cuts(num_tokens_vec[: len(indices)].tolist(), max_tokens, max_sentences, bsz_mult), len(indices)]
    return [indices[begin:end] for begin, end in zip(cuts, cuts[1:])]


def _cuts(lengths: List[int], max_tokens: int, max_sentences: int, bsz_mult: int) -> List[int]:
    """Return positions between two batches, ascending."""
    cuts = []
    # lengths[start:ready] has an allowed size and could be closed now. The documents behind it wait until enough of
    # them have come for the next allowed size, or until the limits are passed and they have to start a new batch.
    start = ready = 0
    longest_ready = longest_waiting = 0
    for position, length in enumerate(lengths):
        if length > longest_waiting:
            longest_waiting = length
        size = position + 1 - start
        longest = longest_ready if longest_ready > longest_waiting else longest_waiting
        if 0 < max_sentences < size or 0 < max_tokens < size * longest:
            cuts.append(ready)
            start = ready
            if 0 < max_tokens < (position + 1 - start) * longest_waiting:
                # Those who wait cannot take this document in either: they are a batch, and it begins the next one.
                cuts.append(position)
                start = position
                longest_waiting = length
            longest = longest_waiting
        elif size >= bsz_mult and size % bsz_mult:
            continue
        ready = position + 1
        longest_ready, longest_waiting = longest, 0
    if ready != len(lengths):
        cuts.append(ready)
    return cuts


def batch_by_size_fn(
    indices: np.ndarray,
    num_tokens_fn: Callable[[int], int],
    max_tokens: int,
    max_sentences: int,
    bsz_mult: int,
) -> List[np.ndarray]:
    """Return :func:`batch_by_size_vec` where ``num_tokens_fn(document)`` gives the length (fractions are cut off)."""
    _check_int64("indices", indices, 1)
    lengths = np.zeros(len(indices), dtype=np.int64)
    for position, document in enumerate(indices.tolist()):
        lengths[position] = num_tokens_fn(document)
    return batch_by_size_vec(indices, lengths, max_tokens, max_sentences, bsz_mult)


def batch_fixed_shapes_fast(
    indices: np.ndarray, num_tokens_fn: Callable[[int], int], fixed_shapes_sorted: np.ndarray
) -> List[List[int]]:
    """Cut ordered documents into batches that fit one of a few shapes (for TPUs, which compile one graph per shape).

    As in the extension, the document that opens a batch after a full one is neither held against the shapes nor
    counted as the batch's longest.

    Args:
        indices: ``(N,)`` int64, the documents in the order in which they are batched.
        num_tokens_fn: length of a document.
        fixed_shapes_sorted: ``(S, 2)`` int64, rows of (documents, length), smallest first.

    Returns:
        Lists of documents. The first is empty if the first document fits no shape.

    Raises:
        TypeError, ValueError: an array is not int64 or has another number of dimensions; a length is no number.
    """
    _check_int64("indices", indices, 1)
    _check_int64("fixed_shapes_sorted", fixed_shapes_sorted, 2)
    shapes = fixed_shapes_sorted.tolist()
    batches: List[List[int]] = []
    batch: List[int] = []
    longest = candidate = 0
    for document in indices.tolist():
        longest = max(longest, int(num_tokens_fn(document)))
        # A batch only grows, so a shape that was too small once stays too small.
        while candidate < len(shapes) and (len(batch) >= shapes[candidate][0] or longest > shapes[candidate][1]):
            candidate += 1
        if candidate == len(shapes):
            batches.append(batch)
            batch = []
            longest = candidate = 0
        batch.append(document)
    if batch:
        batches.append(batch)
    return batches


def _check_int64(name: str, array: np.ndarray, dimensions: int) -> None:
    """Refuse what the extension's typed arguments refuse, with the same exception types."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"Argument '{name}' has incorrect type (expected numpy.ndarray, got {type(array).__name__})")
    if array.ndim != dimensions:
        raise ValueError(f"Buffer has wrong number of dimensions (expected {dimensions}, got {array.ndim})")
    if array.dtype != np.int64:
        raise ValueError(f"Buffer dtype mismatch, expected 'int64_t' but got '{array.dtype}'")
