"""From a recipe and a machine to the command lines of the stock commands."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyramidion_fairseq
from pyramidion_fairseq.errors import PyramidionError

from . import memory
from .paper import EFFECTIVE_BATCH, Recipe

TASK = "long_document_summarization"
#: PRECISION -> options of fairseq-train.
PRECISIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "float32": {},
    "tf32": {},
    "fp16": {"fp16": True, "fp16_init_scale": 4},
    "bf16": {"bf16": True},
}
#: What torch reads at its start: products of float32 in TF32, on GPUs that have it.
TF32 = ["env", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1"]


@dataclass
class Settings:
    """What a user says with KEY=VALUE, beside the row: the machine and the folders."""

    data: str = ""
    """Folder that preprocess/prepare.py wrote; default data/CORPUS."""
    save: str = ""
    """Folder of the checkpoints; default checkpoints/NAME/ARCH, NAME being that of the data's folder."""
    init: str = ""
    """PoWER's block-wise checkpoint; default that of its recipe."""
    gpus: int = -1
    """GPUs in a node; default those that are there; 0: one process on the CPU of each node."""
    nodes: int = 1
    """Nodes."""
    launch: str = ""
    """"local" (one node; fairseq starts a process a GPU), "torchrun" or "slurm"; default by nodes."""
    precision: str = "full"
    """"full" (what the paper says; also "float32"), "tf32", "bf16" or "fp16"."""
    memory: int = 0
    """GB of a GPU, from which the batch is calculated; default that of the GPU that is there, or 40."""
    batch: int = 0
    """Documents on a GPU in a forward pass; default by calculation (memory.py)."""
    subset: str = ""
    """Split that is generated and scored; default the paper's."""
    metric: str = "rouge2"
    """What the best checkpoint is the best in, and what patience waits for: rouge1, rouge2, rougeL of summaries by
    the row's beam, as in the paper; or loss."""
    samples: int = 512
    """Validation documents that are summarised for it, spread over the split; 0: all of them, as in the paper."""

    @classmethod
    def read(cls, given: dict[str, str]) -> Settings:
        """Build from ``{"GPUS": "8"}``; keys that are no settings are ignored.

        Raises:
            PyramidionError: not a number, or not a choice.
        """
        out = cls()
        for field in fields(cls):
            text = given.get(field.name.upper(), "")
            if text:
                number = isinstance(field.default, int)
                if number and not text.isdigit():
                    raise PyramidionError(f"{field.name.upper()}={text} is not a whole number")
                setattr(out, field.name, int(text) if number else text)
        choices = {"precision": tuple(PRECISIONS), "launch": ("", "local", "torchrun", "slurm")}
        choices["metric"] = ("loss", "rouge1", "rouge2", "rougeL")
        for name, values in choices.items():
            if getattr(out, name) not in values:
                raise PyramidionError(f"{name.upper()}={getattr(out, name)}: one of {', '.join(filter(None, values))}")
        if out.nodes < 1:
            raise PyramidionError("NODES must be at least 1")
        return out


def batching(arch: str, settings: Settings) -> dict[str, int]:
    """Return documents a forward pass and passes an update, such that an update has 256 documents on any machine.

    Raises:
        PyramidionError: 256 cannot be divided so.
    """
    processes = max(1, settings.gpus) * settings.nodes
    share = EFFECTIVE_BATCH // processes
    batch = settings.batch or memory.documents(arch, settings.memory or 40, settings.precision, most=max(1, share))
    if batch * processes > EFFECTIVE_BATCH or EFFECTIVE_BATCH % (batch * processes):
        raise PyramidionError(
            f"an update of {EFFECTIVE_BATCH} documents cannot be divided into {processes} GPUs x {batch} documents: "
            "choose GPUS, NODES and BATCH that divide it"
        )
    return {"batch_size": batch, "update_freq": share // batch}


def flags(options: dict[str, Any]) -> list[str]:
    """Return ``{"block_size": 4}`` -> ``["--block-size", "4"]``; True is a switch."""
    out: list[str] = []
    for name, value in options.items():
        out += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return out


def user_dir() -> str:
    """Return the plugin: as short as it can be said from the current folder."""
    package = Path(pyramidion_fairseq.__file__).resolve().parent
    return package.name if Path(package.name).resolve() == package else str(package)


def folders(recipe: Recipe, settings: Settings) -> tuple[Path, Path]:
    """Return those of the data and of the checkpoints.

    The latter follows the data's name, so that training on another corpus does not go on with this one's model.
    """
    data = Path(settings.data or f"data/{recipe.corpus}")
    return data, Path(settings.save) if settings.save else checkpoints(data, recipe.arch)


def checkpoints(data: Path, arch: str) -> Path:
    """Return where the checkpoints of an architecture trained on these data go, unless another folder is given."""
    name = data.name if data.name not in ("", ".", "..") else data.resolve().name
    return Path("checkpoints") / name / arch


def base(recipe: Recipe, settings: Settings) -> Path | None:
    """Return the checkpoint that a row goes on from; None where it starts anew."""
    if not recipe.initial:
        return None
    return Path(settings.init or checkpoints(folders(recipe, settings)[0], recipe.initial) / "checkpoint_best.pt")


def _stock(command: str, recipe: Recipe, settings: Settings) -> list[str]:
    data = folders(recipe, settings)[0]
    cpu = ["--cpu"] if settings.gpus == 0 else []
    return [f"fairseq-{command}", str(data / "data-bin"), "--user-dir", user_dir(), "--task", TASK, *cpu]


def train(recipe: Recipe, settings: Settings, extra: list[str]) -> list[list[str]]:
    """Return the command that trains a row; ``extra`` options of fairseq-train come last and win.

    Raises:
        PyramidionError: a precision that a CPU does not have.
    """
    if settings.gpus == 0 and settings.precision == "tf32":
        raise PyramidionError("PRECISION=tf32 needs a GPU: leave it out, or say PRECISION=bf16")
    options = {
        **recipe.training,
        **validation(recipe, settings),
        **batching(recipe.arch, settings),
        **PRECISIONS[settings.precision],
    }
    if recipe.initial:
        options["finetune_from_model"] = base(recipe, settings)
    options["save_dir"] = folders(recipe, settings)[1]
    line = [*launched([*_stock("train", recipe, settings), *flags(options)], settings), *extra]
    return [[*TF32, *line] if settings.precision == "tf32" else line]


def validation(recipe: Recipe, settings: Settings) -> dict[str, Any]:
    """Return options that choose the best checkpoint by summaries of validation documents.

    None where it is by the loss.
    """
    if settings.metric == "loss":
        return {}
    return {
        "eval_rouge": True,
        "eval_rouge_samples": settings.samples,
        "eval_rouge_args": json.dumps({"beam": recipe.generation["beam"]}),
        "best_checkpoint_metric": settings.metric,
        "maximize_best_checkpoint_metric": True,
    }


def launched(command: list[str], settings: Settings) -> list[str]:
    """Return a training command as it is started on every node.

    fairseq starts a process for each GPU of one node itself. Of several nodes, torchrun or Slurm starts them.

    Raises:
        PyramidionError: several nodes, and neither of the two; or no word of which node this is.
    """
    launch = settings.launch or ("local" if settings.nodes == 1 else "torchrun")
    if launch == "local" and settings.nodes > 1:
        raise PyramidionError(f"LAUNCH=local is for one node; for {settings.nodes}: torchrun or slurm")
    here = max(1, settings.gpus)  # without GPUs, a process on the CPU of each node
    # Said also to torchrun: where a node has one GPU, or none, fairseq would take it for all there are.
    command = [*command, "--distributed-world-size", str(here * settings.nodes)]
    port = os.environ.get("MASTER_PORT", "29500")
    if launch == "slurm":
        return [*command, "--distributed-port", port]
    if launch == "local":
        return command
    if settings.nodes > 1 and not {"NODE_RANK", "MASTER_ADDR"} <= set(os.environ):
        raise PyramidionError(
            f"NODES={settings.nodes} needs on each node NODE_RANK, which is 0 on the first one, and MASTER_ADDR, the "
            "first one's name"
        )
    nodes = ["--nnodes", str(settings.nodes), "--nproc_per_node", str(here)]
    where = ["--node_rank", os.environ.get("NODE_RANK", "0")]
    where += ["--master_addr", os.environ.get("MASTER_ADDR", "localhost"), "--master_port", port, "--no_python"]
    return ["torchrun", *nodes, *where, *command]


def generate(recipe: Recipe, settings: Settings, extra: list[str]) -> list[list[str]]:
    """Return the command that summarises the split; its output is to go to :func:`log`."""
    data, save = folders(recipe, settings)
    options = {"path": save / "checkpoint_best.pt", "gen_subset": settings.subset or recipe.subset, "batch_size": 8}
    options.update(recipe.generation)
    options.update(bpe="sentencepiece", sentencepiece_model=data / "sentencepiece.model")
    return [[*_stock("generate", recipe, settings), *flags(options), *extra]]


def log(recipe: Recipe, settings: Settings) -> Path:
    """Return where generation's output goes."""
    return folders(recipe, settings)[1] / f"generate-{settings.subset or recipe.subset}.log"


def evaluate(recipe: Recipe, settings: Settings, extra: list[str]) -> list[list[str]]:
    """Return the commands that put the summaries in order and score them."""
    data, save = folders(recipe, settings)
    subset = settings.subset or recipe.subset
    references, summaries = str(data / "text" / f"{subset}.target"), str(save / f"summaries-{subset}.txt")
    collect = ["pyramidion-summaries", str(log(recipe, settings)), "--output", summaries, "--references", references]
    score = ["pyramidion-rouge", references, summaries, "--json", str(save / f"rouge-{subset}.json"), *extra]
    return [collect, score]
