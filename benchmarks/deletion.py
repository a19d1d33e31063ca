"""A summary's log-probability after deleting sentences of its document, and methods to rank these sentences.

This is the measurement of attribution.py for one document. The document is first cut to the model's maximum length,
so that no later text takes the place of what is deleted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Collection, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor

from pyramidion_fairseq.apps.explain.attention import read_summaries
from pyramidion_fairseq.apps.explain.explanation import explain_summary, rank_sentences
from pyramidion_fairseq.functional import TokenRecord, sum_by_group, token_copies
from pyramidion_fairseq.inference.batching import batches_by_length


@dataclass(frozen=True)
class Settings:
    """The settings of the rankings."""

    seed: int
    """Seed of random orders and ablations; each document has its own generators."""
    draws: int
    """Number of random orders."""
    most_sentences: int
    """Maximum number of sentences for leave-one-out, from the start of the document."""
    ablations: int
    """Number of random ablations of context-cite."""
    alpha: float
    """Weight of the l1 penalty of context-cite's fit."""


class Ranking(NamedTuple):
    """The ranking of a document's sentences by one method, the most important first."""

    orders: list[list[int]]
    """Every order has all sentences that the model reads; only random has several."""
    passes: int
    """Additional passes of encoder and decoder, besides generating the summary."""
    seconds: float


class Deletion:
    """The teacher-forced log-probability of a summary after deleting sentences of its document.

    Args:
        hub: the hub interface of one model.
        summary: of the document, with its provenance.
        number: of the document, for its random generators.
        batch_size: shortened documents in a batch, at most.
        max_tokens: padded tokens in a batch, at most.
    """

    def __init__(self, hub: Any, summary: Any, number: int = 0, batch_size: int = 8, max_tokens: int | None = None):
        self.model, self.provenance, self.number = hub.models[0], summary.provenance, number
        self.score, self.device = summary.score, hub.device
        self.eos, self.pad = hub.tgt_dict.eos(), hub.src_dict.pad()
        self.batch_size, self.max_tokens = batch_size, max_tokens
        source, sentences = self.provenance.source, self.provenance.document.sentences
        owners = {word: index for index, (start, end) in enumerate(sentences) for word in range(start, end)}
        begins = source.tokens[:1] == (hub.task.markers.document,)  # <s> stays whatever is deleted
        #: Tokens that the model reads, and the sentence of each, -1 for ``<s>`` and ``</s>``.
        self.tokens = [*source.tokens, hub.src_dict.eos()]
        self.owners = [*(owners[word] for word in source.token_words), -1]
        self.owners[0] = -1 if begins else self.owners[0]
        #: Sentences of which the model reads something, in the document's order.
        self.sentences = sorted(set(self.owners) - {-1})
        self.target = torch.tensor([*summary.tokens, self.eos], device=self.device)
        self.known: dict[frozenset[int], float] = {}
        self.encoded, self.output = self._read([self.tokens])
        #: Log-probability of the summary, including ``</s>``, given the whole document.
        self.log_probability = self.known[frozenset()] = float(self._log_probabilities(self.output).sum())

    def without(self, deleted: Collection[int]) -> list[int]:
        """Return the tokens of the document without these sentences."""
        return [token for token, owner in zip(self.tokens, self.owners) if owner not in deleted]

    def log_probabilities(self, deletions: Sequence[Collection[int]]) -> list[float]:
        """Return the summary's log-probability for each set of deleted sentences; results are cached."""
        wanted = [frozenset(deleted) for deleted in deletions]
        new = [deleted for deleted in dict.fromkeys(wanted) if deleted not in self.known]
        sources = [self.without(deleted) for deleted in new]
        for batch in batches_by_length([len(source) for source in sources], self.batch_size, self.max_tokens):
            _, output = self._read([sources[index] for index in batch])
            sums = self._log_probabilities(output).sum(dim=1).tolist()
            self.known.update(zip((new[index] for index in batch), sums))
        return [self.known[deleted] for deleted in wanted]

    def drops(self, deletions: Sequence[Collection[int]]) -> list[float]:
        """Return how far the summary's log-probability falls, in nats, for each set of deleted sentences."""
        return [self.log_probability - value for value in self.log_probabilities(deletions)]

    @torch.no_grad()
    def _read(self, sources: Sequence[list[int]]) -> tuple[dict, tuple]:
        """Run the encoder and the teacher-forced decoder on sources, with the same summary for each."""
        rows = [torch.tensor(source) for source in sources]
        batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad).to(self.device)
        encoded = self.model.encoder(batch, torch.tensor([len(row) for row in rows], device=self.device))
        return encoded, self._decode(encoded, len(rows))

    @torch.no_grad()
    def _decode(self, encoded: dict, rows: int) -> tuple:
        previous = torch.cat([self.target.new_tensor([self.eos]), self.target[:-1]])
        return self.model.decoder(previous.expand(rows, -1), encoder_out=encoded)

    @torch.no_grad()
    def _log_probabilities(self, output: tuple) -> Tensor:
        """Return (B, t) float64 of the summary's tokens."""
        every = self.model.get_normalized_probs(output, log_probs=True)
        return every.gather(2, self.target.expand(len(every), -1).unsqueeze(2)).squeeze(2).double()

    def complete(self, order: Sequence[int]) -> list[int]:
        """Return the order, followed by the missing sentences in document order."""
        chosen = set(order)
        return [*order, *(sentence for sentence in self.sentences if sentence not in chosen)]

    def rank(self, method: str, settings: Settings) -> Ranking:
        """Rank the sentences by one of :data:`METHODS`."""
        start = time.perf_counter()
        orders, passes = METHODS[method](self, settings)
        return Ranking([self.complete(order) for order in orders], passes, time.perf_counter() - start)

    def copied(self) -> Tensor:
        """Return how much of the probability of each of the summary's tokens is copied from each token of the source.

        (t, n), ``</s>`` counted in both; rows sum to the share of copying in the token's probability. None but models
        with a pointer can tell.
        """
        output = self._decode(self.encoded, 1)
        pointer = output[1]["pointer"]
        _, attention, before, source = pointer
        copies = token_copies(attention, source, before, pointer.continued)[0][0]
        copies = copies * (source.tokens == self.target.unsqueeze(1))
        log_share = pointer.log_copy[0] - self._log_probabilities(output)[0]
        return copies * log_share.exp().unsqueeze(1)


def _explanation(deletion: Deletion, settings: Settings) -> tuple[list[list[int]], int]:
    """Rank by the explanation's ranking: what was copied by its places, the rest by what was read of each token."""
    _attend(deletion)
    return [_rank_by(deletion)], 0


def _weighted_attention(deletion: Deletion, settings: Settings) -> tuple[list[list[int]], int]:
    """Rank by cross-attention times the poolings' weights, ignoring the pointer's copies."""
    _attend(deletion)
    return [_rank_by(deletion, copies=None)], 0


def _attention(deletion: Deletion, settings: Settings) -> tuple[list[list[int]], int]:
    """Rank by cross-attention without the poolings' weights: all tokens of a vector have equal weight."""
    _attend(deletion)
    (record,) = deletion.provenance.models
    return [_rank_by(deletion, copies=None, decoder=even_weights(record.decoder))], 0


def _rank_by(deletion: Deletion, **changed: Any) -> list[int]:
    """Return the sentences by the explanation's ranking, with parts of the model's record changed."""
    (record,) = deletion.provenance.models
    provenance = replace(deletion.provenance, models=(replace(record, **changed),))
    return [ranked.sentence for ranked in explain_summary(provenance, deletion.score).ranking]


def even_weights(record: TokenRecord) -> TokenRecord:
    """Return the (n,) record with weights of one over the number of a vector's tokens; dropped tokens stay dropped."""
    holds = (record.weights > 0).to(record.weights)
    counts = torch.zeros(int(record.slots.max()) + 1).to(holds).index_add(0, record.slots, holds)
    return TokenRecord(record.slots, holds / counts[record.slots].clamp(min=1))


def _attend(deletion: Deletion) -> None:
    """Compute the attention again: the provenance contains it, but its time must be included."""
    read_summaries(deletion.model.decoder, deletion.target.unsqueeze(0), deletion.encoded, deletion.eos)


def _copied(deletion: Deletion, settings: Settings) -> tuple[list[list[int]], int]:
    """Rank by the number of the summary's tokens, ``</s>`` not counted, that a pointer is expected to have copied."""
    document = deletion.provenance.document
    words = torch.tensor([*deletion.provenance.source.token_words, -1])
    mass = deletion.copied()[:-1].sum(dim=0, keepdim=True).cpu()
    ranked = rank_sentences(document.sentences, sum_by_group(mass, words, len(document.words))[0])
    return [[sentence for sentence, share in ranked if share > 0]], 0


def _random(deletion: Deletion, settings: Settings) -> tuple[list[list[int]], int]:
    """Return random orders."""
    generator = np.random.default_rng([settings.seed, deletion.number, 0])
    return [generator.permutation(deletion.sentences).tolist() for _ in range(settings.draws)], 0


def _lead(deletion: Deletion, settings: Settings) -> tuple[list[list[int]], int]:
    """Return the document's order."""
    return [deletion.sentences], 0


def _leave_one_out(deletion: Deletion, settings: Settings) -> tuple[list[list[int]], int]:
    """Rank by the drop when only this sentence is deleted: one pass per sentence."""
    tried = deletion.sentences[: settings.most_sentences]
    drops = dict(zip(tried, deletion.drops([{sentence} for sentence in tried])))
    return [sorted(tried, key=lambda sentence: -drops[sentence])], len(tried)


def _context_cite(deletion: Deletion, settings: Settings) -> tuple[list[list[int]], int]:
    """Rank by the weights of a sparse linear fit to random ablations (Cohen-Wang et al. 2024).

    As in their code: every sentence is kept with probability 1/2, the lasso is fitted to the log-probability per
    token and reads standardised columns. Equal weights, most of them 0, stand in random order.
    """
    from sklearn.linear_model import Lasso
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng([settings.seed, deletion.number, 1])
    kept = generator.random((settings.ablations, len(deletion.sentences))) < 0.5
    sentences = np.array(deletion.sentences)
    values = np.array(deletion.log_probabilities([set(sentences[~row].tolist()) for row in kept]))
    scaler, lasso = StandardScaler(), Lasso(alpha=settings.alpha)
    lasso.fit(scaler.fit_transform(kept.astype(float)), values / len(deletion.target))
    weights, ties = lasso.coef_ / scaler.scale_, generator.random(len(sentences))
    return [sentences[np.lexsort((ties, -weights))].tolist()], settings.ablations


#: Name -> ranking of a document: (orders, passes that it took).
METHODS: dict[str, Callable[[Deletion, Settings], tuple[list[list[int]], int]]] = {
    "explanation": _explanation,
    "copied": _copied,
    "weighted-attention": _weighted_attention,
    "attention": _attention,
    "random": _random,
    "lead": _lead,
    "leave-one-out": _leave_one_out,
    "context-cite": _context_cite,
}
