"""Write examples/hydra/ARCH.yaml from the recipes, one file per architecture; ``--check`` only compares."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from pyramidion_fairseq.models.architectures import PUBLISHED, config_of, fields_of

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))
from recipes.command import TASK, Settings, batching, validation  # noqa: E402
from recipes.paper import Recipe  # noqa: E402

TARGET = ROOT / "examples" / "hydra"
#: Options whose value is a list in Hydra, and options of the optimiser and of its schedule.
LISTS = ("lr", "update_freq")
#: Fields of the model that are written even at their default, so that they can be changed on the command line without
#: Hydra's "+".
SHOWN = ("attention", "block_size", "pooling_schedule", "max_source_positions", "max_target_positions")
SHOWN += tuple(
    f"{side}_{size}"
    for side in ("encoder", "decoder")
    for size in ("layers", "embed_dim", "ffn_embed_dim", "attention_heads")
)
SHOWN += ("dropout", "attention_dropout", "activation_dropout")
COMPONENTS = {"optimizer": ("adam_betas", "weight_decay"), "lr_scheduler": ("warmup_updates",)}
HEAD = """\
# {rows} of the paper; written by scripts/write_hydra.py from examples/recipes/, do not edit.
# From the repository's root, on 8 GPUs of 40 GB (an update has 8 x {batch_size} x {update_freq} = 256 documents):
#   fairseq-hydra-train --config-dir examples/hydra --config-name {arch} task.data=$PWD/data/arxiv/data-bin
# On other numbers of GPUs: optimization.update_freq=[{all} / GPUs], so [{all}] on one.
"""


def group(name: str) -> str:
    """Return the group of fairseq's config that has an option.

    Raises:
        KeyError: no group has it.
    """
    from fairseq.dataclass.configs import FairseqConfig  # after the package, which makes importing it faster

    for part in fields(FairseqConfig):
        if name in {field.name for field in fields(part.type)} if hasattr(part.type, "__dataclass_fields__") else ():
            return part.name
    raise KeyError(name)


def config(arch: str) -> dict[str, Any]:
    """Return the whole configuration of a recipe on arXiv with 8 GPUs."""
    recipe, defaults = Recipe(arch, "arxiv"), config_of(arch)
    settings = Settings(gpus=8)
    options = {**recipe.training, **batching(arch, settings), **validation(recipe, settings)}
    options["save_dir"] = f"checkpoints/arxiv/{arch}"
    if recipe.initial:
        options["finetune_from_model"] = f"checkpoints/arxiv/{recipe.initial}/checkpoint_best.pt"
    out: dict[str, Any] = {
        "common": {"user_dir": "pyramidion_fairseq"},
        "task": {"_name": TASK, "data": "???", **{n: options.pop(n) for n in list(options) if "eval_rouge" in n}},
        "model": {"_name": options.pop("arch"), **{n: getattr(defaults, n) for n in (*SHOWN, *fields_of(arch))}},
        "criterion": {"_name": options.pop("criterion")},
    }
    for part, names in COMPONENTS.items():
        out[part] = {"_name": options.pop(part), **{name: options.pop(name) for name in names}}
    for name, value in options.items():
        out.setdefault(group(name), {})[name] = [value] if name in LISTS else value
    # Paths are relative to the working directory, not to a folder that Hydra creates.
    out["hydra"] = {"run": {"dir": "."}, "output_subdir": None, "job": {"chdir": False}}
    return out


def text(arch: str) -> str:
    """Return a file's content."""
    tables: dict[str, list[str]] = {}
    for (table, row), name in PUBLISHED.items():
        if name == arch:
            tables.setdefault(table, []).append(row.split("/")[0])
    rows = "; ".join(f"Table {table}, row {', '.join(dict.fromkeys(names))}" for table, names in tables.items())
    sizes, content = batching(arch, Settings(gpus=8)), config(arch)
    head = HEAD.format(rows=rows, arch=arch, all=256 // sizes["batch_size"], **sizes)
    return head + "\n" + yaml.safe_dump(content, sort_keys=False)


def main() -> None:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 where a file is not up to date")
    check = parser.parse_args().check
    files = {TARGET / f"{arch}.yaml": text(arch) for arch in dict.fromkeys(PUBLISHED.values())}
    there = set(TARGET.glob("*.yaml"))
    if check:
        stale = [
            path for path in there | set(files) if not path.exists() or path.read_text("utf-8") != files.get(path)
        ]
        if stale:
            sys.exit(f"error: {min(stale).name} is out of date: run python scripts/write_hydra.py")
        return
    TARGET.mkdir(exist_ok=True)
    for path in there - set(files):
        path.unlink()
    for path, content in files.items():
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
