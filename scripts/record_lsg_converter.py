"""Record the published LSG converter's conversion of a small BART in tests/data/lsg_converter.npz.

This needs an environment with lsg-converter 0.1.9, transformers 4.44.2, tokenizers 0.19.1 and huggingface_hub below
0.26. It was run once, from the repository's root: ``python -m scripts.record_lsg_converter``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from lsg_converter import LSGConverter
from transformers import BartConfig, BartForConditionalGeneration

from pyramidion_fairseq.interop.bart.names import to_hugging_face
from tests.helpers.published_lsg import CASES, LENGTHS, PROBES, ROTATIONS, SHAPE, documents, state_of_bart, symbols


def write_bart(folder: Path) -> None:
    """Write the directory that is converted."""
    tokens = {token: row for row, token in enumerate(symbols())}
    (folder / "vocab.json").write_text(json.dumps(tokens))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    model = BartForConditionalGeneration(BartConfig(vocab_size=len(tokens), **SHAPE))
    missing = model.load_state_dict(to_hugging_face(state_of_bart()), strict=False)
    assert not missing.unexpected_keys, missing
    assert all(n == "final_logits_bias" or "embed_tokens" in n or n == "lm_head.weight" for n in missing.missing_keys)
    model.tie_weights()
    model.save_pretrained(folder)


def record(folder: Path) -> dict[str, np.ndarray]:
    """Return the encoder's states at some tokens, for every case."""
    out, randn = {}, torch.randn
    for name, options in CASES.items():
        converter = LSGConverter(max_sequence_length=4096)
        model, _ = converter.convert_from_pretrained(
            str(folder), architecture="LSGBartForConditionalGeneration", **options
        )
        made = iter(list(ROTATIONS()))
        torch.randn = lambda *shape, made=made, **_: next(made).reshape(shape)
        tokens = documents()
        with torch.no_grad():
            states = model.eval().get_encoder()(input_ids=tokens, attention_mask=tokens.ne(1).long())[0]
        torch.randn = randn
        globals_ = states.size(1) - max(LENGTHS)
        out[name] = torch.cat([states[:, :globals_], states[:, globals_:][:, PROBES]], dim=1).numpy()
        if name == "none":
            out["globals"] = model.model.encoder.global_embeddings.weight.detach()[:24].numpy()
            out["positions"] = model.model.encoder.embed_positions.weight.detach()[::97].numpy()
    return out


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        write_bart(Path(name))
        arrays = record(Path(name))
    np.savez_compressed("tests/data/lsg_converter.npz", **arrays)
    sys.stdout.write("".join(f"{key} {array.shape}\n" for key, array in arrays.items()))
