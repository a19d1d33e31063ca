"""The data of an explanation, as plain frozen dataclasses for pages, plots and JSON files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Iterable, Mapping

from ...text import DocumentWords, Section


@dataclass(frozen=True)
class Length:
    """The number of vectors at a stage of the model."""

    name: str
    tokens: int


@dataclass(frozen=True)
class Stage:
    """The weight of each word of the document at a stage of the model."""

    name: str
    kind: str
    """"pooling", "decoder" or "used"."""
    weights: tuple[float, ...]
    """One weight per word, from 0 to 1.

    pooling: the mean over the word's tokens of their weights in their vectors. decoder: the same for the vectors that
    the decoder reads. used: the cross-attention of the summary's tokens to the word through these vectors, divided by
    its maximum in the document.
    """


@dataclass(frozen=True)
class SummaryWords:
    """The words of the summary with their sources."""

    words: tuple[str, ...]
    space_after: tuple[bool, ...]
    score: float | None
    """Log probability (base e) per token, after fairseq's length penalty."""
    sources: tuple[tuple[tuple[int, float], ...], ...]
    """For each word of the summary (word of the document, weight), the largest first; weights sum to at most 1."""
    copied: tuple[float, ...] = ()
    """For each word the probability that it was copied from the document, not written from the vocabulary, as a mean
    over its tokens. Empty if the model has no pointer."""
    places: tuple[tuple[tuple[int, float], ...], ...] = ()
    """For each word (word of the document that it was copied from, weight), the largest first; weights sum to at most
    ``copied``. Empty if the model has no pointer."""
    unsupported: tuple[str, ...] = ()
    """For each word "" if the document contains it, otherwise "number", "capitalised" or "word"; see
    :func:`~pyramidion_fairseq.apps.explain.unsupported.mark_unsupported`. Empty in files of older versions."""


@dataclass(frozen=True)
class RankedSentence:
    """A sentence of the document and its share in what the summary used or copied."""

    sentence: int
    """Index into ``DocumentWords.sentences``."""
    weight: float
    """The share; those of all sentences sum to 1."""


@dataclass(frozen=True)
class ModelFacts:
    """The model's parts and the limits of its record."""

    name: str
    pooler: str
    scorer: str
    exact: bool
    """Whether the vectors that the decoder reads are exactly the recorded combinations."""
    note: str
    """The limits of the record, as text."""
    points: bool = False
    """Whether the model can copy words of the document into the summary (``--pointer``)."""


@dataclass(frozen=True)
class Explanation:
    """A document, its summary, and the weights of the document's words at each stage of the model."""

    title: str | None
    document: DocumentWords
    lengths: tuple[Length, ...]
    stages: tuple[Stage, ...]
    summary: SummaryWords
    ranking: tuple[RankedSentence, ...]
    """Sentences by how much the summary used of them, the largest first. Copied shares count for the sentences that
    they were copied from."""
    model: ModelFacts
    truncated: int = 0
    """Number of words at the document's end that the model did not read."""
    reference: str | None = None
    """The reference summary, if the input has one."""

    def to_dict(self) -> dict[str, Any]:
        """Convert the explanation to dicts, lists, strings and numbers, for ``json.dump``."""
        return _as_lists(asdict(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Explanation:
        """Create an explanation from the result of :meth:`to_dict`, also after a round trip through JSON.

        Raises:
            KeyError, TypeError, ValueError: an entry is missing or invalid.
        """
        document, summary = dict(data["document"]), dict(data["summary"])
        sections = tuple(Section(**section) for section in document.pop("sections"))
        sources = _as_pairs(summary.pop("sources"))
        places = _as_pairs(summary.pop("places", ()))  # missing in older files
        return cls(
            title=data["title"],
            document=DocumentWords(**_as_tuples(document), sections=sections),
            lengths=tuple(Length(**length) for length in data["lengths"]),
            stages=tuple(Stage(**_as_tuples(stage)) for stage in data["stages"]),
            summary=SummaryWords(**_as_tuples(summary), sources=sources, places=places),
            ranking=tuple(RankedSentence(**rank) for rank in data["ranking"]),
            model=ModelFacts(**data["model"]),
            truncated=data["truncated"],
            reference=data.get("reference"),  # missing in older files
        )


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_lists(item) for key, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def _as_pairs(rows: Iterable[Iterable[Iterable[float]]]) -> tuple[tuple[tuple[int, float], ...], ...]:
    return tuple(tuple((int(word), float(weight)) for word, weight in row) for row in rows)


def _as_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_tuples(item) for key, item in value.items()}
    return tuple(_as_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value
