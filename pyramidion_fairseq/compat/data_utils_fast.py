"""Pure-Python replacement for fairseq's compiled ``fairseq.data.data_utils_fast``, which makes batches.

The names, signatures and results are those of the extension in fairseq 0.12 (tests/data/data_utils_fast.json contains
results of the compiled functions), so that training and generation need no compiler. Batching 200,000 documents takes
a fraction of a second. Lengths are in tokens, sizes in documents. A limit of 0 or less means no limit.
"""

from typing import Callable, List

import numpy as np


def batch_by_size_vec(
    indices: np.ndarray, num_tokens_vec: np.ndarray, max_tokens: int, max_sentences: int, bsz_mult: int
) -> List[np.ndarray]:
    """Split ordered documents into batches of consecutive documents.

    The tokens of a batch are its number of documents times the length of its longest one. Its size is less than
    ``bsz_mult`` or a multiple of it, except that the last batch may have any size.

    Args:
        indices: ``(N,)`` int64, the documents in the order in which they are batched.
        num_tokens_vec: ``(N,)`` int64, ``num_tokens_vec[i]`` is the length of document ``indices[i]``.
        max_tokens: maximum tokens in a batch, including padding.
        max_sentences: maximum documents in a batch.
        bsz_mult: batch sizes are multiples of this number.

    Returns:
        Consecutive views of ``indices``, which together cover it.

    Raises:
        AssertionError: a document is longer than ``max_tokens``.
        TypeError, ValueError: an argument is not a number, or not a one-dimensional int64 array.
    """
    _check_int64("indices", indices, 1)
    _check_int64("num_tokens_vec", num_tokens_vec, 1)
    max_tokens, max_sentences, bsz_mult = int(max_tokens), int(max_sentences), int(bsz_mult)
    if len(indices) == 0:
        return []
    if max_tokens > 0 and num_tokens_vec.max() > max_tokens:
        # The extension raises AssertionError. An assert statement would be removed by python -O.
        raise AssertionError(f"Sentences lengths should not exceed max_tokens={max_tokens}")
    if len(num_tokens_vec) < len(indices):
        raise ValueError(f"{len(num_tokens_vec)} lengths for {len(indices)} documents")
    cuts = [0, *_cuts(num_tokens_vec[: len(indices)].tolist(), max_tokens, max_sentences, bsz_mult), len(indices)]
    return [indices[begin:end] for begin, end in zip(cuts, cuts[1:])]


def _cuts(lengths: List[int], max_tokens: int, max_sentences: int, bsz_mult: int) -> List[int]:
    """Return the positions at which a new batch starts, ascending."""
    cuts = []
    # lengths[start:ready] has an allowed size and could be a batch. The documents after it wait until there are enough
    # for the next allowed size, or until a limit is exceeded and they have to start a new batch.
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
                # The waiting documents cannot be batched with this one: they are a batch, and it starts the next one.
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
    """Return :func:`batch_by_size_vec` with lengths ``num_tokens_fn(document)``, which are truncated to integers."""
    _check_int64("indices", indices, 1)
    lengths = np.zeros(len(indices), dtype=np.int64)
    for position, document in enumerate(indices.tolist()):
        lengths[position] = num_tokens_fn(document)
    return batch_by_size_vec(indices, lengths, max_tokens, max_sentences, bsz_mult)


def batch_fixed_shapes_fast(
    indices: np.ndarray, num_tokens_fn: Callable[[int], int], fixed_shapes_sorted: np.ndarray
) -> List[List[int]]:
    """Split ordered documents into batches that fit one of a few shapes (for TPUs, which compile a graph per shape).

    As in the extension, the first document of a batch that follows a full one is neither compared with the shapes nor
    considered for the longest length of its batch.

    Args:
        indices: ``(N,)`` int64, the documents in the order in which they are batched.
        num_tokens_fn: length of a document.
        fixed_shapes_sorted: ``(S, 2)`` int64, rows of (documents, length), smallest first.

    Returns:
        Lists of documents. The first is empty if the first document fits no shape.

    Raises:
        TypeError, ValueError: an array is not int64 or has the wrong number of dimensions; a length is not a number.
    """
    _check_int64("indices", indices, 1)
    _check_int64("fixed_shapes_sorted", fixed_shapes_sorted, 2)
    shapes = fixed_shapes_sorted.tolist()
    batches: List[List[int]] = []
    batch: List[int] = []
    longest = candidate = 0
    for document in indices.tolist():
        longest = max(longest, int(num_tokens_fn(document)))
        # A batch only grows, so a shape that is too small remains too small.
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
    """Refuse what the extension's typed arguments refuse, with the same types of exceptions."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"Argument '{name}' has incorrect type (expected numpy.ndarray, got {type(array).__name__})")
    if array.ndim != dimensions:
        raise ValueError(f"Buffer has wrong number of dimensions (expected {dimensions}, got {array.ndim})")
    if array.dtype != np.int64:
        raise ValueError(f"Buffer dtype mismatch, expected 'int64_t' but got '{array.dtype}'")
