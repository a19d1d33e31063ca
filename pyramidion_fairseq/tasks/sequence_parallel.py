"""Training with documents that are sharded over several processes (``--sequence-parallel``)."""

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
    """Options of ``translation``, of sequence parallelism, and of encoding in chunks."""

    sequence_parallel: int = field(
        default=1, metadata={"help": "processes that share each document: consecutive ranks hold consecutive blocks"}
    )
    sequence_parallel_timeout: float = field(
        default=TIMEOUT,
        metadata={"help": "seconds that a process waits for others that share its documents"},
    )
    encoder_chunk_tokens: int = field(
        default=0,
        metadata={
            "help": "number of tokens of a document that the layers before the first pooling process at a time, which "
            "needs less memory and, in generation, twice their time (LSG: all layers, in little more time); 0: whole "
            "documents"
        },
    )


class SequenceParallelTask(TranslationTask):
    """``translation`` in which groups of P consecutive ranks read the same batches.

    Every rank of a group computes the loss of the whole batch. Sums over all ranks, both of gradients and of sample
    sizes, are therefore P times too large, and fairseq's normalisation remains correct. Logs are divided by P.
    """

    @property
    def sharing(self) -> int:
        """Return P, the number of processes that share a document. Older checkpoints lack the option: 1."""
        return int(getattr(self.cfg, "sequence_parallel", 1))

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Build a model as fairseq does. For training, the ranks of a group share its documents.

        Raises:
            PyramidionError: P does not divide the number of processes, or the model does not support sharing.
        """
        model = super().build_model(cfg, from_checkpoint)
        if self.sharing != 1 and not from_checkpoint:
            if not isinstance(model, PyramidionModel):
                raise PyramidionError(
                    f"--sequence-parallel {self.sharing} needs a model of this package, not {type(model).__name__}"
                )
            self._read_in_chunks([model])
            model.encoder.check_sequence_parallel(self.sharing)
            model.encoder.spread_documents(sequence_group(self.sharing, self.cfg.sequence_parallel_timeout))
        else:
            self._read_in_chunks([model])
        return model

    def build_generator(self, models: List[Any], args: Any, *rest: Any, **kwargs: Any) -> Any:
        """Build a generator as fairseq does.

        Raises:
            PyramidionError: ``--sequence-parallel`` was given to a command that only generates.
        """
        if self.sharing != 1 and any(getattr(model.encoder, "sequence_group", None) is None for model in models):
            raise PyramidionError(
                "--sequence-parallel is for training: to summarise, call spread_documents(P) of a loaded model in P "
                "processes, or use --encoder-chunk-tokens on one device (docs/long-documents.md)"
            )
        self._read_in_chunks(models)
        return super().build_generator(models, args, *rest, **kwargs)

    @property
    def chunk_tokens(self) -> int:
        """Return ``--encoder-chunk-tokens``, 0 for whole documents. Older checkpoints lack the option: 0."""
        return int(getattr(self.cfg, "encoder_chunk_tokens", 0))

    def _read_in_chunks(self, models: List[Any]) -> None:
        """Make models of this package read documents in chunks, with ``--encoder-chunk-tokens``."""
        for model in models:
            if self.chunk_tokens and isinstance(model, PyramidionModel):
                model.encoder.read_in_chunks(self.chunk_tokens)

    def get_batch_iterator(self, dataset: FairseqDataset, *args: Any, **kwargs: Any) -> EpochBatchIterator:
        """Return an iterator as fairseq does, with the same batches for all ranks of a group."""
        shards = kwargs.get("num_shards", 1)
        if self.sharing > 1 and dist.is_initialized() and shards == dist.get_world_size():
            kwargs.update(num_shards=shards // self.sharing, shard_id=kwargs["shard_id"] // self.sharing)
        return super().get_batch_iterator(dataset, *args, **kwargs)

    def logged_once(self, logging_outputs: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """Divide logging outputs by the number of ranks that share a document, so that it is counted once."""
        if self.sharing == 1 or not dist.is_initialized():
            return logging_outputs
        return [{name: value / self.sharing for name, value in output.items()} for output in logging_outputs]
