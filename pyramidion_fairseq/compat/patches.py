"""The table of all changes that importing the package makes to fairseq, Hydra and torch, and one call to make them."""

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
from .changes import LibraryChange, Patch

#: Patches in the order of installation: if two wrap the same function, the later one is the outer one. All are needed
#: with every fairseq that :mod:`~pyramidion_fairseq.utils.requirements` accepts. docs/architecture.md shows the table.
PATCHES = (
    Patch(
        missing_extensions.install,
        (
            LibraryChange(
                "fairseq.ngram_repeat_block.NGramRepeatBlock._no_repeat_ngram",
                "`--no-repeat-ngram-size` blocks nothing if fairseq has no CUDA extension",
                "replaced by a method that blocks repeated n-grams",
                "fairseq's fallback reads the generated tokens instead of padding",
            ),
            LibraryChange(
                "`sys.modules`: `fairseq.data.data_utils_fast`, `fairseq.data.token_block_utils_fast`",
                "nothing can be batched if fairseq's compiled extensions are missing",
                "if an extension is missing: replaced by an implementation in Python",
                "fairseq is always built with its extensions",
            ),
            LibraryChange(
                "the default of `--scoring`: sacrebleu",
                "the default of `fairseq-generate` needs compiled code",
                "if `fairseq.libbleu` is missing: sacrebleu is the default",
                "fairseq is always built with its extensions",
            ),
        ),
    ),
    Patch(
        whole_checkpoints.install,
        (
            LibraryChange(
                "fairseq.checkpoint_utils.PathManager",
                "a run that is killed while it copies to `checkpoint_best.pt` or `checkpoint_last.pt` truncates it",
                "copies are atomic",
                "fairseq copies to a temporary name first",
            ),
            LibraryChange(
                "fairseq.checkpoint_utils.torch_persistent_save",
                "a run that is killed while it saves leaves a truncated file; a full disk ends in a traceback",
                "writes are atomic; a full disk is a one-line error",
                "fairseq writes to a temporary name first",
            ),
            LibraryChange(
                "fairseq.checkpoint_utils.load_checkpoint",
                "a `checkpoint_last.pt` that is damaged or of another model ends in a traceback; two runs in a folder "
                "overwrite each other's checkpoints",
                "the newest whole checkpoint is loaded; another model is a one-line error; the second run is refused",
                "fairseq falls back itself, and locks the folder",
            ),
        ),
    ),
    Patch(
        continued_runs.install,
        (
            LibraryChange(
                "fairseq.trainer.Trainer.state_dict",
                "checkpoints contain neither dictionaries nor the counters of `--patience` and the plateau scheduler",
                "checkpoints contain both",
                "fairseq saves them",
            ),
            LibraryChange(
                "fairseq.trainer.Trainer.load_checkpoint",
                "the counters of `--patience` and the plateau scheduler are lost; hours of pretraining count for the "
                "`--stop-time-hours` of fine-tuning; another dictionary and changed model options are accepted",
                "the counters are restored, unless `--best-checkpoint-metric` has changed; fine-tuning starts at 0 "
                "hours; another dictionary is refused; changed model options cause a warning",
                "fairseq restores the counters and compares dictionaries",
            ),
            LibraryChange(
                "fairseq.checkpoint_utils.load_checkpoint_to_cpu, while a run loads its checkpoint",
                "`--store-ema` ends in a KeyError if the loaded checkpoint has no moving average",
                "with `--store-ema`: the moving average of such a checkpoint is initialised from its weights",
                "fairseq keeps the weights until the average is initialised",
            ),
            LibraryChange(
                "fairseq.checkpoint_utils.load_checkpoint",
                "counters of an earlier run in the same process remain, and a run that had finished trains further",
                "the counters are reset; a run that had finished does not train further",
                "fairseq saves the counter of `--patience`",
            ),
            LibraryChange(
                "fairseq.data.iterators.GroupedIterator.__init__",
                "a run that continues within an epoch with another `--update-freq` skips the rest of it, or fails",
                "the rest of the epoch is read",
                "fairseq counts the remaining groups of batches",
            ),
            LibraryChange(
                "`fairseq_cli.train.train` and the attributes of `should_stop_early`, when a run loads its checkpoint",
                "`--patience` counts from 0 again",
                "`--patience` continues to count",
                "fairseq saves the counter of `--patience`",
            ),
        ),
    ),
    Patch(
        matching_data.install,
        (
            LibraryChange(
                "fairseq.checkpoint_utils.load_model_ensemble_and_task",
                "a model reads data of another dictionary of its size; unknown `--model-overrides` are ignored",
                "each checkpoint's dictionaries are compared with the task's; unknown names are refused",
                "fairseq compares dictionaries and refuses unknown names",
            ),
            LibraryChange(
                "fairseq.tasks.fairseq_task.FairseqTask.build_bpe",
                "a model reads pieces of another sentencepiece model or byte-level BPE",
                "the files are compared with the checkpoint's",
                "fairseq compares them",
            ),
            LibraryChange(
                "fairseq.tasks.translation.TranslationTask.setup_task",
                "shards `A:B` of a corpus may have different dictionaries; a path with `:` in it is read as two paths",
                "all shards must have the same dictionary; a path with `:` in it is refused",
                "fairseq compares all folders",
            ),
        ),
    ),
    Patch(
        cpu_training.install,
        (
            LibraryChange(
                "fairseq.options.parse_args_and_arch",
                "`--bf16` also sets `tpu`, which fails without torch_xla",
                "if torch_xla is not installed: `--bf16` does not set `tpu`",
                "`--bf16` does not set `tpu`",
            ),
            LibraryChange(
                "fairseq.models.distributed_fairseq_model.DistributedDataParallel",
                "`--ddp-backend pytorch_ddp --cpu` passes `device_ids`, which torch refuses",
                "replaced by a subclass that accepts models on a CPU",
                "fairseq passes no `device_ids` with `--cpu`",
            ),
        ),
    ),
    Patch(
        copied_tasks.install,
        (
            LibraryChange(
                "fairseq.tasks.fairseq_task.StatefulContainer.__getattr__",
                "`copy.deepcopy` and `pickle.loads` of a task or a loaded summariser recurse without end",
                "an attribute that is not set yet raises AttributeError",
                "fairseq's tasks can be copied",
            ),
            LibraryChange(
                "`copyreg.dispatch_table`: `fairseq.data.encoders.gpt2_bpe_utils.Encoder`",
                "a summariser with the BPE of GPT-2 (such as BART) can be neither copied nor pickled",
                "the encoder is rebuilt from its vocabulary and merges",
                "fairseq's encoder holds no reference to a module",
            ),
        ),
    ),
    Patch(
        shards.install,
        (
            LibraryChange(
                "fairseq.options.parse_args_and_arch",
                "`fairseq-generate` accepts `--num-shards` and `--shard-id` and ignores them",
                "`fairseq-generate` generates for this shard only; other commands refuse the options",
                "fairseq honours or refuses them",
            ),
            LibraryChange(
                "fairseq.options.parse_args_and_arch",
                "`fairseq-generate` with fairseq's own tasks skips a last batch that is no multiple of 8 documents",
                "the default of `--required-batch-size-multiple` is 1 for `fairseq-generate`",
                "fairseq skips no document of a test set",
            ),
        ),
    ),
    Patch(
        mistakes.install,
        (
            LibraryChange(
                "fairseq.options.parse_args_and_arch",
                "a misspelt option or name ends in a page of usage; a negative seed, invalid overrides and a file as "
                "`--results-path` end in a traceback; `--batch-size 0` puts all documents in one batch",
                "a one-line error that suggests the right name; sets `parser.error` of the command's parser",
                "never: it makes errors easier to read",
            ),
            LibraryChange(
                "fairseq.distributed.utils.call_main",
                "this package's architectures without its task, and more processes than GPUs, end in unrelated errors",
                "refused before anything starts",
                "fairseq refuses them",
            ),
            LibraryChange(
                "fairseq.tasks.setup_task",
                "with Hydra, an unknown task ends in a traceback",
                "a one-line error",
                "fairseq refuses it",
            ),
            LibraryChange(
                "fairseq.models.build_model",
                "with Hydra, an unknown architecture ends in a traceback",
                "a one-line error",
                "fairseq refuses it",
            ),
            LibraryChange(
                "fairseq.trainer.Trainer.__init__",
                "`--fp16` and `--amp` without a GPU, the default learning rate of 0.25, invalid betas and a missing "
                "`--finetune-from-model` fail late or not at all",
                "refused before training",
                "fairseq refuses them",
            ),
        ),
    ),
    Patch(
        input_lines.install,
        (
            LibraryChange(
                "`fairseq_cli.interactive.buffered_read`, when a command of fairseq starts",
                "a CR within a line splits a document in two; a byte that is not UTF-8 ends in a traceback",
                "only LF ends a document; invalid bytes are replaced, with a warning",
                "fairseq splits lines at LF only",
            ),
        ),
    ),
    Patch(
        several_processes.install,
        (
            LibraryChange(
                "fairseq.distributed.utils.call_main",
                "`--cpu` under torchrun divides by the number of GPUs, which is 0; with `env://` all processes have "
                "rank 0; on a machine with GPUs, `--cpu` starts one process per GPU",
                "the launchers' environment variables are read; without a launcher, `--cpu` is one process",
                "fairseq reads the launchers' environment variables with `--cpu`",
            ),
            LibraryChange(
                "fairseq.distributed.utils.distributed_init",
                "processes with different versions of the packages train together without a warning",
                "refused",
                "fairseq compares the versions",
            ),
            LibraryChange(
                "fairseq.checkpoint_utils.load_checkpoint",
                "training hangs if only some processes see the checkpoint",
                "refused in all processes",
                "fairseq checks all processes",
            ),
        ),
    ),
    Patch(
        run_log.install,
        (
            LibraryChange(
                "fairseq.trainer.Trainer.__init__",
                "the log has no short summary of the run",
                "the log starts with data, model, device and batch",
                "never: it makes the log easier to read",
            ),
            LibraryChange(
                "fairseq.trainer.Trainer.begin_epoch",
                "configuration and model fill the log",
                "they are written to `run.txt` next to the checkpoints",
                "never: it makes the log easier to read",
            ),
            LibraryChange(
                "filters of fairseq's loggers, of warnings by name",
                "messages of no use to a user fill the log",
                "they are filtered for this package's task and its subclasses, unless `--verbose` is given",
                "never: it makes the log easier to read",
            ),
        ),
    ),
    Patch(
        checkpoints.install,
        (
            LibraryChange(
                "fairseq.checkpoint_utils.torch",
                "a checkpoint can run any code, and exhaust memory",
                "replaced by a module whose `load` checks the file; everything else is torch's",
                "fairseq loads with `weights_only` and limits the size of what it reads",
            ),
            LibraryChange(
                "fairseq.checkpoint_utils.load_model_ensemble_and_task",
                "weights that are not finite produce meaningless output",
                "refused",
                "fairseq refuses them",
            ),
            LibraryChange(
                "torch._weights_only_unpickler._marked_safe_globals_set",
                "a fairseq checkpoint cannot be read with `weights_only`",
                "`torch.serialization.add_safe_globals` is called with the types in fairseq's checkpoints "
                "(`argparse.Namespace`, restricted versions of numpy's arrays, ...)",
                "fairseq's checkpoints contain plain types only",
            ),
        ),
    ),
    Patch(
        diagnosis.install,
        (
            LibraryChange(
                "fairseq.trainer.NanDetector",
                "the detector fails on an encoder that returns a dict",
                "replaced by a detector that names the layer and the documents",
                "fairseq's detector accepts dicts",
            ),
        ),
    ),
    Patch(
        errors.install_excepthook,
        (
            LibraryChange(
                "hydra.core.utils.JobReturn.return_value",
                "with Hydra 1.1 and later an error in `fairseq-hydra-train` ends in a traceback",
                "in commands of fairseq: a `PyramidionError` is printed as one line",
                "Hydra lets errors through",
            ),
            LibraryChange(
                "`sys.excepthook`",
                "an error ends in a traceback",
                "in commands of fairseq: a `PyramidionError` is printed as one line, unless "
                "`PYRAMIDION_TRACEBACK=1` is set",
                "never: it prints this package's own errors",
            ),
        ),
    ),
)


def install() -> None:
    """Make all changes of :data:`PATCHES`. Further calls do nothing.

    It has to be called when the plugin is imported. fairseq reads ``--user-dir`` before the other options of a
    command, so that their defaults can still be changed at that time.
    """
    for patch in PATCHES:
        patch.install()
