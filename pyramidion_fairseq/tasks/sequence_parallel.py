"""Training with documents that several processes share: which batches they read, and what their logs add up to."""

# No postponed annotations: fairseq reads the config's types.
from dataclasses import dataclass, field
from typing import Any, Dict, List

import torch.distributed as dist
from fairseq.data import FairseqDataset
from fairseq.data.iterators import EpochBatchIterator
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from ..errors import PyramidionError
from ..models import PyramidionModel
from ..parallel import sequence_group
from ..parallel.group import TIMEOUT


@dataclass
class SequenceParallelConfig(TranslationConfig):
    """Options of ``translation``, and of documents that several processes share."""

    sequence_parallel: int = field(
        default=1, metadata={"help": "processes that share each document: consecutive ranks hold consecutive blocks"}
    )
    sequence_parallel_timeout: float = field(
        default=TIMEOUT, metadata={"help": "seconds that a process waits for those it shares documents with"}
    )
    encoder_chunk_tokens: int = field(
        default=0,
        metadata={
            "help": "the layers before the first pooling read so many tokens of a document at a time, with less "
            "memory and, in generation, twice their time (LSG: all layers, in little more time); 0: whole documents"
        },
    )


class SequenceParallelTask(TranslationTask):
    """``translation`` in which groups of P consecutive ranks read the same batches.

    Every rank of a group computes the loss of the whole batch. Sums over all ranks, of gradients and of sample sizes
    alike, are P times what they would be, so that fairseq's normalisation is right as it is. Logs are divided by P.
    """

    @property
    def sharing(self) -> int:
        """Return P: 1 where every process reads its documents alone; older checkpoints lack the option."""
        return int(getattr(self.cfg, "sequence_parallel", 1))

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Do as fairseq does, and let the ranks of a group share documents; a model for generation reads them alone.

        Raises:
            PyramidionError: P does not divide the processes, or the encoder is none whose documents can be shared.
        """
        model = super().build_model(cfg, from_checkpoint)
        if self.sharing != 1 and not from_checkpoint:
            if not isinstance(model, PyramidionModel):
                raise PyramidionError(
                    f"--sequence-parallel {self.sharing}: {type(model).__name__} is no model of this package"
                )
            self._read_in_chunks([model])
            model.encoder.check_sequence_parallel(self.sharing)
            model.encoder.spread_documents(sequence_group(self.sharing, self.cfg.sequence_parallel_timeout))
        else:
            self._read_in_chunks([model])
        return model

    def build_generator(self, models: List[Any], args: Any, *rest: Any, **kwargs: Any) -> Any:
        """Do as fairseq does.

        Raises:
            PyramidionError: a command that only generates was given ``--sequence-parallel``.
        """
        if self.sharing != 1 and any(getattr(model.encoder, "sequence_group", None) is None for model in models):
            raise PyramidionError(
                "--sequence-parallel is for training: to summarise, call spread_documents(P) of a loaded model in P "
                "processes, or take --encoder-chunk-tokens on one device (docs/long-documents.md)"
            )
        self._read_in_chunks(models)
        return super().build_generator(models, args, *rest, **kwargs)

    @property
    def chunk_tokens(self) -> int:
        """Return the tokens that an encoder reads at a time, 0: all; older checkpoints lack the option."""
        return int(getattr(self.cfg, "encoder_chunk_tokens", 0))

    def _read_in_chunks(self, models: List[Any]) -> None:
        """Let the models of this package read documents in chunks, where the options ask for it."""
        for model in models:
            if self.chunk_tokens and isinstance(model, PyramidionModel):
                model.encoder.read_in_chunks(self.chunk_tokens)

    def get_batch_iterator(self, dataset: FairseqDataset, *args: Any, **kwargs: Any) -> EpochBatchIterator:
        """Do as fairseq does; the ranks of a group read the same batches."""
        shards = kwargs.get("num_shards", 1)
        if self.sharing > 1 and dist.is_initialized() and shards == dist.get_world_size():
            kwargs.update(num_shards=shards // self.sharing, shard_id=kwargs["shard_id"] // self.sharing)
        return super().get_batch_iterator(dataset, *args, **kwargs)

    def logged_once(self, logging_outputs: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """Return logging outputs in which every document counts once, not once for each rank that shares it."""
        if self.sharing == 1 or not dist.is_initialized():
            return logging_outputs
        return [{name: value / self.sharing for name, value in output.items()} for output in logging_outputs]
