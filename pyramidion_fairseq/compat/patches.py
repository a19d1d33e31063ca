"""What importing the package changes in fairseq, Hydra and torch: one table, installed by one call."""

from __future__ import annotations

from .. import checkpoints, errors
from ..tasks import diagnosis
from . import (
    continued_runs,
    copied_tasks,
    cpu_training,
    input_lines,
    matching_data,
    missing_extensions,
    mistakes,
    run_log,
    several_processes,
    shards,
    whole_checkpoints,
)
from .changes import Change, Patch

#: In the order in which they are installed, and in which those of the same function wrap each other. All are needed
#: with every fairseq that :mod:`~pyramidion_fairseq.utils.requirements` takes. docs/architecture.md shows this table.
PATCHES = (
    Patch(
        missing_extensions.install,
        (
            Change(
                "fairseq.ngram_repeat_block.NGramRepeatBlock._no_repeat_ngram",
                "`--no-repeat-ngram-size` blocks nothing where fairseq has no CUDA extension",
                "replaced by one that blocks",
                "fairseq's fallback looks at the written tokens, not at padding",
            ),
            Change(
                "`sys.modules`: `fairseq.data.data_utils_fast`, `fairseq.data.token_block_utils_fast`",
                "nothing is batched where fairseq's compiled extensions are missing",
                "there alone: replaced by batching and blocks of text in Python",
                "fairseq is built with its extensions",
            ),
            Change(
                "the default of `--scoring`: sacrebleu",
                "the default of `fairseq-generate` needs compiled code",
                "only where `fairseq.libbleu` is missing: a default that works",
                "fairseq is built with its extensions",
            ),
        ),
    ),
    Patch(
        whole_checkpoints.install,
        (
            Change(
                "fairseq.checkpoint_utils.PathManager",
                "a copy (`checkpoint_best.pt`, `checkpoint_last.pt`) of a run that is killed meanwhile is a torso",
                "a copy is there whole or not at all",
                "fairseq copies to a temporary name first",
            ),
            Change(
                "fairseq.checkpoint_utils.torch_persistent_save",
                "a file that is saved while the run is killed is a torso; a full disk ends in a traceback",
                "a file is there whole or not at all; a full disk is one line",
                "fairseq writes to a temporary name first",
            ),
            Change(
                "fairseq.checkpoint_utils.load_checkpoint",
                "a damaged `checkpoint_last.pt`, and another model's, end in a traceback; two runs in one folder "
                "replace each other's checkpoints",
                "the newest whole checkpoint is taken; another model's is one line; the second run is refused",
                "fairseq falls back itself, and locks the folder",
            ),
        ),
    ),
    Patch(
        continued_runs.install,
        (
            Change(
                "fairseq.trainer.Trainer.state_dict",
                "the checkpoint does not say which dictionaries it belongs to, nor what `--patience` and the "
                "plateau scheduler have counted",
                "it carries both",
                "fairseq saves them",
            ),
            Change(
                "fairseq.trainer.Trainer.load_checkpoint",
                "what `--patience` and the plateau scheduler had counted is lost; a fine-tuned model's hours count "
                "for `--stop-time-hours`; data of another dictionary, other models of the same weights are taken",
                "the counts are taken up again, but where another metric decides what is best; fine-tuning begins at "
                "0 hours; such data are refused, such models are warned of",
                "fairseq takes up the counts and compares dictionaries",
            ),
            Change(
                "fairseq.checkpoint_utils.load_checkpoint_to_cpu, while a run loads its checkpoint",
                "`--store-ema` for a run, or a model to fine-tune, that had no moving average ends with KeyError",
                "with `--store-ema`: the moving average of such a checkpoint is its weights",
                "fairseq keeps the weights until the average has been made of them",
            ),
            Change(
                "fairseq.checkpoint_utils.load_checkpoint",
                "counts of another run in the process stay, and a run that had stopped goes on",
                "nothing is left of another run; a run that had stopped does not go on",
                "fairseq saves what patience has counted",
            ),
            Change(
                "fairseq.data.iterators.GroupedIterator.__init__",
                "a run that goes on inside of an epoch with another `--update-freq` leaves out its rest, or fails",
                "the rest is read",
                "fairseq counts the groups that are left",
            ),
            Change(
                "`fairseq_cli.train.train` and the attributes of `should_stop_early`, when a run loads its checkpoint",
                "`--patience` begins to count anew",
                "it goes on counting",
                "fairseq saves what it has counted",
            ),
        ),
    ),
    Patch(
        matching_data.install,
        (
            Change(
                "fairseq.checkpoint_utils.load_model_ensemble_and_task",
                "a model reads the tokens of another dictionary of the same size; names of `--model-overrides` that a "
                "checkpoint does not have are ignored",
                "each checkpoint's dictionaries are compared with the task's before its model is built; such names "
                "are refused",
                "fairseq compares dictionaries and refuses such names",
            ),
            Change(
                "fairseq.tasks.fairseq_task.FairseqTask.build_bpe",
                "a model reads the pieces of another sentencepiece model",
                "the sentencepiece model is compared with the checkpoint's",
                "fairseq compares it",
            ),
            Change(
                "fairseq.tasks.translation.TranslationTask.setup_task",
                "shards `A:B` of a corpus are taken whatever their dictionaries; a `:` in a path is read as two",
                "they must have one dictionary; a `:` in a path is refused with the reason",
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
                "`tpu` is set by `--tpu` alone",
                "fairseq sets `tpu` by `--tpu` alone",
            ),
            Change(
                "fairseq.models.distributed_fairseq_model.DistributedDataParallel",
                "`--ddp-backend pytorch_ddp --cpu` gives `device_ids`, which torch refuses",
                "replaced by a subclass that takes models on a CPU",
                "fairseq gives no `device_ids` with `--cpu`",
            ),
        ),
    ),
    Patch(
        copied_tasks.install,
        (
            Change(
                "fairseq.tasks.fairseq_task.StatefulContainer.__getattr__",
                "`copy.deepcopy` of a task, and of a loaded summariser, recurs without end; `pickle.loads`, too",
                "an attribute that is not there yet is missing, as in any object",
                "fairseq's copies",
            ),
            Change(
                "`copyreg.dispatch_table`: `fairseq.data.encoders.gpt2_bpe_utils.Encoder`",
                "a summariser with GPT-2's BPE, as BART's are, can be neither copied nor pickled",
                "it is built anew from its vocabulary and merges",
                "fairseq's encoder holds no module",
            ),
        ),
    ),
    Patch(
        shards.install,
        (
            Change(
                "fairseq.options.parse_args_and_arch",
                "`fairseq-generate` takes `--num-shards` and `--shard-id` and ignores them",
                "it generates that shard",
                "fairseq honours or refuses them",
            ),
            Change(
                "fairseq.options.parse_args_and_arch",
                "`fairseq-generate` with tasks of fairseq leaves out a last batch of no multiple of 8 documents",
                "`--required-batch-size-multiple` is 1 for it, unless it is given",
                "fairseq leaves out no document of a test set",
            ),
        ),
    ),
    Patch(
        mistakes.install,
        (
            Change(
                "fairseq.options.parse_args_and_arch",
                "a mistyped option or name ends in a page of usage; a seed below 0, overrides that are none, a file "
                "as `--results-path` in a traceback; `--batch-size 0` makes one batch of all documents",
                "one line, with what was meant; `parser.error` of the command's parser is set",
                "never: it is about what users read first",
            ),
            Change(
                "fairseq.distributed.utils.call_main",
                "an architecture of ours without its task, and more processes than GPUs, fail somewhere inside",
                "refused before anything starts",
                "fairseq refuses them",
            ),
            Change(
                "fairseq.tasks.setup_task",
                "with Hydra, a task that is not there ends in a traceback",
                "one line",
                "fairseq refuses it",
            ),
            Change(
                "fairseq.models.build_model",
                "with Hydra, an architecture that is not there ends in a traceback",
                "one line",
                "fairseq refuses it",
            ),
            Change(
                "fairseq.trainer.Trainer.__init__",
                "`--fp16` and `--amp` without a GPU, a learning rate left at 0.25, betas that are none, a missing "
                "`--finetune-from-model` fail late or not at all",
                "refused before training",
                "fairseq refuses them",
            ),
        ),
    ),
    Patch(
        input_lines.install,
        (
            Change(
                "`fairseq_cli.interactive.buffered_read`, when a command of fairseq begins",
                "a CR, inside of a line, makes two documents of one; a byte that is no UTF-8 ends in a traceback",
                "LF alone ends a document; such bytes are replaced, with a warning",
                "fairseq reads lines that end in LF",
            ),
        ),
    ),
    Patch(
        several_processes.install,
        (
            Change(
                "fairseq.distributed.utils.call_main",
                "`--cpu` under torchrun divides by the number of GPUs, 0; with `env://` every process is number 0; "
                "beside GPUs, `--cpu` starts a process for each of them",
                "the launchers' variables are read; without a launcher `--cpu` is one process",
                "fairseq reads the launchers' variables with `--cpu`",
            ),
            Change(
                "fairseq.distributed.utils.distributed_init",
                "processes of other versions train together without a word",
                "refused",
                "fairseq compares them",
            ),
            Change(
                "fairseq.checkpoint_utils.load_checkpoint",
                "where only some processes see the checkpoint, these send what the others do not wait for",
                "refused in all processes",
                "fairseq asks all of them",
            ),
        ),
    ),
    Patch(
        run_log.install,
        (
            Change(
                "fairseq.trainer.Trainer.__init__",
                "the log does not say in a few lines what runs",
                "it begins with data, model, device, batch",
                "never: it is about what users read first",
            ),
            Change(
                "fairseq.trainer.Trainer.begin_epoch",
                "configuration and model fill the log",
                "they are written to `run.txt` beside the checkpoints",
                "never: it is about what users read first",
            ),
            Change(
                "filters of fairseq's loggers, of warnings by name",
                "messages that tell a user nothing fill the log",
                "they are filtered, for our task and those that extend it; `--verbose` leaves all",
                "never: it is about what users read first",
            ),
        ),
    ),
    Patch(
        checkpoints.install,
        (
            Change(
                "fairseq.checkpoint_utils.torch",
                "a checkpoint can run any code, and fill memory",
                "replaced by a module whose `load` checks the file; all else is torch's",
                "fairseq loads with `weights_only` and bounds what it reads",
            ),
            Change(
                "fairseq.checkpoint_utils.load_model_ensemble_and_task",
                "weights that are not finite write nonsense",
                "refused",
                "fairseq refuses them",
            ),
            Change(
                "torch._weights_only_unpickler._marked_safe_globals_set",
                "a fairseq checkpoint cannot be read with `weights_only`",
                "`torch.serialization.add_safe_globals` of its types (`argparse.Namespace`, numpy's scalars "
                "behind guards, ...)",
                "fairseq's checkpoints hold plain types",
            ),
        ),
    ),
    Patch(
        diagnosis.install,
        (
            Change(
                "fairseq.trainer.NanDetector",
                "it fails on an encoder that returns a dict",
                "replaced by ours, which names the layer and the documents",
                "fairseq's takes dicts",
            ),
        ),
    ),
    Patch(
        errors.install_excepthook,
        (
            Change(
                "hydra.core.utils.JobReturn.return_value",
                "with Hydra 1.1 and later an error in `fairseq-hydra-train` ends in a traceback",
                "in commands of fairseq: a `PyramidionError` is one line",
                "Hydra lets errors through",
            ),
            Change(
                "`sys.excepthook`",
                "an error ends in a traceback",
                "in commands of fairseq: a `PyramidionError` is one line; `PYRAMIDION_TRACEBACK=1` leaves the "
                "traceback",
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
