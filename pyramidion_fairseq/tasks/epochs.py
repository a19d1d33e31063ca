"""Shuffling of batches that can change between epochs.

fairseq keeps the iterator and its loader, and with them the order of the first epoch. A resumed run creates new ones,
and would read the batches in another order than a run without interruption.
"""

from __future__ import annotations

from typing import Any

from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterator


class EpochwiseShuffledIterator(EpochBatchIterator):
    """fairseq's iterator, which follows ``shuffle`` in every epoch (``--curriculum``), also with a kept loader."""

    def _get_iterator_for_epoch(self, epoch: int, shuffle: bool, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "dataloader", None) is not None:
            self.epoch_batch_sampler.shuffle = shuffle
        return super()._get_iterator_for_epoch(epoch, shuffle, *args, **kwargs)


def shuffle_epochwise(iterator: EpochBatchIterator) -> None:
    """Change the class of an iterator of fairseq to :class:`EpochwiseShuffledIterator`."""
    if type(iterator) is EpochBatchIterator:
        iterator.__class__ = EpochwiseShuffledIterator


def forget_other_seed(kept: dict[FairseqDataset, EpochBatchIterator], dataset: FairseqDataset, seed: int) -> None:
    """Drop the kept iterator of a dataset if its seed differs, as with ``--update-ordered-indices-seed``."""
    if dataset in kept and kept[dataset].seed != seed:
        del kept[dataset]
