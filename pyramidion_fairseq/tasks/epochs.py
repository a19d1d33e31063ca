"""Epochs whose order of batches changes: fairseq keeps iterator and loader, and with them the order of the first one.

A resumed run has new ones, and would get the order that was asked for: it would not be the run that was never stopped.
"""

from __future__ import annotations

from typing import Any

from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterator


class ShuffledAsAsked(EpochBatchIterator):
    """fairseq's, which shuffles each epoch or not as it is asked to, as by ``--curriculum``, with kept loaders too."""

    def _get_iterator_for_epoch(self, epoch: int, shuffle: bool, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "dataloader", None) is not None:
            self.epoch_batch_sampler.shuffle = shuffle
        return super()._get_iterator_for_epoch(epoch, shuffle, *args, **kwargs)


def shuffle_as_asked(iterator: EpochBatchIterator) -> None:
    """Make an iterator that fairseq has built a :class:`ShuffledAsAsked`."""
    if type(iterator) is EpochBatchIterator:
        iterator.__class__ = ShuffledAsAsked


def forget_other_seed(kept: dict[FairseqDataset, EpochBatchIterator], dataset: FairseqDataset, seed: int) -> None:
    """Drop the kept iterator of a dataset if it has another seed, as with ``--update-ordered-indices-seed``."""
    if dataset in kept and kept[dataset].seed != seed:
        del kept[dataset]
