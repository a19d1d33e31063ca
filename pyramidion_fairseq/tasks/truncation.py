"""Truncation of token sequences that keeps their end-of-sentence symbol."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset
from torch import Tensor

logger = logging.getLogger(__name__)


def truncate(
    tokens: Tensor, max_length: int | None, eos: int, bos: int | None = None, marker: int | None = None
) -> Tensor:
    """Truncate a (T,) sequence to ``max_length`` tokens, keeping a final ``eos``.

    If given, ``bos`` is prepended and ``marker`` is appended; both count towards ``max_length``.
    """
    if marker is not None:
        kept = truncate(tokens, None if max_length is None else max_length - 1, eos, bos)
        return torch.cat([kept, kept.new_tensor([marker])])
    if bos is not None:
        tokens = torch.cat([tokens.new_tensor([bos]), tokens])
    if max_length is None or tokens.numel() <= max_length:
        return tokens
    kept = tokens[:max_length]
    if tokens[-1] == eos:
        kept = torch.cat([kept[:-1], tokens[-1:]])
    return kept


class TruncatedDataset(BaseWrapperDataset):
    """Sequences of a dataset, truncated to ``max_length`` tokens by :func:`truncate`.

    Args:
        dataset: dataset of (T,) token sequences, with ``sizes``.
        max_length: maximum number of tokens, including ``</s>``; None for no limit.
        eos: id of ``</s>``.
        bos: id of a token to prepend to every sequence, or None.
        marker: id of a token to append to every sequence, or None.
    """

    def __init__(
        self, dataset: Any, max_length: int | None, eos: int, bos: int | None = None, marker: int | None = None
    ):
        super().__init__(dataset)
        self.max_length, self.eos, self.bos, self.marker = max_length, eos, bos, marker
        full = np.asarray(dataset.sizes) + (bos is not None) + (marker is not None)
        self._sizes = full if max_length is None else np.minimum(full, max_length)
        #: Number of truncated sequences.
        self.num_cut = int((full > self._sizes).sum())

    def log_cut(self, before: str, what: str) -> None:
        """Log how many sequences are truncated, after a text, and with a name for the sequences."""
        share = self.num_cut / len(self)
        logger.info(f"{before}{self.num_cut:,} of {len(self):,} {what} cut to {self.max_length} tokens ({share:.1%})")

    def __getitem__(self, index: int) -> Tensor:
        return truncate(self.dataset[index], self.max_length, self.eos, self.bos, self.marker)

    @property
    def sizes(self) -> np.ndarray:
        """(documents,) lengths in tokens, after truncation."""
        return self._sizes
