"""Cutting token sequences to a length without losing their end-of-sentence symbol."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset
from torch import Tensor


def truncate(
    tokens: Tensor, max_length: int | None, eos: int, bos: int | None = None, marker: int | None = None
) -> Tensor:
    """Keep at most ``max_length`` tokens of a (T,) sequence, the last of them ``eos`` where it was there before.

    Where ``bos`` is given, it is put in front and counts; so does ``marker``, which is put behind.
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
    """Sequences of a dataset, each cut to ``max_length`` tokens by :func:`truncate`.

    Args:
        dataset: of (T,) token sequences, with ``sizes``.
        max_length: in tokens, ``</s>`` counted; None cuts nothing.
        eos: id of ``</s>``.
        bos: id of ``<s>`` to put in front of every sequence, or None.
        marker: id of what to put behind every sequence, or None.
    """

    def __init__(
        self, dataset: Any, max_length: int | None, eos: int, bos: int | None = None, marker: int | None = None
    ):
        super().__init__(dataset)
        self.max_length, self.eos, self.bos, self.marker = max_length, eos, bos, marker
        full = np.asarray(dataset.sizes) + (bos is not None) + (marker is not None)
        self._sizes = full if max_length is None else np.minimum(full, max_length)
        #: How many sequences lose tokens.
        self.num_cut = int((full > self._sizes).sum())

    def __getitem__(self, index: int) -> Tensor:
        return truncate(self.dataset[index], self.max_length, self.eos, self.bos, self.marker)

    @property
    def sizes(self) -> np.ndarray:
        """(documents,) lengths in tokens, after cutting."""
        return self._sizes
