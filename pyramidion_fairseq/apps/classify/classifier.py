"""A trained classifier: labels with probabilities for documents, and which tokens survived its poolings."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import islice
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Sequence

import torch
from torch import Tensor

from ...errors import PyramidionError
from ...functional import TokenRecord, compose_poolings
from ...generation.encoder_output import POOLING_SLOTS, POOLING_WEIGHTS
from ...inference.batching import batches_by_length
from ...models.roberta import LSGRobertaModel
from ...text import Document, Tokenizer, split_document
from ...text.words import DocumentWords
from ...utils.memory import is_out_of_memory

logger = logging.getLogger(__name__)

#: Documents that a stream reads ahead, to batch them by length.
BUFFER = 256


class Reading(NamedTuple):
    """A document, or a pair, as the model reads it."""

    tokens: list[int]
    """Ids, special symbols included."""
    words: DocumentWords
    """Of the first text and, after its words, of the second."""
    token_words: list[int]
    """Per token the index of its word; -1 for special symbols."""
    cut: bool
    """Whether the model does not read all of it."""


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of a document."""

    label: str | None
    """The most probable one; None where a number is predicted, or the document is empty."""
    probabilities: tuple[tuple[str, float], ...]
    """(label, probability) of all classes, the most probable first."""
    value: float | None
    """The number that is predicted, if one is."""
    tokens: int
    """Tokens that the model read."""
    cut: bool
    """Whether the document is longer than that."""
    survivors: tuple[Survivors, ...] = ()
    """After each pooling, if asked for."""
    reading: Reading | None = None
    """What was read, if survivors were asked for."""


@dataclass(frozen=True, eq=False)
class Survivors:
    """Which tokens are left after a pooling."""

    stage: str
    """"after layer ..."."""
    vectors: int
    """How many vectors are left, a kept ``<s>`` or global tokens not counted."""
    weights: Tensor
    """(n,) float: the weight of each token in its vector; 0 where it was dropped."""
    slots: Tensor
    """(n,) int64: that vector."""


class Classifier:
    """A model with one of its classification heads.

    Args:
        model: in evaluation mode, on its device.
        head: its name.
        labels: names of the classes; None where a number is predicted.
        tokenizer: from words to ids.
        init_token, separator_token: ids before the first text and before the second; None: none.
    """

    def __init__(
        self,
        model: LSGRobertaModel,
        head: str,
        labels: Sequence[str] | None,
        tokenizer: Tokenizer,
        init_token: int | None,
        separator_token: int | None,
    ):
        self.model, self.head, self.labels, self.tokenizer = model, head, labels, tokenizer
        self.init_token, self.separator_token = init_token, separator_token
        self.dictionary = model.encoder.dictionary

    def classify(
        self,
        documents: Iterable[Document | tuple[Document, Document]],
        explain: bool = False,
        *,
        batch_size: int = 8,
        max_tokens: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[Prediction]:
        """Yield a prediction for each document or pair, in their order; :data:`BUFFER` of them are read at a time.

        Args:
            documents: documents, or pairs of them.
            explain: say which tokens survived the poolings.
            batch_size: documents in a batch, at most.
            max_tokens: padded tokens in a batch, at most; a longer document makes a batch of its own.
            progress: called after each batch with the number of documents in it.

        Raises:
            PyramidionError: a size is below 1, or memory is too small for a document.
        """
        if batch_size < 1 or (max_tokens is not None and max_tokens < 1):
            raise PyramidionError(
                f"sizes must be at least 1, got --batch-size {batch_size}"
                + (f" and --max-tokens {max_tokens}" if max_tokens is not None else "")
            )
        documents = iter(documents)
        while True:
            readings = [self.read(document) for document in islice(documents, BUFFER)]
            if not readings:
                return
            found: dict[int, Prediction] = {}
            for batch in batches_by_length([len(reading.tokens) for reading in readings], batch_size, max_tokens):
                readable = [index for index in batch if any(word >= 0 for word in readings[index].token_words)]
                found.update(zip(readable, self._predict([readings[index] for index in readable], explain)))
                if progress is not None:
                    progress(len(batch))
            nothing = Prediction(None, (), None, 0, False)
            yield from (found.get(index, nothing) for index in range(len(readings)))

    def read(self, document: Document | tuple[Document, Document]) -> Reading:
        """Return a document's tokens as in training: ``<s> first </s>``, or ``<s> first </s> </s> second </s>``.

        What is longer than the model reads is cut: the second text of a pair keeps half of the room if it needs it.
        """
        first, second = document if isinstance(document, tuple) else (document, None)
        eos, most = self.dictionary.eos(), self.model.max_positions()
        texts = [first] if second is None else [first, second]
        given = [split_document(text, 8 * most).document for text in texts]
        parts = [self.tokenizer.encode(text.words, text.space_after, most) for text in given]
        before = [self.init_token, self.separator_token]
        special = [1 + (token is not None) for token in before[: len(parts)]]
        room, lengths = most - sum(special), [len(part.tokens) for part in parts]
        kept = [room]
        if len(parts) == 2:
            kept = [max(room - lengths[1], room - room // 2), max(room - lengths[0], room // 2)]
        tokens: list[int] = []
        words: list[int] = []
        offset = 0
        for part, token, limit in zip(parts, before, kept):
            ids, of = list(part.tokens[:limit]), [offset + word for word in part.token_words[:limit]]
            lead = [token] if token is not None else []
            tokens += [*lead, *ids, eos]
            words += [*([-1] * len(lead)), *of, -1]
            offset += len(part.words)
        cut = any(length > limit for length, limit in zip(lengths, kept))
        return Reading(tokens, _joined(given), words, cut)

    def _predict(self, readings: list[Reading], explain: bool) -> list[Prediction]:
        if not readings:
            return []
        try:
            return self._run(readings, explain)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(readings) == 1:
                raise PyramidionError(
                    f"memory is too small for a document of {len(readings[0].tokens)} tokens"
                ) from None
        logger.warning(f"out of memory with {len(readings)} documents in a batch: going on with half as many")
        half = len(readings) // 2
        return [*self._predict(readings[:half], explain), *self._predict(readings[half:], explain)]

    def _run(self, readings: list[Reading], explain: bool) -> list[Prediction]:
        rows = [torch.tensor(reading.tokens) for reading in readings]
        batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.dictionary.pad())
        device = next(self.model.parameters()).device
        logits, extra = self.model.predict(self.head, batch.to(device))
        survivors = self._survivors(extra["encoder_out"], readings) if explain else [()] * len(readings)
        return [
            self._prediction(row, reading, left, explain)
            for row, reading, left in zip(logits.float().cpu(), readings, survivors)
        ]

    def _prediction(
        self, logits: Tensor, reading: Reading, survivors: tuple[Survivors, ...], explain: bool
    ) -> Prediction:
        more = (len(reading.tokens), reading.cut, survivors, reading if explain else None)
        if self.labels is None:
            return Prediction(None, (), float(logits[0]), *more)
        shares = logits.softmax(dim=0)
        order = shares.argsort(descending=True, stable=True).tolist()
        ranked = tuple((self.labels[index], float(shares[index])) for index in order)
        return Prediction(ranked[0][0], ranked, None, *more)

    def _survivors(self, out: dict[str, Any], readings: list[Reading]) -> list[tuple[Survivors, ...]]:
        """Return what is left after each pooling, for every document of a batch."""
        encoder = self.model.encoder.sentence_encoder
        slots, weights = out[POOLING_SLOTS], out[POOLING_WEIGHTS]
        if not slots:
            return [()] * len(readings)
        records = compose_poolings(slots, weights)
        kept = 0 if encoder.num_globals else 1  # the kept <s> is no part of the record
        found = []
        for row, reading in enumerate(readings):
            length, stages = len(reading.tokens) - kept, []
            left = length
            for (layer, pooling), record in zip(encoder.poolings.items(), records):
                left = pooling.pooler.output_length(left, pooling.k)
                stages.append(Survivors(f"after layer {layer}", left, *_with_first(record, row, length, kept)))
            found.append(tuple(stages))
        return found


def _with_first(record: TokenRecord, row: int, length: int, kept: int) -> tuple[Tensor, Tensor]:
    """Return one document's weights and slots; a kept first token has weight 1 and the slot -1."""
    weights, slots = record.weights[row, :length].float().cpu(), record.slots[row, :length].cpu()
    return torch.cat([torch.ones(kept), weights]), torch.cat([torch.full((kept,), -1), slots])


def _joined(parts: Sequence[DocumentWords]) -> DocumentWords:
    """Return the words of one text after those of the other."""
    if len(parts) == 1:
        return parts[0]
    first, second = parts
    start = len(first.words)
    spaces = (*first.space_after[:-1], *([True] if start else []), *second.space_after)
    sentences = (*first.sentences, *((begin + start, end + start) for begin, end in second.sentences))
    return DocumentWords((*first.words, *second.words), spaces, sentences)
