"""ROUGE in validation (``--eval-rouge``): selection of documents, generation and logging."""

from __future__ import annotations

import json
import logging
import os
from argparse import Namespace
from dataclasses import fields
from typing import Any, Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from fairseq import utils
from fairseq.data import Dictionary
from fairseq.data.encoders.gpt2_bpe import GPT2BPE, GPT2BPEConfig
from fairseq.dataclass.configs import GenerationConfig
from fairseq.distributed import fully_sharded_data_parallel
from fairseq.logging import metrics
from torch import nn

from ..errors import PyramidionError
from ..generation import fit_lengths
from ..scoring.rouge import METRICS, STATISTICS, RougeSettings, document_scores
from ..scoring.unicode_words import warn_of_lost_letters, warn_of_no_words
from ..text.byte_level import BYTE_LEVEL, byte_level_in, is_byte_level
from ..text.pieces import are_sentencepiece
from ..utils.paper_settings import PAPER_GENERATION
from .dataset import DocumentPairDataset

logger = logging.getLogger(__name__)

#: Seed of sampling in validation, so that validations are comparable and training is not affected.
SEED = 1
#: Key in a batch: whether its documents are summarised.
SUMMARISED = "summarised"
_COUNT = "_rouge_documents"


def generation_arguments(text: str | None, max_length: int | None) -> Namespace:
    """Return the paper's arguments of generation, updated by ``--eval-rouge-args``.

    Args:
        text: a JSON object of options of fairseq-generate, such as ``{"beam": 4, "max_len_b": 300}``.
        max_length: maximum tokens of the model's summaries; it also limits the paper's minimum length.

    Raises:
        PyramidionError: the text is not a JSON object, or has unknown options.
    """
    try:
        given = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise PyramidionError(f"--eval-rouge-args is not JSON ({error}): use e.g. '{{\"beam\": 4}}'") from None
    if not isinstance(given, dict):
        raise PyramidionError(f"--eval-rouge-args must be a JSON object, such as '{{\"beam\": 4}}', got {text}")
    known = {field.name for field in fields(GenerationConfig) if field.name != "_name"}
    unknown = sorted(set(given) - known)
    if unknown:
        raise PyramidionError(f"--eval-rouge-args: unknown options {', '.join(unknown)}; known: {sorted(known)}")
    chosen = {**PAPER_GENERATION, **given}
    fit_lengths(chosen, given, max_length)
    return Namespace(**chosen)


def refuse_sharded_layers(model: nn.Module) -> None:
    """Raise PyramidionError if ``--ddp-backend fully_sharded`` has wrapped layers of the model.

    Every step of generation would gather their weights from all processes. Since processes generate different numbers
    of steps, they would wait for each other forever.
    """
    if fully_sharded_data_parallel.has_FSDP and any(
        isinstance(module, fully_sharded_data_parallel.FullyShardedDataParallel) for module in model.modules()
    ):
        raise PyramidionError(
            "--eval-rouge cannot generate with layers that --ddp-backend fully_sharded shards over processes: omit "
            "it, or give a --min-params-to-wrap that no layer reaches (the default wraps none of the paper's)"
        )


def spread(count: int, samples: int) -> np.ndarray:
    """Return the indices of ``samples`` of ``count`` documents, evenly spaced; 0 samples: all indices."""
    if samples <= 0 or samples >= count:
        return np.arange(count)
    return ((np.arange(samples) + 0.5) * count / samples).astype(np.int64)


def subword_marks(dictionary: Dictionary) -> str | None:
    """Return the value of ``--remove-bpe`` that joins the dictionary's pieces to words; None if they are words."""
    if are_sentencepiece(dictionary.symbols):
        return "sentencepiece"
    return "subword_nmt" if any(symbol.endswith("@@") for symbol in dictionary.symbols) else None


class SampledDataset(DocumentPairDataset):
    """Dataset that puts the documents that are summarised in validation in separate batches, so that these are full.

    The selection depends only on the corpus, not on the batches or the number of processes.
    """

    sampled: frozenset[int] = frozenset()

    def sample(self, samples: int) -> None:
        """Select the documents with :func:`spread`."""
        self.sampled = frozenset(spread(len(self), samples).tolist())

    def collater(self, samples: list[dict[str, Any]], pad_to_length: dict[str, int] | None = None) -> dict[str, Any]:
        """Collate samples as fairseq does, and add :data:`SUMMARISED`."""
        batch = super().collater(samples, pad_to_length)
        if batch:
            batch[SUMMARISED] = int(batch["id"][0]) in self.sampled
        return batch

    def batch_by_size(self, indices: np.ndarray, **limits: Any) -> list[Any]:
        """Make batches as fairseq does, first of the documents that are summarised, then of the others."""
        chosen = np.isin(indices, list(self.sampled))
        parts = [indices[chosen], indices[~chosen]]
        batches = (super(SampledDataset, self).batch_by_size(part, **limits) for part in parts if len(part))
        return [batch for part in batches for batch in part]


class RougeValidation:
    """Summarises and scores batches of validation documents.

    Args:
        dictionary: dictionary of the summaries.
        remove_bpe: how pieces are joined, as ``--remove-bpe``; "auto": see :func:`subword_marks`. Tokens of a
            byte-level BPE are decoded.
        tokenizer: tokenizer of ROUGE, as in :class:`~pyramidion_fairseq.scoring.RougeSettings`.
        data: data folder, which has the files of a byte-level BPE.
    """

    def __init__(
        self, dictionary: Dictionary, remove_bpe: str = "auto", tokenizer: str = "rouge-score", data: str = ""
    ):
        self.dictionary, self.data = dictionary, data
        self._byte_level: Any = None
        self.remove_bpe = subword_marks(dictionary) if remove_bpe == "auto" else remove_bpe
        self.settings = RougeSettings(tokenizer=tokenizer)
        self._warned = self.settings.any_script
        self.settings.signature(0)  # fails now, not after the first epoch, if the package for ROUGE is missing

    def find_byte_level(self) -> None:
        """Find the files of the byte-level BPE in the data folder, if the dictionary has its tokens.

        Raises:
            PyramidionError: they are missing.
        """
        if self.remove_bpe is not None or not is_byte_level(self.dictionary):
            return
        folders = [self.data, os.path.dirname(os.path.abspath(self.data))]
        found = next(byte_level_in(folders), None)
        if found is None:
            raise PyramidionError(
                f"--eval-rouge: the dictionary has the numbers of GPT-2's tokens, but no "
                f"{' with '.join(BYTE_LEVEL)} is in {self.data}: copy both there"
            )
        self._byte_level = GPT2BPE(GPT2BPEConfig(gpt2_encoder_json=found[0], gpt2_vocab_bpe=found[1])).bpe

    def text(self, tokens: torch.Tensor, unknown: str, marker: int | None = None) -> str:
        """Return the text of (t,) ids, without padding, ``</s>``, and the symbol of the summary's language."""
        tokens = utils.strip_pad(tokens, self.dictionary.pad()).int().cpu()
        ignored = [] if marker is None else [marker]
        text = self.dictionary.string(tokens, self.remove_bpe, extra_symbols_to_ignore=ignored, unk_string=unknown)
        if self._byte_level is None:
            return text
        return self._byte_level.decode([int(piece) if piece.isdigit() else piece for piece in text.split()])

    def logged(
        self,
        generate: Callable[[Mapping[str, Any]], list[Any]],
        sample: Mapping[str, Any],
        marker: int | None = None,
    ) -> dict[str, float]:
        """Return entries of a batch's logging output: sums of F1 x 100, and the number of documents.

        The entries are zeros for batches that are not summarised, because fairseq sums the logging outputs of several
        processes by position, not by name.

        Args:
            generate: returns fairseq's list of hypotheses for each document of a batch.
            sample: a batch, with targets.
            marker: id of the symbol with which all summaries start, which is not scored, or None.
        """
        if not sample.get(SUMMARISED) or sample.get("target") is None:
            return {_COUNT: 0, **{_sum(metric): 0.0 for metric in METRICS}}
        with utils.set_torch_seed(SEED):
            outputs = generate(sample)
        # Unknown words must not match, so they get different names.
        hypotheses = [self.text(best[0]["tokens"], "<unk>", marker) if best else "" for best in outputs]
        references = [self.text(target, "unknownwordofreference", marker) for target in sample["target"]]
        if not self._warned:  # the references of the first batch represent the corpus
            self._warned = True
            warn_of_no_words(references)
            warn_of_lost_letters(references, self.settings.tokenizer)
        scores = document_scores(references, hypotheses, self.settings)[:, :, STATISTICS.index("fmeasure")]
        sums = {_sum(metric): float(total) for metric, total in zip(METRICS, scores.sum(axis=0))}
        return {_COUNT: len(references), **sums}


def log_rouge(logging_outputs: Sequence[Mapping[str, Any]]) -> None:
    """Log ``rouge1``, ``rouge2``, ``rougeL`` and ``rougeLsum``: mean F1 x 100 over the documents so far."""
    documents = _total(logging_outputs, _COUNT)
    if documents:
        for metric in METRICS:
            mean = _total(logging_outputs, _sum(metric)) / documents
            metrics.log_scalar(metric, mean, weight=documents, priority=30, round=3)


def _sum(metric: str) -> str:
    return f"_{metric}_sum"


def _total(logging_outputs: Iterable[Mapping[str, Any]], key: str) -> float:
    return float(sum(float(log.get(key, 0)) for log in logging_outputs))
