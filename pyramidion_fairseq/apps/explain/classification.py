"""Explain a classifier's prediction on a page: its labels, and the words that the poolings kept."""

from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor

from ...functional import TokenRecord
from .explanation import rank_sentences, word_weights
from .types import Explanation, Length, ModelFacts, RankedSentence, Stage, SummaryWords

#: Maximum number of labels on the page.
LISTED = 20


def explain_prediction(prediction: Any, title: str | None, model: Any) -> Explanation:
    """Return the content of the page: labels with probabilities instead of a summary, without sources.

    Args:
        prediction: a :class:`~pyramidion_fairseq.apps.classify.classifier.Prediction` with the kept tokens.
        title: title of the document.
        model: an LSGRobertaModel.
    """
    document, words = prediction.encoded.words, len(prediction.encoded.words.words)
    token_words = torch.tensor(prediction.encoded.token_words)
    stages, weights = [], torch.zeros(words)
    for kept in prediction.kept_tokens:
        weights = _word_weights(kept, token_words, words)
        stages.append(Stage(kept.stage, "pooling", tuple(float(f"{weight:.6g}") for weight in weights.tolist())))
    lengths = [Length("document", prediction.tokens)]
    lengths += [Length(kept.stage, kept.vectors) for kept in prediction.kept_tokens]
    ranking = rank_sentences(document.sentences, weights) if stages else []
    said, truncated = _said(prediction), words - (int(token_words.max()) + 1)
    return Explanation(
        title=title,
        document=document,
        lengths=tuple(lengths),
        stages=tuple(stages) or (Stage("read by the model", "pooling", _read(token_words, words)),),
        summary=SummaryWords(tuple(said), (True,) * len(said), None, ((),) * len(said)),
        ranking=tuple(RankedSentence(number, share) for number, share in ranking if share > 0),
        model=_facts(model, _not_shown(prediction.encoded.unread, truncated)),
        truncated=truncated,
    )


def _word_weights(kept_tokens: Any, token_words: Tensor, words: int) -> Tensor:
    return word_weights(TokenRecord(kept_tokens.slots, kept_tokens.weights), token_words, words)


def _read(token_words: Tensor, words: int) -> tuple[float, ...]:
    read = set(token_words.tolist())
    return tuple(float(word in read) for word in range(words))


def _said(prediction: Any) -> list[str]:
    if prediction.value is not None:
        return [f"{prediction.value:.6g}"]
    return [part for label, share in prediction.probabilities[:LISTED] for part in (f"{label}:", f"{share:.1%};")]


def _not_shown(unread: Sequence[int], truncated: int) -> str:
    """Return a note on unread words that are not among the ``truncated`` words listed at the page's end."""
    if sum(unread) == truncated:
        return ""
    if len(unread) == 1:
        return f"The last {unread[0] - truncated:,} words of the document are not listed. "
    return (
        f"The model did not read the last {unread[0]:,} words of the first text and the last {unread[1]:,} of the "
        "second; some of them may not be listed. "
    )


def _facts(model: Any, not_shown: str) -> ModelFacts:
    options, poolings = model.args, list(model.encoder.sentence_encoder.poolings.values())
    scored = any(pooling.scorer is not None for pooling in poolings)
    note = (
        "This is a classifier: labels with their probabilities are shown instead of a summary. Weights are those of "
        "the poolings. The encoder's attention also mixes context into each vector, including the one that the "
        "classifier reads; the weights do not show this."
    )
    pooler, scorer = (options.pooler if poolings else "none"), (options.scorer if scored else "none")
    return ModelFacts(str(options.arch or "lsg_roberta"), pooler, scorer, False, not_shown + note)
