"""Options and dictionaries of tiny models."""

from __future__ import annotations

from fairseq.data import Dictionary

from pyramidion_fairseq.config import PyramidionConfig

#: Options of a model that pools twice and is small enough for float64 and finite differences.
TINY = {
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_embed_dim": 8,
    "decoder_embed_dim": 8,
    "encoder_ffn_embed_dim": 16,
    "decoder_ffn_embed_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "block_size": 4,
    "local_heads": 1,
    "local_window": 4,
    "lsh_bucket_size": 4,
    "lsg_block_size": 4,
    "lsg_sparse_block_size": 4,
    "pooling_schedule": "1:12,2:5",
    "max_source_positions": 64,
    "max_target_positions": 32,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "share_all_embeddings": True,
    "sinkhorn_iterations": 20,  # a tenth of the default: finite differences run the encoder often
    "perturbed_samples": 10,
}


def make_dictionary(words: int) -> Dictionary:
    dictionary = Dictionary()
    for i in range(words - len(dictionary)):
        dictionary.add_symbol(f"w{i}")
    return dictionary


def distinct(variants: list[dict]) -> list[dict]:
    """Return the options without those that make the same model as earlier ones, defaults included."""
    first: dict = {}
    for options in variants:
        first.setdefault(tuple(sorted({**vars(PyramidionConfig()), **options}.items())), options)
    return list(first.values())
