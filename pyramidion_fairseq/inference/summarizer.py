"""``PyramidionModel.from_pretrained(...)``: summaries in Python, optionally with their sources."""

from __future__ import annotations

import copy
import logging
import threading
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence

import torch
from fairseq import utils
from fairseq.hub_utils import GeneratorHubInterface
from omegaconf import open_dict
from torch import Tensor

from ..apps.explain.attention import read_summaries, recorded_encodings
from ..apps.explain.explanation import explain_summary
from ..apps.explain.facts import describe
from ..apps.explain.record import ModelRecord, Provenance, read_records
from ..apps.explain.types import Explanation, ModelFacts
from ..errors import PyramidionError
from ..functional.padding import known_lengths
from ..generation import check_lengths, fit_lengths
from ..markers import Markers
from ..parallel import sequence_group
from ..parallel.group import TIMEOUT
from ..text import Document, TokenizedText, Tokenizer, Words, build_tokenizer, split_document, tidy
from ..utils.paper_settings import PAPER_GENERATION
from .batching import BUFFER, batches_by_length, run_or_halve, separate_short_documents
from .checks import DocumentChecks

logger = logging.getLogger(__name__)

#: Maximum number of words of a document in its explanation, unless the model reads more.
MOST_WORDS = 50_000

#: Generation options that need a reference summary.
_REFERENCE_OPTIONS = ("score_reference", "prefix_size")


class TokenizedDocument(NamedTuple):
    """A document that is ready to be summarised."""

    document: Document
    words: Words
    encoded: TokenizedText

    @property
    def length(self) -> int:
        """Number of tokens, including ``</s>``."""
        return len(self.encoded.tokens) + 1


@dataclass(frozen=True)
class Summary:
    """Summary of a document."""

    text: str
    score: float | None
    """Log probability (base e), divided by the length to the power of ``lenpen``; None for an empty document."""
    tokens: tuple[int, ...]
    """Ids in the target dictionary, without ``</s>``."""
    provenance: Provenance | None = None
    """Provenance of the summary, if requested."""

    def explain(self) -> Explanation:
        """Return the provenance in words and sentences.

        Raises:
            PyramidionError: the summary has no provenance.
        """
        if self.provenance is None:
            raise PyramidionError("this summary has no provenance: its document is empty, or none was asked for")
        return explain_summary(self.provenance, self.score)


class _GenerationLock:
    """Lock that lets one thread at a time generate, because models record what they read.

    Copies and pickles of a model get a lock of their own.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __reduce__(self) -> tuple[type[_GenerationLock], tuple[()]]:
        return _GenerationLock, ()


class PyramidionHubInterface(GeneratorHubInterface):
    """fairseq's hub interface, extended by :meth:`summarize`.

    Args:
        cfg: options of the (last) checkpoint.
        task: task with the dictionaries.
        models: models of the ensemble.
    """

    def __init__(self, cfg: Any, task: Any, models: Sequence[Any]):
        super().__init__(cfg, task, models)
        self._text_tokenizers: tuple[Tokenizer, Tokenizer] | None = None
        self._facts: ModelFacts | None = None
        self._generation_lock = _GenerationLock()
        #: Generation options that come with the model; those of a call take precedence.
        self.generation_settings: dict[str, Any] = {}

    def summarize(
        self,
        documents: str | Document | Iterable[str | Document],
        with_provenance: bool = False,
        *,
        batch_size: int = 8,
        max_tokens: int | None = None,
        progress: Callable[[int], None] | None = None,
        **generation: Any,
    ) -> list[Summary]:
        """Summarise documents of any length. Returns one summary per document, in order.

        Documents are cut to the model's length. The summary of an empty document is empty. Concurrent calls from
        several threads take turns after each batch.

        Args:
            documents: texts or :class:`~pyramidion_fairseq.text.Document`, or a single one of them.
            with_provenance: whether to record where each summary came from.
            batch_size: maximum number of documents per batch.
            max_tokens: maximum number of padded tokens per batch. A longer document is a batch of its own.
            progress: called after each batch with its number of documents.
            **generation: fairseq's generation options. The defaults are the model's own (``generation.json`` in the
                folder of the checkpoint), then the paper's: beam 2, lenpen 1, min_len 72, max_len_b 966. A default
                min_len is lowered to the maximum length, and for documents with fewer tokens.

        Raises:
            PyramidionError: an option is unknown, ``min_len`` exceeds the maximum length, there is no tokenizer, or
                memory is too small for a document.
        """
        options: dict[str, Any] = dict(batch_size=batch_size, max_tokens=max_tokens, progress=progress)
        return list(self.summarize_stream(documents, with_provenance, **options, **generation))

    def summarize_stream(
        self,
        documents: str | Document | Iterable[str | Document],
        with_provenance: bool = False,
        *,
        batch_size: int = 8,
        max_tokens: int | None = None,
        progress: Callable[[int], None] | None = None,
        buffer: int | None = None,
        **generation: Any,
    ) -> Iterator[Summary]:
        """Yield the results of :meth:`summarize` lazily.

        ``buffer`` documents (256) are read and summarised at a time.
        """
        buffer = BUFFER if buffer is None else buffer
        if batch_size < 1 or buffer < 1 or (max_tokens is not None and max_tokens < 1):
            raise PyramidionError(
                f"sizes must be at least 1, got batch_size {batch_size}, max_tokens {max_tokens} and buffer {buffer}"
            )
        generator = self._build_generator(generation)
        shortest = generator.min_len
        shortens = "min_len" not in generation  # for short documents
        is_logged = False
        checks = DocumentChecks(self.src_dict.unk())
        tokenizer, _ = self._tokenizers()
        if isinstance(documents, (str, bytes, Document, Mapping)):  # a single document, or an error in _read
            documents = [documents]  # type: ignore[list-item]  # _read refuses it
        documents = iter(documents)

        def generate(sources: list[TokenizedDocument]) -> list[Summary]:
            return self._generate(sources, generator, with_provenance)

        while True:
            sources = [self._read(document, tokenizer) for document in islice(documents, buffer)]
            if not sources:
                return
            summaries: dict[int, Summary] = {}
            lengths = [source.length for source in sources]
            batches = batches_by_length(lengths, batch_size, max_tokens)
            if shortens:
                batches = separate_short_documents(batches, lengths, shortest + 1)
            if shortens and not is_logged and min(lengths) <= shortest:
                is_logged = True
                logger.info(f"summaries of documents with fewer than {shortest} tokens may be as short as they are")
            for batch in batches:
                readable = [index for index in batch if sources[index].encoded.tokens]
                if shortens:  # the generator serves this call only
                    generator.min_len = max(1, min(shortest, lengths[batch[-1]] - 1))
                chosen = [sources[index] for index in readable]
                found = run_or_halve(generate, chosen, lambda source: source.length, self.device)
                summaries.update(zip(readable, found))
                if progress is not None:
                    progress(len(batch))
            for index, source in enumerate(sources):
                summary = summaries.get(index, Summary("", None, ()))
                checks.check(source.document, source.encoded.tokens, summary.text)
                yield summary

    def spread_documents(self, size: int, timeout: float = TIMEOUT) -> None:
        """Let ``size`` processes share every document from now on. Each encodes a part; all write the same summary.

        Call this method, and later :meth:`summarize` with the same documents, in all processes of a torch.distributed
        world.

        Args:
            size: P, number of consecutive ranks that share a document.
            timeout: time in seconds that a process waits for the others.

        Raises:
            PyramidionError: P does not divide the number of processes, or a model's attention is not local.
        """
        for model in self.models:
            model.encoder.check_sequence_parallel(size)
        group = sequence_group(size, timeout)
        for model in self.models:
            model.encoder.spread_documents(group)

    def explain(self, documents: str | Document | Iterable[str | Document], **options: Any) -> list[Explanation]:
        """Summarise documents and explain where each word came from; same options as :meth:`summarize`.

        Raises:
            PyramidionError: a document is empty.
        """
        return [summary.explain() for summary in self.summarize(documents, with_provenance=True, **options)]

    @property
    def max_source_length(self) -> int:
        """Number of tokens of a document that the models read, including ``</s>``; the rest is cut off."""
        return self.max_positions[0]

    @property
    def _markers(self) -> Markers:
        """Markers of documents and summaries; none for tasks that are not from this package."""
        return getattr(self.task, "markers", Markers())

    @property
    def _after_document(self) -> list[int]:
        """Ids that follow the ``</s>`` of documents."""
        return [] if self._markers.document_end is None else [self._markers.document_end]

    def _read(self, document: str | Document, tokenizer: Tokenizer) -> TokenizedDocument:
        if isinstance(document, str):
            document = Document.from_text(document)
        if not isinstance(document, Document):
            raise PyramidionError(f"a document is a text, not {type(document).__name__}")
        bos = self._markers.document
        limit = self.max_source_length - 1 - (bos is not None) - len(self._after_document)  # and </s>
        words = split_document(document, max(MOST_WORDS, limit))
        tokens = tokenizer.encode(words.document.words, words.document.space_after, limit)
        if bos is not None and tokens.tokens:  # <s> counts as part of the first word
            tokens = replace(tokens, tokens=(bos, *tokens.tokens), token_words=(0, *tokens.token_words))
        return TokenizedDocument(document, words, tokens)

    def _tokenizers(self) -> tuple[Tokenizer, Tokenizer]:
        """Return the tokenizers of documents and of summaries."""
        if self._text_tokenizers is None:
            if self.tokenizer is not None:
                raise PyramidionError("summaries take sentencepiece models or no bpe at all, and no --tokenizer")
            self._text_tokenizers = build_tokenizer(self.src_dict, self.bpe), build_tokenizer(self.tgt_dict, self.bpe)
        return self._text_tokenizers

    def _build_generator(self, generation: dict[str, Any]) -> Any:
        options = copy.deepcopy(self.cfg.generation)
        unknown = sorted(set(generation) - set(options))
        if unknown:
            raise PyramidionError(f"no such option of generation: {', '.join(unknown)}")
        asked = [name for name in _REFERENCE_OPTIONS if generation.get(name)]
        if asked:
            raise PyramidionError(f"{asked[0]} reads a reference: fairseq-generate has one, a document here has none")
        chosen = {**PAPER_GENERATION, **self.generation_settings, **generation}
        fit_lengths(chosen, generation, self.max_positions[1])
        with open_dict(options):
            options.update(chosen)
        check_lengths(options, self.max_positions[1])
        return self.task.build_generator(self.models, options)

    @torch.no_grad()
    def _generate(self, sources: list[TokenizedDocument], generator: Any, with_provenance: bool) -> list[Summary]:
        eos, pad = self.tgt_dict.eos(), self.tgt_dict.pad()
        end = (self.src_dict.eos(), *self._after_document)
        rows = [torch.tensor([*source.encoded.tokens, *end]) for source in sources]
        batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.src_dict.pad())
        lengths = torch.tensor([len(row) for row in rows])
        net_input: dict[str, Any] = {"src_tokens": batch, "src_lengths": lengths}
        known = known_lengths(batch, lengths, self.src_dict.pad())
        if known is not None and getattr(self.task, "with_document_lengths", False):  # as in training
            net_input["document_lengths"] = known
        sample = {"id": torch.arange(len(rows)), "net_input": net_input}
        sample = utils.apply_to_sample(lambda tensor: tensor.to(self.device), sample)
        with self._generation_lock.lock, recorded_encodings(self.models if with_provenance else []) as encodings:
            best = [hypotheses[0] for hypotheses in self.task.inference_step(generator, self.models, sample)]
            records: list[Any] = [None] * len(best)
            if with_provenance:
                outputs = [hypothesis["tokens"] for hypothesis in best]
                steps = [len(output) for output in outputs]
                padded = torch.nn.utils.rnn.pad_sequence(outputs, batch_first=True, padding_value=pad)
                pairs = zip(self.models, encodings)
                records = list(zip(*(self._records(*pair, padded, steps) for pair in pairs)))
        return [self._make_summary(*parts, eos) for parts in zip(sources, best, records)]

    def _records(self, model: Any, encoder_out: dict[str, Any], tokens: Tensor, steps: list[int]) -> list[ModelRecord]:
        if not hasattr(model.encoder, "poolings"):
            raise PyramidionError(f"{type(model).__name__} is no PyramidionModel and has no record of what it read")
        attention, copies = read_summaries(model.decoder, tokens, encoder_out, self.tgt_dict.eos())
        return read_records(model.encoder, encoder_out, attention, steps, copies)

    def _make_summary(
        self, source: TokenizedDocument, hypothesis: dict[str, Any], records: tuple[ModelRecord, ...] | None, eos: int
    ) -> Summary:
        document, words, tokens = source
        ids = [token for token in hypothesis["tokens"].tolist() if token != eos]
        decoded = self._tokenizers()[1].decode(ids, self._markers.summary)
        provenance = None
        if records is not None:
            if self._facts is None:
                self._facts = describe(list(self.models), str(getattr(self.cfg.model, "_name", "pyramidion")))
            title = " ".join(tidy(document.title or "").split()) or None
            reference = " ".join(tidy(document.reference or "").split()) or None
            provenance = Provenance(
                words.document, words.left_out, title, tokens, decoded, records, self._facts, reference
            )
        return Summary(decoded.text, float(hypothesis["score"]), tuple(ids), provenance)
