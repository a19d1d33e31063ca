"""Pure-Python replacement for fairseq's compiled ``fairseq.data.token_block_utils_fast``, which splits text into
blocks.

fairseq's ``denoising`` task, with which BART is pretrained, and its language models read text in such blocks. Names,
signatures and results are those of the extension in fairseq 0.12, except that empty texts, for which the extension
fails an assertion, are skipped.
"""

from typing import List, Tuple

import numpy as np


def _get_slice_indices_fast(sizes: np.ndarray, break_mode: str, block_size: int, document_sep_len: int) -> np.ndarray:
    """Return the start and end of each block in the concatenated texts.

    Args:
        sizes: ``(N,)`` int64, number of tokens of each text.
        break_mode: "none" (or None): blocks of ``block_size`` tokens; "complete": as many whole texts as fit, at least
            one; "complete_doc": the same, but a block ends with its document; "eos": one text per block.
        block_size: maximum tokens of a block.
        document_sep_len: size of the text that separates documents in "complete_doc".

    Returns:
        ``(M, 2)`` int64, (start, end).

    Raises:
        ValueError: the break mode is unknown.
    """
    ends = sizes.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    if break_mode in (None, "none"):
        starts = np.arange(0, total, block_size, dtype=np.int64)
        return np.stack([starts, np.minimum(starts + block_size, total)], axis=1)
    if break_mode == "eos":
        return np.stack([ends - sizes, ends], axis=1)
    if break_mode == "complete":
        blocks = _whole_texts(sizes.tolist(), block_size, None, 1)
    elif break_mode == "complete_doc":
        blocks = _whole_texts(sizes.tolist(), block_size, document_sep_len, 2)
    else:
        raise ValueError(f"Invalid break_mode: {break_mode}")
    return np.array(blocks, dtype=np.int64).reshape(-1, 2)


def _whole_texts(sizes: List[int], block_size: int, separator: "int | None", least: int) -> List[Tuple[int, int]]:
    """Return the (start, end) of blocks of whole texts.

    Blocks of fewer than ``least`` tokens are omitted, and so are texts of ``separator`` tokens, which end a block.
    """
    blocks, start, end = [], 0, 0
    for size in [*sizes, None]:
        if size is None or size == separator or (end > start and end + size - start > block_size):
            if end - start >= least:
                blocks.append((start, end))
            start = end
        if size is not None:
            end += size
            if size == separator:
                start = end
    return blocks


def _get_block_to_dataset_index_fast(sizes: np.ndarray, slice_indices: np.ndarray) -> np.ndarray:
    """Return the texts that each block consists of.

    Args:
        sizes: ``(N,)`` int64, number of tokens of each text.
        slice_indices: ``(M, 2)`` int64, as returned by :func:`_get_slice_indices_fast`.

    Returns:
        ``(M, 3)`` int64: index of the first text, offset of the block in it, index of the last text.
    """
    ends = sizes.cumsum()
    starts, last = slice_indices[:, 0], np.maximum(slice_indices[:, 1] - 1, slice_indices[:, 0])
    first = np.searchsorted(ends, starts, side="right")
    offsets = starts - (ends - sizes)[first]
    return np.stack([first, offsets, np.searchsorted(ends, last, side="right")], axis=1)
