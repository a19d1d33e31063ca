"""Writes a trained checkpoint as it is shipped: half precision, no optimizer, none of the machine's paths.

``python examples/pubmed_small/release.py CHECKPOINT DATA OUT``: DATA is what preprocess/prepare.py wrote. OUT gets
model.pt, both dictionaries and the sentencepiece model, which also reads capitals there; generation.json and the model
card are written by hand.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from fairseq.data import Dictionary
from lowercase import lowercase_ascii

from pyramidion_fairseq import vocabularies
from pyramidion_fairseq.checkpoints import load_checkpoint, save_checkpoint

#: Parts of the configuration that building the model and summarising read.
PARTS = ("_name", "model", "task", "generation", "criterion", "common")
#: Options of these parts that name files, or belong to training.
PATHS = {"data": "", "user_dir": None, "tensorboard_logdir": None, "wandb_project": None, "log_file": None}


def release(checkpoint: Path, data: Path, out: Path) -> None:
    """Write the folder."""
    state = load_checkpoint(checkpoint)
    cfg = {name: part for name, part in state["cfg"].items() if name in PARTS}
    for part in cfg.values():
        if isinstance(part, dict):
            part.update({name: value for name, value in PATHS.items() if name in part})
    cfg["model"] = {name: cfg["model"][name] for name in sorted(cfg["model"])}
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state["model"].items()
    }
    shared = weights.get("encoder.embed_tokens.weight")
    for name, tensor in weights.items():  # one embedding is one tensor in the file, too
        if shared is not None and tensor.shape == shared.shape and torch.equal(tensor, shared):
            weights[name] = shared
    out.mkdir(parents=True, exist_ok=True)
    for name in ("dict.source.txt", "dict.target.txt"):
        shutil.copyfile(data / "data-bin" / name, out / name)
    pieces = out / "sentencepiece.model"
    pieces.write_bytes(lowercase_ascii((data / "sentencepiece.model").read_bytes()))
    symbols = [Dictionary.load(str(out / f"dict.{side}.txt")).symbols for side in vocabularies.SIDES]
    extra_state = {vocabularies.KEY: vocabularies.describe(*symbols, vocabularies.digest(str(pieces)))}
    history = state["optimizer_history"][-1:]  # fairseq wants it; it holds names and the number of updates
    released = {"args": None, "cfg": cfg, "model": weights, "optimizer_history": history, "extra_state": extra_state}
    save_checkpoint(released, out / "model.pt")


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("checkpoint", "data", "out"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    release(args.checkpoint, args.data, args.out)
    size = sum(path.stat().st_size for path in args.out.iterdir())
    print(f"{args.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
