"""The task ``long_document_summarization``: fairseq's ``translation`` for documents of any length."""

# No postponed annotations: fairseq reads the config's types.
import logging
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from fairseq.data import Dictionary, FairseqDataset
from fairseq.data.iterators import EpochBatchIterator
from fairseq.dataclass import ChoiceEnum
from fairseq.distributed.utils import get_data_parallel_world_size
from fairseq.optim import FairseqOptimizer
from fairseq.search import DiverseBeamSearch
from fairseq.tasks import register_task
from omegaconf import OmegaConf, open_dict
from torch import Tensor, nn

from ..errors import PyramidionError
from ..generation import check_lengths, one_line_about_lengths, set_cuda_graphs, set_plain_generation
from ..markers import Markers, markers_of
from ..models import PyramidionModel
from ..scoring.rouge import TOKENIZERS
from ..utils.bf16 import autocast_criterion
from . import diagnosis
from .data_folder import check_data
from .dataset import DocumentPairDataset
from .epochs import forget_other_seed, shuffle_epochwise
from .generation_options import refuse_generation, refuse_no_constraints
from .heartbeat import Heartbeat
from .rouge_validation import (
    RougeValidation,
    SampledDataset,
    generation_arguments,
    log_rouge,
    refuse_sharded_layers,
)
from .sequence_parallel import SequenceParallelConfig, SequenceParallelTask
from .training_meters import PeakMemory, PoolingMeters, log_training, source_tokens
from .truncation import TruncatedDataset, truncate

logger = logging.getLogger(__name__)


@dataclass
class LongDocumentSummarizationConfig(SequenceParallelConfig):
    """Options of ``translation``, with other defaults."""

    left_pad_source: bool = field(default=False, metadata={"help": "pad documents on the left"})
    max_source_positions: Optional[int] = field(
        default=None, metadata={"help": "truncate documents to this many tokens (default: the maximum of the model)"}
    )
    max_target_positions: Optional[int] = field(
        default=None, metadata={"help": "truncate summaries to this many tokens (default: the maximum of the model)"}
    )
    eval_rouge: bool = field(
        default=False,
        metadata={
            "help": "summarise documents in validation and log rouge1, rouge2, rougeL, rougeLsum (F1 x 100); to keep "
            "the best checkpoint: --best-checkpoint-metric rouge2 --maximize-best-checkpoint-metric"
        },
    )
    eval_rouge_samples: int = field(
        default=512,
        metadata={"help": "number of documents, always the same, evenly spaced in the split; 0: all documents"},
    )
    eval_rouge_args: Optional[str] = field(
        default="{}",
        metadata={
            "help": 'changes to the generation settings of the paper, as JSON: \'{"beam": 4, "max_len_b": 300}\' '
            "(the paper's: beam 2, lenpen 1, min_len 72, max_len_b 966)"
        },
    )
    eval_rouge_remove_bpe: str = field(
        default="auto",
        metadata={"help": "how pieces are joined to words, as --remove-bpe; auto: inferred from the dictionary"},
    )
    eval_rouge_tokenizer: ChoiceEnum(list(TOKENIZERS)) = field(
        default="rouge-score",
        metadata={
            "help": "rouge-score: words consist of a to z and 0 to 9; unicode: words of any script, and single "
            "characters of scripts without spaces (Chinese, Japanese, Thai, ...)"
        },
    )
    plain_generation: bool = field(
        default=False, metadata={"help": "generate with fairseq's own caches: the same tokens, slower"}
    )
    cuda_graphs: bool = field(
        default=False,
        metadata={"help": "on a GPU, capture the decoder's steps as CUDA graphs: same tokens (speed not measured)"},
    )
    autocast: ChoiceEnum(["none", "bf16", "auto"]) = field(
        default="none",
        metadata={
            "help": "precision of matrix products in training; weights remain float32; auto: bf16 if it is native"
        },
    )
    verbose: bool = field(
        default=False,
        metadata={"help": "log all messages of fairseq and others, the model and the configuration"},
    )


def _shortest(*lengths: Optional[int]) -> Optional[int]:
    """Return the smallest length that is not None; None if all are."""
    known = [length for length in lengths if length is not None]
    return min(known) if known else None


@register_task("long_document_summarization", dataclass=LongDocumentSummarizationConfig)
class LongDocumentSummarizationTask(SequenceParallelTask):
    """``translation`` for documents of any length and corpora of any size.

    Documents and summaries are truncated to the model's lengths, keeping ``</s>``, and the number of truncated ones is
    logged. Padding is on the right. Every document is summarised, while stock fairseq drops those that do not fill a
    batch. The order of batches depends only on seed and epoch, so that a resumed run equals an uninterrupted one.
    Lengths are taken from the model (in generation, from the checkpoint), and need not be given again.
    """

    def __init__(self, cfg: LongDocumentSummarizationConfig, src_dict: Dictionary, tgt_dict: Dictionary):
        super().__init__(cfg, src_dict, tgt_dict)
        # Read by FairseqTask.get_batch_iterator. Otherwise stock fairseq does not resume exactly.
        with open_dict(cfg) if OmegaConf.is_config(cfg) else nullcontext():
            cfg.rebuild_batches = True
        self.max_lengths = (cfg.max_source_positions, cfg.max_target_positions)
        #: Whether batches contain ``document_lengths``, which all models built so far must accept.
        self.with_document_lengths = True
        self.pooling_meters, self.peak_memory, self.heartbeat = PoolingMeters(), PeakMemory(), Heartbeat()
        self.rouge, self.rouge_generator = None, None
        if cfg.eval_rouge:
            tokenizer = str(getattr(cfg, "eval_rouge_tokenizer", "rouge-score"))  # older checkpoints lack it
            self.rouge = RougeValidation(tgt_dict, cfg.eval_rouge_remove_bpe, tokenizer, cfg.data)
            generation_arguments(cfg.eval_rouge_args, None)  # raises for invalid ones before the data is read
        #: Tokens added to documents and summaries, adopted from the model's options.
        self.markers = Markers()

    @classmethod
    def setup_task(cls, cfg: LongDocumentSummarizationConfig, **kwargs: Any) -> "LongDocumentSummarizationTask":
        """Set up the task as fairseq does, after checking the data folder.

        Raises:
            PyramidionError: the data folder does not exist, or has no dictionaries.
        """
        check_data(cfg.data, cfg.source_lang, cfg.target_lang)
        return super().setup_task(cfg, **kwargs)

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """Build a model and adopt its lengths, or the shortest of an ensemble.

        Raises:
            PyramidionError: ``--eval-rouge`` is given and the model's layers are sharded.
        """
        model = super().build_model(cfg, from_checkpoint)
        longest_source, longest_target = model.max_positions()
        self.max_lengths = (
            _shortest(self.max_lengths[0], longest_source),
            _shortest(self.max_lengths[1], longest_target),
        )
        self.with_document_lengths &= isinstance(model, PyramidionModel)
        self.markers = markers_of(getattr(model, "options", None), self.src_dict, self.markers)
        self.pooling_meters = PoolingMeters(model)
        if self.rouge:
            refuse_sharded_layers(model)
            if isinstance(model, PyramidionModel):
                model.decoder.need_attn = False  # as in fairseq-generate: it is not read, and slow
            arguments = generation_arguments(self.cfg.eval_rouge_args, self.max_lengths[1])
            self.rouge_generator = self.build_generator([model], arguments)
        return model

    def train_step(
        self,
        sample: Dict[str, Any],
        model: nn.Module,
        criterion: Callable[..., Any],
        optimizer: FairseqOptimizer,
        update_num: int,
        *args: Any,
        **kwargs: Any,
    ) -> Tuple[Tensor, int, Dict[str, Any]]:
        """Train on a batch as fairseq does, in the precision of ``--autocast``.

        The logging output also has tokens and statistics of the poolings. Errors name the documents of the batch.
        """
        self.heartbeat.beat(update_num)
        with self.pooling_meters.watch() as pooling, diagnosis.diagnosed(sample, update_num):
            loss, sample_size, logging_output = super().train_step(
                sample, model, self._autocast(criterion), optimizer, update_num, *args, **kwargs
            )
        logging_output.update(source_tokens(sample), **pooling)
        return loss, sample_size, logging_output

    def optimizer_step(self, optimizer: FairseqOptimizer, model: nn.Module, update_num: int) -> None:
        """Update the model as fairseq does, and log the peak memory."""
        super().optimizer_step(optimizer, model, update_num)
        self.peak_memory.log()

    def valid_step(
        self, sample: Dict[str, Any], model: nn.Module, criterion: Callable[..., Any]
    ) -> Tuple[Tensor, int, Dict[str, Any]]:
        """Validate as fairseq does, in the precision of ``--autocast``, and summarise for ``--eval-rouge``."""
        loss, sample_size, logging_output = super().valid_step(sample, model, self._autocast(criterion))
        if self.rouge:
            generate = partial(self.inference_step, self.rouge_generator, [model])
            logging_output.update(self.rouge.logged(generate, sample, self.markers.summary))
        return loss, sample_size, logging_output

    def reduce_metrics(self, logging_outputs: List[Dict[str, Any]], criterion: Callable[..., Any]) -> None:
        """Log metrics as fairseq does, and those of training and ROUGE."""
        logging_outputs = self.logged_once(logging_outputs)
        super().reduce_metrics(logging_outputs, criterion)
        log_training(logging_outputs)
        log_rouge(logging_outputs)

    def max_positions(self) -> Tuple[Optional[int], Optional[int]]:
        """Return the maximum tokens of (documents, summaries); None for no limit."""
        return self.max_lengths

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **kwargs: Any) -> None:
        """Load a split, with documents and summaries truncated to the model's lengths.

        Raises:
            PyramidionError: the split is missing in the data folder, or empty.
        """
        try:
            super().load_dataset(split, epoch=epoch, combine=combine, **kwargs)
            if not len(self.datasets[split]):
                raise FileNotFoundError("it is empty")
        except (FileNotFoundError, ValueError) as error:
            if isinstance(error, ValueError) and "mmap an empty file" not in str(error):
                raise
            raise PyramidionError(
                f"no documents in split {split!r} of {self.cfg.data}: prepare the data with "
                f"preprocess/prepare.py ({error})"
            ) from error
        stock = self.datasets[split]
        first, last = self.markers.document, self.markers.document_end
        src = TruncatedDataset(stock.src, self.max_lengths[0], self.src_dict.eos(), first, last)
        tgt = None
        if stock.tgt is not None:
            tgt = TruncatedDataset(stock.tgt, self.max_lengths[1], self.tgt_dict.eos(), self.markers.summary)
        for what, side in (("documents", src), ("summaries", tgt)):
            if side is not None:
                side.log_cut(f"{split}: ", what)
        rouge = self.rouge if tgt is not None and split != self.cfg.train_subset else None
        self.datasets[split] = (DocumentPairDataset if rouge is None else SampledDataset)(
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
            with_document_lengths=self.with_document_lengths,
        )
        if rouge is not None:
            rouge.find_byte_level()
            self.datasets[split].sample(self.cfg.eval_rouge_samples)
            logger.info(f"{split}: ROUGE on {len(self.datasets[split].sampled):,} of {len(src):,} documents")

    def _autocast(self, criterion: Callable[..., Any]) -> Callable[..., Any]:
        return autocast_criterion(criterion, getattr(self.cfg, "autocast", "none"))

    def build_dataset_for_inference(
        self, src_tokens: List[Tensor], src_lengths: List[int], constraints: Optional[Tensor] = None
    ) -> DocumentPairDataset:
        """Return documents for ``fairseq-interactive`` and the hub interface, truncated to the model's length.

        Args:
            src_tokens: (T_i,) ids of each document.
            src_lengths: lengths of the documents; not used.
            constraints: see fairseq's ``--constraints``.
        """
        added = (self.src_dict.eos(), self.markers.document, self.markers.document_end)
        src_tokens = [truncate(tokens, self.max_lengths[0], *added) for tokens in src_tokens]
        return DocumentPairDataset(
            src_tokens,
            [tokens.numel() for tokens in src_tokens],
            self.src_dict,
            tgt_dict=self.tgt_dict,
            left_pad_source=self.cfg.left_pad_source,
            constraints=constraints,
            with_document_lengths=self.with_document_lengths,
        )

    def get_batch_iterator(self, dataset: FairseqDataset, *args: Any, **kwargs: Any) -> EpochBatchIterator:
        """Return an iterator as fairseq does, but ignore ``--required-batch-size-multiple`` (default: 8).

        Stock fairseq silently drops the last batch, the longest documents, if its size is not a multiple.

        Raises:
            PyramidionError: there are fewer batches than ``--num-shards``, and none for this shard.
        """
        kwargs["required_batch_size_multiple"] = 1
        forget_other_seed(self.dataset_to_epoch_iter, dataset, kwargs.get("seed", 1))
        iterator = super().get_batch_iterator(dataset, *args, **kwargs)
        shuffle_epochwise(iterator)
        shards, shard = kwargs.get("num_shards", 1), kwargs.get("shard_id", 0)
        # A shard without batches would end in a ZeroDivisionError in fairseq-generate; in training it is allowed.
        if shards > get_data_parallel_world_size() and shard >= len(iterator.frozen_batches):
            raise PyramidionError(
                f"shard {shard} of {shards} has no documents, there are {len(iterator.frozen_batches)} batches: use "
                "fewer --num-shards, or smaller batches"
            )
        return iterator

    def inference_step(
        self,
        generator: Any,
        models: List[Any],
        sample: Dict[str, Any],
        prefix_tokens: Optional[Tensor] = None,
        constraints: Optional[Tensor] = None,
    ) -> List[List[Dict[str, Any]]]:
        """Generate as fairseq does, and refuse ``--constraints`` if no constraints are passed."""
        refuse_no_constraints(generator, constraints)
        if isinstance(getattr(generator, "search", None), DiverseBeamSearch):
            # It uses the documents' ids in the corpus as indices in the batch.
            count = sample["net_input"]["src_tokens"].size(0)
            sample = {**sample, "id": torch.arange(count, device=sample["net_input"]["src_tokens"].device)}
        if self.markers.summary is not None and prefix_tokens is None:
            documents = sample["net_input"]["src_tokens"]
            prefix_tokens = documents.new_full((documents.size(0), 1), self.markers.summary)
        with one_line_about_lengths():
            return super().inference_step(generator, models, sample, prefix_tokens, constraints)

    def build_generator(self, models: List[Any], args: Any, *rest: Any, **kwargs: Any) -> Any:
        """Build a generator as fairseq does.

        Raises:
            PyramidionError: an option is not supported, or options contradict each other.
        """
        refuse_generation(args)
        check_lengths(args, min((model.max_decoder_positions() for model in models), default=None))
        for model in models:  # older checkpoints lack these options
            if getattr(self.cfg, "plain_generation", False):
                set_plain_generation(model)
            if getattr(self.cfg, "cuda_graphs", False):
                set_cuda_graphs(model)
        generator = super().build_generator(models, args, *rest, **kwargs)
        if self.markers.summary is not None and hasattr(generator, "symbols_to_strip_from_output"):
            generator.symbols_to_strip_from_output.add(self.markers.summary)
        return generator
