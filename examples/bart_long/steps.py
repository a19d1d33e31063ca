"""The steps of compare.py: the pretraining of a family, the conversion, two fine-tunings."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any, Callable, NamedTuple

from small_scale import process
from small_scale.stages import PACKAGE, flags

#: Symbols, where the corpus is still to be prepared.
VOCABULARY = 8000
#: What is fine-tuned: from the converted checkpoint, and from scratch.
STARTS = ("converted", "scratch")


class Budget(NamedTuple):
    """Of a training."""

    updates: int
    batch: int
    """Pieces of text, or documents, in an update."""
    lr: float
    """Peak learning rate; falls with the inverse square root of the update."""
    warmup: int
    """Updates until the peak, and between checkpoints, with each of which goes a validation."""
    log: int
    """Updates between two losses in the log, each the mean since the one before."""


class Size(NamedTuple):
    """Shape, lengths and budget."""

    dim: int
    """Width; feed-forward layers have four times as much, attention heads 32 each."""
    encoder_layers: int
    decoder_layers: int
    short: int
    """Tokens that the pretrained model reads."""
    summary: int
    """Tokens that the converted model writes, at most."""
    long: int
    """Tokens that the converted model reads."""
    pooled: int
    """Vectors that its decoder reads."""
    block: int
    """LSG's blocks, local and sparse."""
    pretraining: Budget
    tuning: Budget
    validation: int
    """Batches of 4 documents in a validation."""


SIZES = {
    "small": Size(
        *(128, 3, 2, 256, 512, 1024, 256, 64),
        pretraining=Budget(1200, 4, 2e-3, 80, 20),
        tuning=Budget(200, 1, 4e-4, 20, 10),
        validation=6,
    ),
    "test": Size(*(32, 2, 1, 32, 40, 64, 16, 8), Budget(3, 4, 1e-3, 1, 1), Budget(4, 2, 1e-3, 1, 1), 1),
}


class Family(NamedTuple):
    """What fairseq pretrains."""

    task: dict[str, Any]
    """The task and what it alone has."""
    model: dict[str, Any]
    """The architecture and its options."""
    language: str = ""
    """Of the corpus, where documents and summaries are marked with it."""


FAMILIES = {
    "bart": Family({"task": "denoising"}, {"arch": "bart_base"}),
    "mbart": Family(
        {"task": "multilingual_denoising", "langs": "en_XX", "add_lang_token": True},
        {"arch": "mbart_base", "encoder_normalize_before": True, "decoder_normalize_before": True},
        language="en_XX",
    ),
}


class Run(NamedTuple):
    """What is common to the steps."""

    corpus: Path
    output: Path
    size: Size
    seed: int
    family: str
    """A name in ``FAMILIES``."""


def shape(size: Size) -> dict[str, Any]:
    """Return options of the model that both architectures, fairseq's and ours, have."""
    sides: dict[str, Any] = {"encoder_layers": size.encoder_layers, "decoder_layers": size.decoder_layers}
    for side in ("encoder", "decoder"):
        heads = {f"{side}_attention_heads": size.dim // 32}
        sides.update({f"{side}_embed_dim": size.dim, f"{side}_ffn_embed_dim": 4 * size.dim, **heads})
    # Less than one pass over the corpus, in both: nothing to regularise.
    return {**sides, "dropout": 0.0, "attention_dropout": 0.0, "share_all_embeddings": True}


def training(run: Run, data: Path, budget: Budget, save: Path) -> list[str]:
    """Return the options of a training that no two of them differ in."""
    options = {
        **{"criterion": "cross_entropy", "optimizer": "adam", "adam_betas": "(0.9, 0.98)", "clip_norm": 1.0},
        **{"lr": budget.lr, "lr_scheduler": "inverse_sqrt", "warmup_updates": budget.warmup},
        **{"batch_size": budget.batch, "max_update": budget.updates, "seed": run.seed, "num_workers": 0, "cpu": True},
        **{"save_dir": save, "no_epoch_checkpoints": True, "save_interval_updates": budget.warmup},
        **{"keep_interval_updates": 1, "log_format": "simple", "log_interval": budget.log},
    }
    start = [sys.executable, "-m", "fairseq_cli.train", str(data), "--user-dir", str(PACKAGE)]
    return [*start, *flags(options)]


def link(links: dict[Path, Path]) -> None:
    """Make links, given as place and target, where there are none."""
    for place, target in links.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            os.symlink(target.resolve(), place)


def pretrain(run: Run) -> None:
    """Pretrain by BART's text infilling (Lewis et al. 2020, Section 2.2) with fairseq's own task and architecture."""
    family, data, corpus = FAMILIES[run.family], run.output / "pretraining", run.corpus / "data-bin"
    # The tasks read one side of the corpus, under these names.
    articles = {
        data / family.language / f"train.{end}": corpus / f"train.source-target.source.{end}" for end in ("bin", "idx")
    }
    link({data / "dict.txt": corpus / "dict.source.txt", **articles})
    options = {
        **{**family.task, **family.model, **shape(run.size), "tokens_per_sample": run.size.short},
        **{"max_source_positions": run.size.short, "max_target_positions": run.size.short},
        **{"sample_break_mode": "none", "mask": 0.3, "mask_length": "span-poisson", "poisson_lambda": 3.0},
        **{"replace_length": 1, "rotate": 0.0, "permute_sentences": 0, "disable_validation": True},
    }
    command = training(run, data, run.size.pretraining, data / "checkpoints")
    process.run([*command, *flags(options)], run.output / "pretrain.log")


def architecture(size: Size) -> dict[str, Any]:
    """Return the long model's options."""
    lsg = {"attention": "lsg", "lsg_block_size": size.block, "lsg_sparse_block_size": size.block}
    pooling = {"pooling_schedule": f"{size.encoder_layers}:{size.pooled}"}
    return {**lsg, **pooling, "max_source_positions": size.long, "max_target_positions": size.summary}


def convert(run: Run) -> None:
    """Run ``pyramidion-convert FAMILY``: positions tiled, global tokens and a scorer made."""
    shutil.rmtree(run.output / "converted", ignore_errors=True)  # of a run that was killed here
    paths = [run.output / "pretraining" / "checkpoints" / "checkpoint_last.pt", run.output / "converted"]
    command = [sys.executable, "-m", "pyramidion_fairseq.cli.convert", run.family, *map(str, paths)]
    options = {"dictionary": run.corpus / "data-bin" / "dict.source.txt", **architecture(run.size)}
    language = FAMILIES[run.family].language
    if language:
        options.update(document_marker=f"[{language}]", summary_marker=f"[{language}]")
    process.run([*command, *flags(options)], run.output / "convert.log")


def summaries(run: Run) -> Path:
    """Return the folder to fine-tune on: the corpus, with the model's dictionary where that has languages as well."""
    corpus = run.corpus / "data-bin"
    if not FAMILIES[run.family].language:
        return corpus
    data = run.output / "summaries"
    link({data / path.name: path for end in ("bin", "idx") for path in corpus.glob(f"*.{end}")})
    link({data / f"dict.{side}.txt": run.output / "converted" / "dict.txt" for side in ("source", "target")})
    return data


def tune(run: Run, start: str) -> None:
    """Fine-tune on the summaries; model and batches are the same, whatever the start."""
    options: dict[str, Any] = {
        **{"task": "long_document_summarization", "max_valid_steps": run.size.validation, "batch_size_valid": 4}
    }
    if start == "converted":
        options["finetune_from_model"] = run.output / "converted" / "model.pt"
    command = training(run, summaries(run), run.size.tuning, run.output / f"tuned_{start}")
    model = (run.output / "converted" / "arguments.txt").read_text(encoding="utf-8").split()
    process.run([*command, *model, *flags(options)], run.output / f"{start}.log")


STEPS: dict[str, Callable[[Run], None]] = {
    "pretrain": pretrain,
    "convert": convert,
    **{start: (lambda run, start=start: tune(run, start)) for start in STARTS},
}
