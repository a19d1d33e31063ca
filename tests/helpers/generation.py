"""Models, batches and options of generation whose summaries are compared, and the comparison."""

import torch
from fairseq import search
from fairseq.sequence_generator import SequenceGenerator

from tests.helpers.models import make_dictionary

RAGGED, EQUAL = [40, 3, 17, 1], [20, 20, 20]
OPTIONS = {
    "greedy": {"beam_size": 1},
    "beam 2": {"beam_size": 2},
    "beam 8": {"beam_size": 8},
    "length penalty": {"beam_size": 4, "len_penalty": 0.3},
    "no normalisation": {"beam_size": 4, "normalize_scores": False},
    "blocked n-grams": {"beam_size": 4, "unk_penalty": 1.0, "no_repeat_ngram_size": 2},
    "minimum": {"beam_size": 3, "min_len": 9, "max_len_b": 12},
    "model's maximum": {"beam_size": 5, "max_len_b": 200},
    "temperature": {"beam_size": 2, "temperature": 1.7},
}
MODELS = {
    "pooled": {},
    "shared embeddings": {"share_all_embeddings": True},
    "unpooled": {"pooling_schedule": ""},
    "positions": {"decoder_positions": True, "attention": "full", "pooling_schedule": "1:12"},
    "norm before": {"decoder_normalize_before": True, "encoder_normalize_before": True},
    "narrow decoder": {
        "decoder_embed_dim": 12,
        "layernorm_embedding": True,
        "decoder_positions": True,
        "decoder_learned_pos": True,
    },
}
#: Combinations of models, options and lengths. With padding: all models with all options. Without: all models with the
#: first options, and the first model with all options.
CASES = [(m, o, RAGGED) for m in MODELS for o in OPTIONS] + [
    (m, o, EQUAL) for m in MODELS for o in OPTIONS if m == next(iter(MODELS)) or o == next(iter(OPTIONS))
]


def generate(models, tokens, strategy=None, prefix=None, generator_class=SequenceGenerator, seed=5, **options):
    torch.manual_seed(seed)
    generator = generator_class(
        models, make_dictionary(40), search_strategy=strategy, **{"max_len_b": 15, "beam_size": 2, **options}
    )
    net_input = {"src_tokens": tokens, "src_lengths": tokens.ne(1).sum(dim=1)}
    return generator.generate(models, {"net_input": net_input}, prefix_tokens=prefix)


def assert_same(ours, stock, tolerance=1e-9):
    assert len(ours) == len(stock)
    for mine, theirs in zip(ours, stock):
        assert [hypothesis["tokens"].tolist() for hypothesis in mine] == [
            hypothesis["tokens"].tolist() for hypothesis in theirs
        ]
        for a, b in zip(mine, theirs):
            torch.testing.assert_close(a["positional_scores"], b["positional_scores"], atol=tolerance, rtol=0)
            torch.testing.assert_close(a["score"], b["score"], atol=tolerance, rtol=0)


STRATEGIES = {
    "sampling": (lambda d: search.Sampling(d), None),
    "top-p sampling": (lambda d: search.Sampling(d, sampling_topp=0.8), None),
    "diverse beams": (lambda d: search.DiverseBeamSearch(d, 2, 0.5), None),
    "diverse siblings": (lambda d: search.DiverseSiblingsSearch(d, 0.5), None),
    "allowed tokens": (lambda d: search.PrefixConstrainedBeamSearch(d, lambda _, tokens: [2, 5, 6, 7, 9]), None),
    "prefix": (None, [[5, 6, 7], [8, 1, 1], [9, 5, 1], [5, 2, 1]]),
}
