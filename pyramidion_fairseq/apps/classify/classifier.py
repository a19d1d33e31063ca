"""A trained classifier, which predicts labels with probabilities and records the tokens that its poolings kept."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Sequence

import torch
from torch import Tensor

from ...errors import PyramidionError
from ...functional import TokenRecord, compose_poolings
from ...generation.encoder_output import POOLING_SLOTS, POOLING_WEIGHTS
from ...inference.batching import BUFFER, batches_by_length, run_or_halve
from ...models.roberta import LSGRobertaModel
from ...text import Document, Tokenizer, split_document
from ...text.words import DocumentWords


class EncodedDocument(NamedTuple):
    """The input of the model for a document or a pair of documents."""

    tokens: list[int]
    """Ids of the tokens, including special symbols."""
    words: DocumentWords
    """The words of the first text, followed by those of the second."""
    token_words: list[int]
    """For each token the index of its word; -1 for special symbols."""
    cut: bool
    """Whether the text is truncated."""
    unread: tuple[int, ...]
    """For each text the number of words at its end that the model does not read, including those not in ``words``."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for a document."""

    label: str | None
    """The most probable label; None for regression and for an empty document."""
    probabilities: tuple[tuple[str, float], ...]
    """(label, probability) of all classes, the most probable first."""
    value: float | None
    """The predicted number; None unless the model does regression."""
    tokens: int
    """Number of tokens that the model read."""
    cut: bool
    """Whether the document was truncated."""
    kept_tokens: tuple[KeptTokens, ...] = ()
    """The tokens kept by each pooling, if requested."""
    encoded: EncodedDocument | None = None
    """The input of the model, if the kept tokens were requested."""


@dataclass(frozen=True, eq=False)
class KeptTokens:
    """The tokens that are left after a pooling."""

    stage: str
    """"after layer ..."."""
    vectors: int
    """Number of vectors, without a kept ``<s>`` and global tokens."""
    weights: Tensor
    """(n,) float: the weight of each token in its vector; 0 for dropped tokens."""
    slots: Tensor
    """(n,) int64: the index of this vector."""


class Classifier:
    """A model with one of its classification heads.

    Args:
        model: the model, in evaluation mode and on its device.
        head: name of the classification head.
        labels: names of the classes; None for regression.
        tokenizer: tokenizer of the model.
        init_token, separator_token: ids of the tokens before the first and the second text, or None.
        cuts_end: whether to keep only the first tokens of long documents, without the last ``</s>`` and possibly
            without the second text, as in training with fairseq's ``--shorten-method truncate``.
    """

    def __init__(
        self,
        model: LSGRobertaModel,
        head: str,
        labels: Sequence[str] | None,
        tokenizer: Tokenizer,
        init_token: int | None,
        separator_token: int | None,
        cuts_end: bool = False,
    ):
        self.model, self.head, self.labels, self.tokenizer = model, head, labels, tokenizer
        self.init_token, self.separator_token, self.cuts_end = init_token, separator_token, cuts_end
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
        """Yield a prediction for each document or pair, in order; :data:`BUFFER` of them are read at a time.

        Args:
            documents: documents, or pairs of documents.
            explain: whether to return the tokens that the poolings kept.
            batch_size: maximum documents per batch.
            max_tokens: maximum padded tokens per batch; a longer document is a batch of its own.
            progress: called after each batch with its number of documents.

        Raises:
            PyramidionError: a size is below 1, or a document does not fit into memory.
        """
        if batch_size < 1 or (max_tokens is not None and max_tokens < 1):
            raise PyramidionError(
                f"sizes must be at least 1, got --batch-size {batch_size}"
                + (f" and --max-tokens {max_tokens}" if max_tokens is not None else "")
            )
        documents = iter(documents)
        device = next(self.model.parameters()).device

        def predict(inputs: list[EncodedDocument]) -> list[Prediction]:
            return self._run(inputs, explain)

        while True:
            inputs = [self.read(document) for document in islice(documents, BUFFER)]
            if not inputs:
                return
            found: dict[int, Prediction] = {}
            for batch in batches_by_length([len(encoded.tokens) for encoded in inputs], batch_size, max_tokens):
                readable = [index for index in batch if any(word >= 0 for word in inputs[index].token_words)]
                chosen = [inputs[index] for index in readable]
                predictions = run_or_halve(predict, chosen, lambda encoded: len(encoded.tokens), device)
                found.update(zip(readable, predictions))
                if progress is not None:
                    progress(len(batch))
            nothing = Prediction(None, (), None, 0, False)
            yield from (found.get(index, nothing) for index in range(len(inputs)))

    def read(self, document: Document | tuple[Document, Document]) -> EncodedDocument:
        """Tokenize a document: ``<s> first </s>``, or ``<s> first </s> </s> second </s>`` for a pair.

        Longer texts are truncated; ``</s>`` is kept. If both texts of a pair exceed half of the positions, each of
        them gets half. With ``cuts_end``, the whole is truncated instead.
        """
        first, second = document if isinstance(document, tuple) else (document, None)
        eos, most = self.dictionary.eos(), self.model.max_positions()
        texts = [first] if second is None else [first, second]
        given = [split_document(text, 8 * most) for text in texts]
        parts = [self.tokenizer.encode(text.words, text.space_after, most) for text, _ in given]
        leads = [[] if token is None else [token] for token in (self.init_token, self.separator_token)[: len(parts)]]
        kept = self._kept_lengths([len(part.tokens) for part in parts], [len(lead) for lead in leads])
        tokens: list[int] = []
        words: list[int] = []
        unread: list[int] = []
        offset = 0
        for part, lead, limit, (_, left_out) in zip(parts, leads, kept, given):
            ids, of = list(part.tokens[:limit]), [offset + word for word in part.token_words[:limit]]
            unread.append(offset + len(part.words) - (max(of, default=offset - 1) + 1) + left_out)
            tokens += [*lead, *ids, eos]
            words += [*([-1] * len(lead)), *of, -1]
            offset += len(part.words)
        cut = len(tokens) > most or any(len(part.tokens) > limit for part, limit in zip(parts, kept))
        return EncodedDocument(tokens[:most], _joined([text for text, _ in given]), words[:most], cut, tuple(unread))

    def _kept_lengths(self, lengths: list[int], leads: list[int]) -> list[int]:
        """Return how many tokens of each text are read, from the numbers of its tokens and of those before it."""
        most = self.model.max_positions()
        if self.cuts_end:
            before = [leads[0], leads[0] + lengths[0] + 1 + sum(leads[1:])]
            return [max(most - start, 0) for start in before[: len(lengths)]]
        added = sum(leads) + len(leads)
        room = most - added
        if room < len(lengths):
            raise PyramidionError(f"the model reads {most} tokens, of which {added} are added: none is left")
        if len(lengths) == 1:
            return [room]
        return [max(room - lengths[1], room - room // 2), max(room - lengths[0], room // 2)]

    def _run(self, inputs: list[EncodedDocument], explain: bool) -> list[Prediction]:
        rows = [torch.tensor(encoded.tokens) for encoded in inputs]
        batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.dictionary.pad())
        device = next(self.model.parameters()).device
        lengths = [len(encoded.tokens) for encoded in inputs]
        logits, extra = self.model.predict(self.head, batch.to(device), lengths)
        kept_tokens = self._kept_tokens(extra["encoder_out"], inputs) if explain else [()] * len(inputs)
        return [
            self._prediction(row, encoded, left, explain)
            for row, encoded, left in zip(logits.float().cpu(), inputs, kept_tokens)
        ]

    def _prediction(
        self, logits: Tensor, encoded: EncodedDocument, kept_tokens: tuple[KeptTokens, ...], explain: bool
    ) -> Prediction:
        more = (len(encoded.tokens), encoded.cut, kept_tokens, encoded if explain else None)
        if self.labels is None:
            return Prediction(None, (), float(logits[0]), *more)
        shares = logits.softmax(dim=0)
        order = shares.argsort(descending=True, stable=True).tolist()
        ranked = tuple((self.labels[index], float(shares[index])) for index in order)
        return Prediction(ranked[0][0], ranked, None, *more)

    def _kept_tokens(self, out: dict[str, Any], inputs: list[EncodedDocument]) -> list[tuple[KeptTokens, ...]]:
        """Return the tokens left after each pooling, for every document of a batch."""
        encoder = self.model.encoder.sentence_encoder
        slots, weights = out[POOLING_SLOTS], out[POOLING_WEIGHTS]
        if not slots:
            return [()] * len(inputs)
        records = compose_poolings(slots, weights)
        kept = 0 if encoder.num_globals else 1  # the record does not contain a kept <s>
        found = []
        for row, encoded in enumerate(inputs):
            length, stages = len(encoded.tokens) - kept, []
            left = length
            for (layer, pooling), record in zip(encoder.poolings.items(), records):
                left = pooling.pooler.output_length(left, pooling.k)
                stages.append(KeptTokens(f"after layer {layer}", left, *_with_first(record, row, length, kept)))
            found.append(tuple(stages))
        return found


def _with_first(record: TokenRecord, row: int, length: int, kept: int) -> tuple[Tensor, Tensor]:
    """Return the weights and slots of one document; a kept first token gets weight 1 and slot -1."""
    weights, slots = record.weights[row, :length].float().cpu(), record.slots[row, :length].cpu()
    return torch.cat([torch.ones(kept), weights]), torch.cat([torch.full((kept,), -1), slots])


def _joined(parts: Sequence[DocumentWords]) -> DocumentWords:
    """Concatenate the words of the texts."""
    if len(parts) == 1:
        return parts[0]
    first, second = parts
    start = len(first.words)
    spaces = (*first.space_after[:-1], *([True] if start else []), *second.space_after)
    sentences = (*first.sentences, *((begin + start, end + start) for begin, end in second.sentences))
    return DocumentWords((*first.words, *second.words), spaces, sentences)
