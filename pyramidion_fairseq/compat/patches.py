"""What importing the package changes in fairseq, Hydra and torch: one table, installed by one call.

Whole checkpoints are those of :mod:`.whole_checkpoints`: a file is there whole or not at all.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

from .. import checkpoints, errors
from ..tasks import diagnosis
from . import (
    continued_runs,
    cpu_training,
    matching_data,
    missing_extensions,
    mistakes,
    run_log,
    several_processes,
    shards,
    whole_checkpoints,
)


class Change(NamedTuple):
    """One thing that is changed."""

    target: str
    """What is replaced or wrapped, by its dotted name; in words where it is no attribute."""
    reason: str
    """What fairseq does without it, or what is done instead."""
    until: str
    """When it can go."""


class Patch(NamedTuple):
    """The changes that one module makes."""

    install: Callable[[], None]
    """Makes the changes. Called again, it does nothing."""
    changes: tuple[Change, ...]


#: In the order in which they are installed: those that wrap the same function wrap each other in this order. All are
#: needed with every fairseq that :mod:`~pyramidion_fairseq.utils.requirements` takes. docs/architecture.md shows this
#: table: scripts/write_patches.py writes it.
PATCHES = (
    Patch(
        missing_extensions.install,
        (
            Change(
                "fairseq.ngram_repeat_block.NGramRepeatBlock._no_repeat_ngram",
                "replaced: without fairseq's CUDA extension `--no-repeat-ngram-size` blocks nothing",
                "fairseq's fallback looks at the written tokens, not at padding",
            ),
            Change(
                "`sys.modules`: `fairseq.data.data_utils_fast`, `fairseq.data.token_block_utils_fast`",
                "only where fairseq's compiled ones are missing: batching and blocks of text in Python",
                "fairseq is built with its extensions",
            ),
            Change(
                "the default of `--scoring`: sacrebleu",
                "only where `fairseq.libbleu` is missing: the default of `fairseq-generate` needs compiled code",
                "the same",
            ),
        ),
    ),
    Patch(
        whole_checkpoints.install,
        (
            Change(
                "fairseq.checkpoint_utils.PathManager",
                "copies (`checkpoint_best.pt`, `checkpoint_last.pt`) are whole or not there",
                "fairseq copies to a temporary name first",
            ),
            Change(
                "fairseq.checkpoint_utils.torch_persistent_save",
                "the same for files that are saved; a full disk is one line",
                "fairseq writes to a temporary name first",
            ),
            Change(
                "fairseq.checkpoint_utils.load_checkpoint",
                "a damaged `checkpoint_last.pt` is replaced by the newest whole one; another model is one line",
                "fairseq falls back itself",
            ),
        ),
    ),
    Patch(
        continued_runs.install,
        (
            Change(
                "fairseq.trainer.Trainer.state_dict",
                "the checkpoint carries the dictionaries, and what `--patience` and the plateau scheduler have "
                "counted",
                "fairseq saves them",
            ),
            Change(
                "fairseq.trainer.Trainer.load_checkpoint",
                "takes these counts up again; refuses data of another dictionary; begins anew where another metric "
                "decides what is best",
                "fairseq does",
            ),
            Change(
                "fairseq.checkpoint_utils.load_checkpoint",
                "nothing is left of another run in the process; a run that had stopped does not go on",
                "fairseq saves what patience has counted",
            ),
            Change(
                "`fairseq_cli.train.train` and the attributes of `should_stop_early`, when a run loads its checkpoint",
                "`--patience` goes on counting",
                "fairseq saves what it has counted",
            ),
        ),
    ),
    Patch(
        matching_data.install,
        (
            Change(
                "fairseq.checkpoint_utils.load_model_ensemble_and_task",
                "each checkpoint's dictionaries are compared with the task's before its model is built",
                "fairseq compares them",
            ),
            Change(
                "fairseq.tasks.fairseq_task.FairseqTask.build_bpe",
                "the sentencepiece model is compared with the checkpoint's",
                "fairseq compares it",
            ),
            Change(
                "fairseq.tasks.translation.TranslationTask.setup_task",
                "shards `A:B` of one corpus must have one dictionary; a `:` in a path is refused with the reason",
                "fairseq compares all folders",
            ),
        ),
    ),
    Patch(
        cpu_training.install,
        (
            Change(
                "fairseq.options.parse_args_and_arch",
                "`--bf16` is taken for `--tpu` and stops without torch_xla",
                "fairseq sets `tpu` by `--tpu` alone",
            ),
            Change(
                "fairseq.models.distributed_fairseq_model.DistributedDataParallel",
                "replaced by a subclass that takes models on a CPU, which `--ddp-backend pytorch_ddp --cpu` does not",
                "fairseq gives no `device_ids` with `--cpu`",
            ),
        ),
    ),
    Patch(
        shards.install,
        (
            Change(
                "fairseq.options.parse_args_and_arch",
                "`fairseq-generate` takes `--num-shards` and `--shard-id` and ignores them",
                "fairseq honours or refuses them",
            ),
        ),
    ),
    Patch(
        mistakes.install,
        (
            Change(
                "fairseq.options.parse_args_and_arch",
                "a mistyped option or name ends in a page of usage; `parser.error` of the command's parser is set",
                "never: it is about what users read first",
            ),
            Change(
                "fairseq.distributed.utils.call_main",
                "an architecture of ours without its task, and more processes than GPUs, are refused before anything "
                "starts",
                "fairseq refuses them",
            ),
            Change(
                "fairseq.tasks.setup_task",
                "with Hydra, a task that is not there ends in a traceback",
                "fairseq refuses it",
            ),
            Change(
                "fairseq.models.build_model",
                "with Hydra, an architecture that is not there ends in a traceback",
                "fairseq refuses it",
            ),
            Change(
                "fairseq.trainer.Trainer.__init__",
                "`--fp16` without a GPU, a learning rate left at 0.25, betas that are none, a missing "
                "`--finetune-from-model` are refused",
                "fairseq refuses them",
            ),
        ),
    ),
    Patch(
        several_processes.install,
        (
            Change(
                "fairseq.distributed.utils.call_main",
                "`--cpu` under torchrun divides by the number of GPUs, 0; with `env://` every process is number 0",
                "fairseq reads the launchers' variables with `--cpu`",
            ),
            Change(
                "fairseq.distributed.utils.distributed_init",
                "processes of other versions train together without a word",
                "fairseq compares them",
            ),
            Change(
                "fairseq.checkpoint_utils.load_checkpoint",
                "where only some processes see the checkpoint, these send what the others do not wait for",
                "fairseq asks all of them",
            ),
        ),
    ),
    Patch(
        run_log.install,
        (
            Change(
                "fairseq.trainer.Trainer.__init__",
                "the log begins with what runs: data, model, device, batch",
                "never: it is about what users read first",
            ),
            Change(
                "fairseq.trainer.Trainer.begin_epoch",
                "configuration and model are written to `run.txt` beside the checkpoints instead of to the log",
                "never: it is about what users read first",
            ),
            Change(
                "filters of fairseq's loggers, of warnings by name",
                "the log of a run fits on a screen; filters of logs work for our task only, `--verbose` leaves all",
                "never: it is about what users read first",
            ),
        ),
    ),
    Patch(
        checkpoints.install,
        (
            Change(
                "fairseq.checkpoint_utils.torch",
                "replaced by a module whose `load` checks the file; all else is torch's",
                "fairseq loads with `weights_only` and bounds what it reads",
            ),
            Change(
                "fairseq.checkpoint_utils.load_model_ensemble_and_task",
                "weights that are not finite are refused",
                "fairseq refuses them",
            ),
            Change(
                "torch._weights_only_unpickler._marked_safe_globals_set",
                "by `torch.serialization.add_safe_globals`: the types of a fairseq checkpoint (`argparse.Namespace`, "
                "numpy's scalars behind guards, ...) can be read with `weights_only`",
                "fairseq's checkpoints hold plain types",
            ),
        ),
    ),
    Patch(
        diagnosis.install,
        (
            Change(
                "fairseq.trainer.NanDetector",
                "replaced: fairseq's fails on an encoder that returns a dict; ours names the layer and the documents",
                "fairseq's takes dicts",
            ),
        ),
    ),
    Patch(
        errors.install_excepthook,
        (
            Change(
                "hydra.core.utils.JobReturn.return_value",
                "in commands of fairseq, with Hydra 1.1 and later: `fairseq-hydra-train` ends with the line of a "
                "`PyramidionError`, not with a traceback",
                "Hydra lets errors through",
            ),
            Change(
                "`sys.excepthook`",
                "in commands of fairseq: a `PyramidionError` is one line; `PYRAMIDION_TRACEBACK=1` leaves it",
                "never: it is about this package's errors",
            ),
        ),
    ),
)


def install() -> None:
    """Make all changes of :data:`PATCHES`. Calling it again does nothing.

    Call it when the plugin is imported: ``--user-dir`` is read before the command's options are, so that defaults of
    options can still be changed.
    """
    for patch in PATCHES:
        patch.install()
