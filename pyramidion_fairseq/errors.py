"""Errors caused by users: one clear line that says what is wrong and what to do."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Iterator

#: First words of errors that fairseq and torch raise about options and data, with the line to show instead.
_FAIRSEQ_ERRORS = {
    "Must specify batch size": "how large is a batch? --batch-size 2 (documents) or --max-tokens 16384 (padded "
    "tokens) is needed, with Hydra dataset.batch_size=2 or dataset.max_tokens=16384",
    "Provided Search parameters are mutually exclusive": "--sampling, --diverse-beam-groups, --diversity-rate and "
    "--match-source-len are searches that exclude each other: give one of them",
    "Size of sample #": "documents or summaries are longer than this task takes: --task "
    "long_document_summarization cuts them (fairseq's own: --task translation --truncate-source)",
    "The dataset is empty": "no document fits into a batch: a larger --max-tokens, or --batch-size instead",
    "Sentences lengths should not exceed max_tokens": "a document or summary has more tokens than a batch may have: a "
    "larger --max-tokens, or --batch-size instead",
    "Optimizer does not match": "the checkpoint to continue is of another --optimizer: take the same, or with "
    "--reset-optimizer begin its state anew",
    "Criterion does not match": "the checkpoint to continue is of another --criterion: take the same, or with "
    "--reset-optimizer begin the optimizer's state anew",
    "please specify steps or phase_ratio": "--lr-scheduler tri_stage needs --warmup-steps, --hold-steps and "
    "--decay-steps, or --phase-ratio",
    "Either --max_update or --lr-period-updates": "--lr-scheduler cosine needs --max-update, or --lr-period-updates",
    "Cannot use a fixed learning rate schedule with": "several learning rates (--lr A,B), one for each epoch, are for "
    "--lr-scheduler fixed: give one",
    "max_lr must be more than lr": "--lr-scheduler triangular needs a --max-lr above --lr, which it goes up from",
    "Pass-through schedule can only be used": "--lr-scheduler pass_through is for optimizers with a schedule of their "
    "own, as composite: take fixed",
    "Cannot combine manual lr and relative_step": "--optimizer adafactor: with --relative-step it takes no learning "
    "rate, and fairseq always gives one: leave it out",
    "warmup_init requires relative_step": "--optimizer adafactor: --warmup-init needs --relative-step, which takes no "
    "learning rate, and fairseq always gives one: leave it out, and give --warmup-updates",
    "AdaptiveLoss is not compatible": "--criterion adaptive_loss needs --ddp-backend legacy_ddp",
    "Unknown post_process option": "--post-process (--remove-bpe) takes sentencepiece, wordpiece, letter, silence, "
    "_EOW, subword_nmt or none",
    "--share-all-embeddings requires --encoder-embed-dim": "--share-all-embeddings, which named architectures "
    "set, needs the same --encoder-embed-dim and --decoder-embed-dim",
    "Cannot combine --fp16 and --tpu": "--fp16 and --bf16 exclude each other, and --fp16 and --tpu: give one of them",
    "Cannot resume training due to dataloader mismatch": "the checkpoint to continue is of a place in the data behind "
    "the last batch, which there is with fewer documents or larger batches: the same data and --batch-size, or with "
    "--reset-dataloader begin the data anew",
    "Index file doesn't match expected format": "the data is not of this --dataset-impl: leave the option out",
}
#: Hydra's error for a chosen component of fairseq with a missing option.
_WITHOUT_VALUE = re.compile(r"Error merging override (\w+)\.(\w+)=null")
#: omegaconf's error for a variant that is not registered.
_UNKNOWN_VARIANT = re.compile(
    r"Invalid value '([^']*)', expected one of [^]]*\]\s+full_key: (scorer|pooler|attention)\b"
)
#: gloo's errors for a process that does not respond.
_LOST_CONNECTION = re.compile(r"[Cc]onnection (closed|reset|refused)|Broken pipe|[Tt]imed out|Timeout|Socket closed")


class PyramidionError(ValueError):
    """Invalid input from the user: options, data or a checkpoint. The message is a single readable line."""


@contextmanager
def user_errors(what: object, verb: str = "read") -> Iterator[None]:
    """Convert errors from reading a file, whose content may be anything, to a single line.

    Raises:
        PyramidionError: "WHAT cannot be VERB: ..." for any error except OSError, MemoryError and PyramidionError.
    """
    try:
        yield
    except (PyramidionError, OSError, MemoryError):
        raise
    except KeyError as error:
        raise PyramidionError(f"{what} cannot be {verb}: {one_line(error)} is missing in it") from error
    except Exception as error:
        unknown = _UNKNOWN_VARIANT.search(str(error))
        if unknown:
            raise PyramidionError(
                f"{what} cannot be {verb}: there is no {unknown[2]} {unknown[1]!r}: --user-dir imports the package "
                "that has it (from Python: import it first)"
            ) from error
        raise PyramidionError(f"{what} cannot be {verb}: {type(error).__name__}: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, cut after 300 characters, or its type if it has no message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."


def is_fairseq_command() -> bool:
    """Return whether this process runs a command of fairseq: its script, or a module of ``fairseq_cli``."""
    program = os.path.abspath(sys.argv[0]) if sys.argv and sys.argv[0] else ""
    return os.path.basename(program).startswith("fairseq-") or os.path.dirname(program).endswith("fairseq_cli")


def install_excepthook() -> None:
    """Make fairseq's commands end with the single line of a :class:`PyramidionError`, without a traceback.

    Applies only to processes started as a command of fairseq, not to other programs that import the package. Includes
    errors of the processes that such a command starts, one for each GPU. The exit status is 1, as for any uncaught
    exception. ``PYRAMIDION_TRACEBACK=1`` keeps the traceback.
    """
    previous = sys.excepthook
    if not is_fairseq_command() or os.environ.get("PYRAMIDION_TRACEBACK") or getattr(previous, "in_one_line", False):
        return

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        line = _user_message(error)
        if line is None:
            previous(kind, error, traceback)
        else:
            sys.stderr.write(f"error: {line}\n")

    setattr(hook, "in_one_line", True)  # noqa: B010 -- a mark, which functions have no type for
    sys.excepthook = hook
    _patch_hydra_traceback()


def _user_message(error: BaseException) -> str | None:
    """Return the line with which a command ends instead of a traceback, or None."""
    if isinstance(error, PyramidionError):
        return str(error)
    return (
        _child_process_message(error)
        or _lost_process_message(error)
        or _fairseq_message(error)
        or _missing_value_message(error)
        or _missing_package_message(error)
        or _user_dir_message(error)
        or _file_message(error)
    )


def _fairseq_message(error: BaseException) -> str | None:
    """Return the message for an error of fairseq about its options, or None.

    Assertions such as "--temperature must be greater than 0" are returned as they are.
    """
    if type(error) not in (AssertionError, ValueError, RuntimeError, Exception, NotImplementedError):
        return None
    text = one_line(error)
    found = next((line for begin, line in _FAIRSEQ_ERRORS.items() if text.startswith(begin)), None)
    is_of_option = isinstance(error, AssertionError) and re.match("--[a-z]", text)
    return found or (text if is_of_option else None)


def _missing_value_message(error: BaseException) -> str | None:
    """Return which option a choice such as ``--lr-scheduler polynomial_decay`` requires, or None."""
    found = _WITHOUT_VALUE.match(one_line(error))
    if found is None:
        return None
    part, name = (word.replace("_", "-") for word in found.groups())
    return f"--{name} is needed with this --{part}"


def _missing_package_message(error: BaseException) -> str | None:
    """Return fairseq's message about a package that an option needs, or None."""
    text = one_line(error)
    return text if type(error) is ImportError and re.match(r"(Cannot find \w+\. )?Please install ", text) else None


def _user_dir_message(error: BaseException) -> str | None:
    """Return what is wrong with ``--user-dir``, if this package was imported before fairseq reads it, or None.

    If a wrong folder is the only plugin, this package is not imported and cannot report it.
    """
    if not any(word.partition("=")[0] == "--user-dir" for word in sys.argv):
        return None
    text = one_line(error)
    if type(error) is FileNotFoundError and error.filename is None:
        return f"--user-dir: there is no folder {text}"
    return text if type(error) is ImportError and text.startswith("Failed to import --user-dir=") else None


def _file_message(error: BaseException) -> str | None:
    """Return what is wrong with a file or folder, for example that it does not exist; None for other errors."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return None


def _child_process_message(error: BaseException) -> str | None:
    """Return the message of a PyramidionError that ended a process of ``torch.multiprocessing.spawn``, or None."""
    if type(error).__name__ != "ProcessRaisedException":
        return None
    found = re.match(r"pyramidion_fairseq\.[\w.]+Error: (.+)", str(error).strip().splitlines()[-1])
    return found and found[1]


def _lost_process_message(error: BaseException) -> str | None:
    """Return the message for a process on another node or device that has ended or cannot be reached, or None."""
    if not isinstance(error, RuntimeError):
        return None
    of_torch = type(error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError")
    if not of_torch and not ("gloo" in str(error) and _LOST_CONNECTION.search(str(error))):
        return None
    reason = one_line(error).split("] ", 1)[-1].split(". ")[0]  # without the C++ location and advice
    return (
        f"another process of this training has ended or cannot be reached ({reason}): look at its log; the same "
        "command on every node continues from the last whole checkpoint"
    )


def _patch_hydra_traceback() -> None:
    """Make ``fairseq-hydra-train`` end with a single line too, although Hydra catches errors and prints tracebacks."""
    from hydra.core import utils

    job: Any = utils.JobReturn
    stock: Any = getattr(job, "return_value", None)
    if not isinstance(stock, property) or getattr(stock.fget, "in_one_line", False):
        return  # Hydra 1.0 has no such property
    read: Any = stock.fget

    def return_value(self: Any) -> Any:
        line = _user_message(self._return_value) if isinstance(self._return_value, BaseException) else None
        if line is not None:
            sys.exit(f"error: {line}")
        return read(self)

    patched: Any = return_value
    patched.in_one_line = True
    job.return_value = property(patched, stock.fset)
