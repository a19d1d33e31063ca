"""The task ``long_document_summarization``: fairseq's ``translation``, made not to lose or refuse documents."""

# No postponed annotations: fairseq reads the config's types.
import logging
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Callable, List, Optional

import torch
from fairseq.dataclass import ChoiceEnum
from fairseq.tasks import register_task
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from omegaconf import OmegaConf, open_dict
from torch import Tensor

from ..errors import PyramidionError
from ..models import PyramidionModel
from .dataset import DocumentPairDataset
from .truncation import TruncatedDataset, truncate

logger = logging.getLogger(__name__)


@dataclass
class LongDocumentSummarizationConfig(TranslationConfig):
    """Options of ``translation``, with other defaults."""

    left_pad_source: bool = field(default=False, metadata={"help": "pad documents on the left"})
    max_source_positions: Optional[int] = field(
        default=None, metadata={"help": "cut documents to this many tokens (default: what the model reads)"}
    )
    max_target_positions: Optional[int] = field(
        default=None, metadata={"help": "cut summaries to this many tokens (default: what the model writes)"}
    )
    autocast: ChoiceEnum(["none", "bf16"]) = field(
        default="none",
        metadata={"help": "precision of matrix products in training; weights and their updates stay in float32"},
    )


def _shortest(*lengths: Optional[int]) -> Optional[int]:
    """The smallest of the lengths that are known; None where none is."""
    known = [length for length in lengths if length is not None]
    return min(known) if known else None


@register_task("long_document_summarization", dataclass=LongDocumentSummarizationConfig)
class LongDocumentSummarizationTask(TranslationTask):
    """``translation`` for documents of any length and corpora of any size.

    Documents and summaries are cut to the model's lengths, keeping ``</s>``, and the task says how many were; padding
    is on the right. There are as many summaries as documents: stock fairseq drops those that do not fill a batch.
    The order of batches is drawn anew from seed and epoch, so that a resumed run equals one that was never stopped.
    Lengths come from the model (in generation: from the checkpoint), so that they need not be given again.
    """

    def __init__(self, cfg: LongDocumentSummarizationConfig, src_dict, tgt_dict):
        super().__init__(cfg, src_dict, tgt_dict)
        # FairseqTask.get_batch_iterator reads this; without it, stock fairseq resumes inexactly.
        with open_dict(cfg) if OmegaConf.is_config(cfg) else nullcontext():
            cfg.rebuild_batches = True
        self.max_lengths = (cfg.max_source_positions, cfg.max_target_positions)
        #: Every model built so far takes the documents' lengths from the host.
        self.models_take_lengths = True

    def build_model(self, cfg, from_checkpoint: bool = False):
        """Build a model and adopt its lengths; of several models (an ensemble), the shortest."""
        model = super().build_model(cfg, from_checkpoint)
        self.max_lengths = tuple(_shortest(ours, its) for ours, its in zip(self.max_lengths, model.max_positions()))
        self.models_take_lengths &= isinstance(model, PyramidionModel)
        return model

    def max_positions(self):
        """(documents, summaries) in tokens, None where there is no limit."""
        return self.max_lengths

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **kwargs) -> None:
        """Load a split, every document and summary cut to the model's lengths.

        Raises:
            PyramidionError: the split is not in the data folder, or empty.
        """
        try:
            super().load_dataset(split, epoch=epoch, combine=combine, **kwargs)
        except (FileNotFoundError, ValueError) as error:
            if isinstance(error, ValueError) and "mmap an empty file" not in str(error):
                raise
            raise PyramidionError(
                f"no documents in split {split!r} of {self.cfg.data}: prepare the data with "
                f"preprocess/prepare.py ({error})"
            ) from error
        stock = self.datasets[split]
        src = TruncatedDataset(stock.src, self.max_lengths[0], self.src_dict.eos())
        tgt = None
        if stock.tgt is not None:
            tgt = TruncatedDataset(stock.tgt, self.max_lengths[1], self.tgt_dict.eos())
        for what, side in (("documents", src), ("summaries", tgt)):
            if side is not None:
                logger.info(
                    f"{split}: {side.num_cut:,} of {len(side):,} {what} cut to {side.max_length} tokens "
                    f"({side.num_cut / len(side):.1%})"
                )
        self.datasets[split] = DocumentPairDataset(
            src,
            src.sizes,
            self.src_dict,
            tgt,
            None if tgt is None else tgt.sizes,
            self.tgt_dict,
            left_pad_source=self.cfg.left_pad_source,
            left_pad_target=self.cfg.left_pad_target,
            align_dataset=stock.align_dataset,
            num_buckets=self.cfg.num_batch_buckets,
            shuffle=stock.shuffle,
            pad_to_multiple=stock.pad_to_multiple,
            tells_lengths=self.models_take_lengths,
        )

    def train_step(self, sample, model, criterion, optimizer, update_num: int, ignore_grad: bool = False):
        """As of fairseq, with the forward pass in the precision of ``--autocast``."""
        return super().train_step(sample, model, self._autocast(criterion), optimizer, update_num, ignore_grad)

    def valid_step(self, sample, model, criterion):
        """As of fairseq, with the forward pass in the precision of ``--autocast``."""
        return super().valid_step(sample, model, self._autocast(criterion))

    def _autocast(self, criterion: Callable) -> Callable:
        if getattr(self.cfg, "autocast", "none") == "none":
            return criterion

        def compute(model, sample, *args, **kwargs):
            # Inside fairseq's own torch.cuda.amp.autocast, which would switch it off from the inside.
            with torch.autocast(sample["net_input"]["src_tokens"].device.type, torch.bfloat16):
                return criterion(model, sample, *args, **kwargs)

        return compute

    def build_dataset_for_inference(
        self, src_tokens: List[Tensor], src_lengths: List[int], constraints: Optional[Tensor] = None
    ) -> DocumentPairDataset:
        """Documents for ``fairseq-interactive`` and the hub interface, cut to the model's length.

        Args:
            src_tokens: (T_i,) ids of each document.
            src_lengths: their lengths.
            constraints: see fairseq's ``--constraints``.
        """
        src_tokens = [truncate(tokens, self.max_lengths[0], self.src_dict.eos()) for tokens in src_tokens]
        return DocumentPairDataset(
            src_tokens,
            [tokens.numel() for tokens in src_tokens],
            self.src_dict,
            tgt_dict=self.tgt_dict,
            left_pad_source=self.cfg.left_pad_source,
            constraints=constraints,
            tells_lengths=self.models_take_lengths,
        )

    def get_batch_iterator(self, dataset, *args, **kwargs):
        """As of fairseq, with every batch kept whatever ``--required-batch-size-multiple`` says (its default is 8).

        Stock fairseq drops a last batch whose size is no multiple, the longest documents, without a word.
        """
        kwargs["required_batch_size_multiple"] = 1
        return super().get_batch_iterator(dataset, *args, **kwargs)

    def build_generator(self, models, args, *rest, **kwargs):
        """As of fairseq.

        Raises:
            PyramidionError: alignments to the document's tokens are asked for.
        """
        if getattr(args, "print_alignment", None):
            raise PyramidionError(
                "--print-alignment: the decoder attends to pooled vectors, which are no tokens of the document"
            )
        return super().build_generator(models, args, *rest, **kwargs)
