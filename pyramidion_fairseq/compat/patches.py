"""The attributes of fairseq and Hydra that importing the package replaces: one table, installed by one call.

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


class Patch(NamedTuple):
    """One change."""

    targets: tuple[str, ...]
    """What is replaced, by its dotted name."""
    reason: str
    """What fairseq does without it."""
    until: str
    """When it can go."""
    install: Callable[[], None]
    """Makes the change. Called again, it does nothing."""


#: In the order in which they are installed: those that wrap the same function wrap each other in this order. All are
#: needed with fairseq 0.12.2 and fairseq-fixed 0.12.3.1, the releases that setup.py takes.
PATCHES = (
    Patch(
        (
            "fairseq.data.data_utils_fast",
            "fairseq.data.token_block_utils_fast",
            "fairseq.registry.REGISTRIES['scoring']",
            "fairseq.ngram_repeat_block.NGramRepeatBlock._no_repeat_ngram",
        ),
        "without its compiled extensions it makes no batches, scores nothing, and blocks no n-grams",
        "fairseq has wheels with all extensions",
        missing_extensions.install,
    ),
    Patch(
        (
            "fairseq.checkpoint_utils.PathManager",
            "fairseq.checkpoint_utils.torch_persistent_save",
            "fairseq.checkpoint_utils.load_checkpoint",
        ),
        "a run that is killed while it saves leaves a file that is cut off, and cannot continue",
        "fairseq writes to a new file and renames it",
        whole_checkpoints.install,
    ),
    Patch(
        (
            "fairseq.trainer.Trainer.state_dict",
            "fairseq.trainer.Trainer.load_checkpoint",
            "fairseq.checkpoint_utils.load_checkpoint",
        ),
        "patience and the best score start anew when a run continues, and data of another dictionary is taken",
        "fairseq's checkpoints hold patience, the metric's name and the dictionaries",
        continued_runs.install,
    ),
    Patch(
        (
            "fairseq.checkpoint_utils.load_model_ensemble_and_task",
            "fairseq.tasks.FairseqTask.build_bpe",
            "fairseq.tasks.translation.TranslationTask.setup_task",
        ),
        "a model takes data of another dictionary of the same size and writes garbage, with exit status 0",
        "fairseq compares dictionaries",
        matching_data.install,
    ),
    Patch(
        ("fairseq.options.parse_args_and_arch", "fairseq.models.distributed_fairseq_model.DistributedDataParallel"),
        "--bf16 asks for a TPU, and its default of --ddp-backend gives a GPU's number to a model on a CPU",
        "fairseq asks for the device first",
        cpu_training.install,
    ),
    Patch(
        ("fairseq.options.parse_args_and_arch",),
        "--num-shards and --shard-id are ignored: every shard summarises all documents",
        "fairseq-generate passes them to its iterator",
        shards.install,
    ),
    Patch(
        (
            "fairseq.options.parse_args_and_arch",
            "fairseq.distributed.utils.call_main",
            "fairseq.tasks.setup_task",
            "fairseq.models.build_model",
            "fairseq.trainer.Trainer.__init__",
        ),
        "mistakes on the command line end in a traceback, in a page of usage, or in a model trained to nothing",
        "never: it is about this package's architectures",
        mistakes.install,
    ),
    Patch(
        (
            "fairseq.distributed.utils.call_main",
            "fairseq.distributed.utils.distributed_init",
            "fairseq.checkpoint_utils.load_checkpoint",
        ),
        "processes on CPUs that torchrun or Slurm has started end in a ZeroDivisionError, or wait for each other",
        "fairseq reads the launchers' variables with --cpu, and compares its processes",
        several_processes.install,
    ),
    Patch(
        (
            "fairseq.trainer.Trainer.__init__",
            "fairseq.trainer.Trainer.begin_epoch",
            "logging filters of fairseq's loggers",
            "warnings filters (in a command of fairseq, without --verbose)",
        ),
        "a run's log begins with pages of options, modules and warnings of other packages",
        "never: it is about what users read first",
        run_log.install,
    ),
    Patch(
        ("fairseq.checkpoint_utils.torch", "fairseq.checkpoint_utils.load_model_ensemble_and_task"),
        "a checkpoint runs whatever code is in it",
        "fairseq reads with torch's weights_only, and bounds the options that it evaluates",
        checkpoints.install,
    ),
    Patch(
        ("fairseq.trainer.NanDetector",),
        "its own detector fails on encoders whose output is a dict of lists",
        "its hooks take them",
        diagnosis.install,
    ),
    Patch(
        ("sys.excepthook (in a command of fairseq)", "hydra.core.utils.JobReturn.return_value"),
        "an error of this package ends in a traceback",
        "never: it is about this package's errors",
        errors.install_excepthook,
    ),
)


def install() -> None:
    """Make all changes of :data:`PATCHES`. Calling it again does nothing.

    Call it when the plugin is imported: ``--user-dir`` is read before the command's options are, so that defaults of
    options can still be changed.
    """
    for patch in PATCHES:
        patch.install()
