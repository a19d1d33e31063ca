"""Provenance of made-up summaries."""

from dataclasses import replace

import torch

from pyramidion_fairseq.apps.explain import DocumentWords, Length, ModelFacts
from pyramidion_fairseq.apps.explain.record import ModelRecord, Provenance
from pyramidion_fairseq.functional import TokenRecord
from pyramidion_fairseq.text import TokenizedText

FACTS = ModelFacts("tiny", "successive_halving", "linear", True, "note")
#: Five words, of which the last is not read; word 0 has two tokens, and </s> is the last token.
DOCUMENT = DocumentWords(("a", "b", "c.", "d", "e"), (True,) * 4 + (False,), ((0, 3), (3, 5)))
SOURCE = TokenizedText(DOCUMENT.words, DOCUMENT.space_after, (4, 5, 6, 7, 8), (0, 0, 1, 2, 3))
SUMMARY = TokenizedText(("x", "y"), (True, False), (9, 10, 11), (0, 1, 1))


def record(slots, weights, attention, first=None):
    last = TokenRecord(torch.tensor(slots), torch.tensor(weights))
    stages = (("after layer 1", first or last), ("after layer 2", last))
    lengths = (Length("document", 6), Length("after layer 1", 3), Length("after layer 2", 2))
    return ModelRecord(lengths, stages, last, torch.tensor(attention))


RECORD = record(
    [0, 0, 1, 0, 1, 1],
    [0.5, 0.25, 0.5, 0.25, 0.375, 0.125],
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.3, 0.7]],
    TokenRecord(torch.tensor([0, 0, 1, 2, 1, 1]), torch.tensor([0.5, 0.5, 0.5, 1.0, 0.375, 0.125])),
)
_LANGUAGE = record(
    [0, 0, 1, 0, 1, 1, 1],
    [0.5, 0.25, 0.5, 0.25, 0.375, 0.125, 0.25],
    RECORD.attention.tolist(),
    TokenRecord(torch.tensor([0, 0, 1, 2, 1, 1, 1]), torch.tensor([0.5, 0.5, 0.5, 1.0, 0.375, 0.125, 0.25])),
)
#: The same with a language after </s>, as in mBART's documents.
WITH_LANGUAGE = replace(_LANGUAGE, lengths=(Length("document", 7), *_LANGUAGE.lengths[1:]))


def provenance(*models, **changes):
    fields = dict(document=DOCUMENT, left_out=0, title="t", source=SOURCE, summary=SUMMARY, models=models, facts=FACTS)
    return Provenance(**{**fields, **changes})
