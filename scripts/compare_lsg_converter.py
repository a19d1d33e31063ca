"""Compare this package's conversion with that of the published LSG converter, at the size of bart-base.

The models have random weights, each selection type in turn, and one global token, and read documents of 4096 and 2900
tokens; bos_pooling reads the first alone. The result is in docs/comparisons.md. The packages are fairseq and those of
record_lsg_converter.py. Run from the repository's root: ``python -m scripts.compare_lsg_converter``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import torch
from lsg_converter import LSGConverter
from transformers import BartConfig, BartForConditionalGeneration

from pyramidion_fairseq.interop.bart.convert import convert
from pyramidion_fairseq.interop.bart.names import from_hugging_face
from pyramidion_fairseq.interop.bart.options import from_config
from pyramidion_fairseq.interop.bart.sources import PretrainedSummarizer
from pyramidion_fairseq.models import PyramidionModel
from tests.helpers.bart import compare, documents, spread_values, symbols_of, task_of

WORDS = 50265
SIDES = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 6), ("ffn_dim", 3072))}
SHAPE = {"d_model": 768, "encoder_attention_heads": 12, "decoder_attention_heads": 12, **SIDES}
TYPES = ("none", "norm", "pooling", "stride", "block_stride", "bos_pooling", "lsh")
ROUNDS = ((12, 64, 64), (12, 64, 32))
"""lsh's random rotations of a layer: heads, their width, buckets / 2; 128 buckets, then 64."""


def rotations() -> list[torch.Tensor]:
    """Return two cases for each of six layers."""
    generator = torch.Generator().manual_seed(11)
    return [torch.randn(shape, generator=generator) for _ in range(6) for shape in ROUNDS]


def ours(config: BartConfig, state: dict[str, torch.Tensor], kind: str) -> PyramidionModel:
    """Return our conversion to 4096 tokens, with the published converter's options."""
    changes = {"max_source_positions": 4096, "max_target_positions": 4096, "attention": "lsg"}
    changes.update(lsg_block_size=128, lsg_sparse_block_size=128, lsg_sparsity_factor=2, lsg_sparsity_type=kind)
    source = PretrainedSummarizer(from_config(config.to_dict()), from_hugging_face(state), symbols_of(WORDS), None)
    checkpoint = convert(source, {**changes, "lsg_global_tokens": 1}).checkpoint
    model = PyramidionModel.build_model(Namespace(**checkpoint["cfg"]["model"]), task_of(WORDS)).eval()
    model.load_state_dict(checkpoint["model"], strict=True)
    if kind == "lsh":
        made = iter(rotations())
        for layer in model.encoder.layers:
            for rotation in layer.self_attn.rotations:
                rotation.fixed.copy_(next(made))
    return model


class Published(torch.nn.Module):
    """Return the published model, with our rotations for lsh, and set to keep the states of all tokens."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model.eval()

    def forward(self, **inputs: torch.Tensor):
        randn, made = torch.randn, iter(rotations())
        torch.randn = lambda *shape, **_: next(made).reshape(shape)
        try:
            return self.model(**inputs, return_dict=True)
        finally:
            torch.randn = randn


def main() -> None:
    """Print a line for each selection type, and fail if one differs by more than 1e-4."""
    config = BartConfig(vocab_size=WORDS, max_position_embeddings=1024, **SHAPE)
    base = spread_values(BartForConditionalGeneration(config))
    state = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        base.save_pretrained(name)
        rows = {token: row for row, token in enumerate(symbols_of(WORDS))}
        (Path(name) / "vocab.json").write_text(json.dumps(rows), encoding="utf-8")
        (Path(name) / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
        for kind in TYPES:
            theirs, _ = LSGConverter(max_sequence_length=4096).convert_from_pretrained(
                name, architecture="LSGBartForConditionalGeneration", num_global_tokens=1, block_size=128,
                sparse_block_size=128, sparsity_factor=2, sparsity_type=kind,
            )  # fmt: skip
            lengths = [4096] if kind == "bos_pooling" else [4096, 2900]  # see docs/comparisons.md
            tokens, summaries = documents(lengths, WORDS), documents([20] * len(lengths), WORDS, seed=1)
            states, logits = compare(ours(config, state, kind), Published(theirs), tokens, summaries)
            sys.stdout.write(f"| {kind} | {states:.1e} | {logits:.1e} |\n")
            sys.stdout.flush()
            worst = max(worst, states, logits)
    sys.exit(0 if worst < 1e-4 else f"error: the largest difference is {worst:.1e}")


if __name__ == "__main__":
    main()
