"""What an explanation of a summary is: plain, frozen data that a page, a plot or a JSON file shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Iterable, Mapping

from ...text import DocumentWords, Section


@dataclass(frozen=True)
class Length:
    """How many vectors there are at a stage of the model."""

    name: str
    tokens: int


@dataclass(frozen=True)
class Stage:
    """How much of each word of the document there is at a stage of the model."""

    name: str
    kind: str
    """"pooling", "decoder" or "used"."""
    weights: tuple[float, ...]
    """One per word, 0 to 1.

    pooling: the mean, over the word's tokens, of the token's weight in the vector it went to. decoder: the same, in
    the vectors that the decoder reads. used: the cross-attention that the summary's tokens paid to the word through
    these vectors, over its largest value in the document.
    """


@dataclass(frozen=True)
class SummaryWords:
    """The summary in words, and where each of them came from."""

    words: tuple[str, ...]
    space_after: tuple[bool, ...]
    score: float | None
    """Mean log probability (base e) of its tokens, as fairseq's length penalty leaves it."""
    sources: tuple[tuple[tuple[int, float], ...], ...]
    """Per word of the summary (word of the document, weight), the largest first; weights sum to at most 1."""
    copied: tuple[float, ...] = ()
    """Per word the probability that it was copied from the document, not written from the vocabulary: the mean over
    its tokens. Empty where the model has no pointer."""
    places: tuple[tuple[tuple[int, float], ...], ...] = ()
    """Per word (word of the document that it was copied from, weight), the largest first; weights sum to at most
    ``copied``. Empty where the model has no pointer."""
    unsupported: tuple[str, ...] = ()
    """Per word "number", "capitalised" or "word" where the document does not contain it, "" where it does; see
    :func:`~pyramidion_fairseq.apps.explain.unsupported.mark_unsupported`. Empty in files from before they were
    compared."""


@dataclass(frozen=True)
class RankedSentence:
    """A sentence of the document and its share of what the summary used or copied."""

    sentence: int
    """Index into ``DocumentWords.sentences``."""
    weight: float
    """Shares of all sentences sum to 1."""


@dataclass(frozen=True)
class ModelFacts:
    """Which model this was, and how far its record can be trusted."""

    name: str
    pooler: str
    scorer: str
    exact: bool
    """Whether the vectors that the decoder reads are exactly the recorded combinations."""
    note: str
    """What can be said, and what cannot, where the record is not exact."""
    points: bool = False
    """Whether it can copy words of the document into the summary (``--pointer``)."""


@dataclass(frozen=True)
class Explanation:
    """A document, its summary, and what of the document is left at each stage of the model."""

    title: str | None
    document: DocumentWords
    lengths: tuple[Length, ...]
    stages: tuple[Stage, ...]
    summary: SummaryWords
    ranking: tuple[RankedSentence, ...]
    """Sentences by what the summary took of them, the largest first: what was copied counts where it was copied from,
    the rest by what the summary used."""
    model: ModelFacts
    truncated: int = 0
    """Words at the document's end that the model does not read."""
    reference: str | None = None
    """A summary of the document by somebody else, where the input has one."""

    def to_dict(self) -> dict[str, Any]:
        """Return the same as dicts, lists, strings and numbers, ready for ``json.dump``."""
        return _as_lists(asdict(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Explanation:
        """Return the inverse of :meth:`to_dict`, also of what JSON made of it.

        Raises:
            KeyError, TypeError, ValueError: something is missing, or a part has another form.
        """
        document, summary = dict(data["document"]), dict(data["summary"])
        sections = tuple(Section(**section) for section in document.pop("sections"))
        sources = _as_pairs(summary.pop("sources"))
        places = _as_pairs(summary.pop("places", ()))  # which older files lack
        return cls(
            title=data["title"],
            document=DocumentWords(**_as_tuples(document), sections=sections),
            lengths=tuple(Length(**length) for length in data["lengths"]),
            stages=tuple(Stage(**_as_tuples(stage)) for stage in data["stages"]),
            summary=SummaryWords(**_as_tuples(summary), sources=sources, places=places),
            ranking=tuple(RankedSentence(**rank) for rank in data["ranking"]),
            model=ModelFacts(**data["model"]),
            truncated=data["truncated"],
            reference=data.get("reference"),  # which older files lack
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
