"""Shared code of the console commands: options, model loading, output files, error handling and progress."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
import time
from itertools import chain, islice
from pathlib import Path
from typing import Any, Iterator, Mapping, TextIO

from ..errors import PyramidionError, user_errors
from ..pretrained import DEFAULT
from ..text import Document
from ..text.reading import FORMATS, read_documents
from ..utils import interrupts
from ..utils.files import atomic_write, is_pipe_or_device, is_same_file, is_written_into, write_text
from ..utils.quiet import WARNINGS, leave_out
from ..utils.requirements import VersionError
from ..utils.shards import WHOLE, Shard

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 10
#: The largest input, in bytes, whose documents are counted in advance by an extra read.
MOST_COUNTED = 2**26
#: Arguments of ``open`` for output. Lone surrogates, which JSON strings may contain, are written as escapes.
_LINES: Any = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose ``--help`` raises OSError if standard output cannot be written."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            (file or sys.stderr).write(message)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for :func:`load`."""
    group = parser.add_argument_group("model")
    add = group.add_argument
    add("--checkpoint", metavar="CKPT[:CKPT2...]", help=f"one, or several for an ensemble (default: {DEFAULT})")
    add("--data", metavar="DIR", help="folder with dict.*.txt (default: stored in the checkpoint, or its data)")
    add("--sentencepiece-model", metavar="FILE", help="default: sentencepiece.model next to the checkpoint or data")
    add_user_dir(group)
    add("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU if available)")
    text = "auto: the fastest for the device; bfloat16: faster on CPUs with AVX512-BF16 or AMX (default: float32)"
    add("--dtype", default="float32", choices=["auto", "float32", "bfloat16", "float16"], help=text)
    add("--fp16", action="store_true", help="same as --dtype float16 (GPU only)")


def add_user_dir(group: Any) -> None:
    """Add the option for :func:`import_user_dir`."""
    package = "your own package with the scorer, pooler or attention that the model was trained with"
    group.add_argument("--user-dir", metavar="DIR", help=package)


def import_user_dir(folder: str | None) -> None:
    """Import a package as ``fairseq-train --user-dir`` does, which registers its components.

    Raises:
        PyramidionError: the folder does not exist, or importing it fails.
    """
    from fairseq import utils

    if folder is None:
        return
    if not os.path.isdir(folder):
        raise PyramidionError(f"--user-dir: there is no folder {folder}")
    with user_errors(f"--user-dir {folder}", "imported"):
        utils.import_user_module(argparse.Namespace(user_dir=folder))


def add_input_options(parser: argparse.ArgumentParser, kinds: str, required: bool = False) -> None:
    """Add the options for :func:`documents_of`."""
    group = parser.add_argument_group("documents")
    parser.add_argument("file", nargs="?", metavar="FILE", help="same as --input FILE")
    default = "input file (required)" if required else "input file (default: -, standard input)"
    group.add_argument("--input", metavar="FILE", help=default)
    parser.set_defaults(input_required=required)
    group.add_argument("--input-format", default="auto", choices=FORMATS, help=kinds)
    names = "JSON field with the text (default: article_text, article, document or text)"
    group.add_argument("--field", help=names)


def add_pretrained_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``pyramidion-convert`` for a pretrained model: IN, OUT and its vocabulary."""
    add = parser.add_argument
    add("input", metavar="IN", type=Path, help="model.pt, or a Hugging Face directory")
    add("output", metavar="OUT", type=Path, help="output folder; must be empty or not exist")
    add("--dictionary", metavar="FILE", type=Path, default=None, help="dict.txt (default: next to the model)")
    kinds = "folder with encoder.json and vocab.bpe or with a sentencepiece model, or the latter's file"
    add("--bpe", metavar="FOLDER", type=Path, default=None, help=f"{kinds} (default: the model's folder)")


def add_generation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for :func:`generation_of`."""
    group = parser.add_argument_group("generation (defaults: the model's generation.json, otherwise the paper's)")
    group.add_argument("--beam", type=int, help="beam size (paper: 2)")
    group.add_argument("--lenpen", type=float, help="exponent of the length penalty (paper: 1)")
    group.add_argument("--min-len", type=int, help="minimum summary length in tokens (paper: 72)")
    group.add_argument("--max-len-b", type=int, help="maximum summary length in tokens (paper: 966)")
    group.add_argument("--no-repeat-ngram-size", type=int, help="do not repeat n-grams of this size (paper: 0, off)")
    group.add_argument("--batch-size", type=int, default=8, help="maximum documents per batch (default: 8)")
    group.add_argument("--max-tokens", type=int, help="maximum padded tokens per batch (default: no limit)")


def generation_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of ``summarize`` for the options that were given."""
    names = ("beam", "lenpen", "min_len", "max_len_b", "no_repeat_ngram_size", "batch_size", "max_tokens")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def load(args: argparse.Namespace, overrides: Mapping[str, Any] | None = None) -> Any:
    """Load the model that the options name and return its hub interface; ``overrides`` replace its options."""
    from .. import registered  # noqa: F401 -- takes a second or two, so --help does not import it
    from ..inference.loading import load_summarizer

    import_user_dir(args.user_dir)
    if args.checkpoint is None:
        logger.info(f"no --checkpoint given: using {DEFAULT}, a small model of PubMed articles")
        args.checkpoint = DEFAULT
    hub = load_summarizer(
        args.checkpoint, args.data, args.sentencepiece_model, args.device, args.fp16, overrides, args.dtype
    )
    interrupts.raise_swallowed()
    return hub


def input_of(args: argparse.Namespace) -> str:
    """Return the input file, "-" for standard input. Raise PyramidionError if two or a required none are given."""
    if args.file is not None and args.input is not None:
        raise PyramidionError(f"two inputs are given, {args.file} and --input {args.input}: give only one")
    given = args.file if args.file is not None else args.input
    if given is None and args.input_required:
        raise PyramidionError("no input file: give FILE or --input FILE")
    return given if given is not None else "-"


def documents_of(args: argparse.Namespace, whole: bool = False) -> Iterator[Document]:
    """Return the input's documents; the first is read at once, so that bad input fails early."""
    args.file, args.input = None, input_of(args)
    documents = read_documents(args.input, args.input_format, args.field, whole)
    return chain(list(islice(documents, 1)), documents)


@contextlib.contextmanager
def one_line_exit_and_log(command: str) -> Iterator[None]:
    """Apply :func:`one_line_exit`, and log to stderr only the messages of this package."""
    open_closed_streams()
    logging.basicConfig(format="%(levelname)s | %(message)s", level=logging.WARNING, stream=sys.stderr, force=True)
    logging.getLogger("pyramidion_fairseq").setLevel(logging.INFO)
    logging.getLogger("pyramidion_fairseq.compat").setLevel(logging.WARNING)
    leave_out(*WARNINGS)
    with one_line_exit(command):
        yield


@contextlib.contextmanager
def one_line_exit(command: str) -> Iterator[None]:
    """Turn errors that a user can cause into one line on stderr and exit status 1; an interruption exits with 130.

    A closed pipe on standard output exits with 1 and no message. No command exits with 0 after losing output.
    ``PYRAMIDION_TRACEBACK=1`` keeps the traceback of a :class:`PyramidionError`.
    """
    open_closed_streams()
    try:
        with _written_at_the_end(), interrupts.remembered():
            yield
    except BrokenPipeError:  # the reader closed the pipe, as head does
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write(f"{command}: interrupted\n")
        sys.exit(130)
    except io.UnsupportedOperation:
        sys.exit(f"{command}: error: standard output is closed: redirect it to a file, or use --output")
    except OSError as error:
        reason = str(error) if error.filename else f"the output cannot be written: {error.strerror or error}"
        sys.exit(f"{command}: error: {reason}")
    except (PyramidionError, VersionError) as error:
        if os.environ.get("PYRAMIDION_TRACEBACK"):
            raise
        sys.exit(f"{command}: error: {error}")
    except MemoryError:
        sys.exit(f"{command}: error: out of memory: use a smaller --batch-size, or shorter documents")


def open_closed_streams() -> None:
    """Replace closed standard streams: writing to stdout then raises, and what goes to stderr is discarded."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull)  # noqa: SIM115 - until the process ends
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


@contextlib.contextmanager
def _written_at_the_end() -> Iterator[None]:
    """Flush standard output at the end, also when ``--help`` exits.

    Raises:
        OSError: it cannot be written. It is then redirected to ``/dev/null``, or Python would print a traceback.
    """
    try:
        try:
            yield
        except SystemExit as ended:
            if not ended.code:
                sys.stdout.flush()
            raise
        sys.stdout.flush()
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            with contextlib.suppress(OSError):  # a test's stdout has no file descriptor
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def utf8_stdout() -> TextIO:
    """Return standard output as UTF-8 whatever the locale; surrogates, as in file names, are written as escapes."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(**_LINES)
    return sys.stdout


@contextlib.contextmanager
def open_output(path: str, append: bool = False) -> Iterator[TextIO]:
    """Open the output for lines of text; "-" is standard output."""
    if path == "-":
        yield utf8_stdout()
    else:
        append = append or is_written_into(path)
        with open(path, "a" if append else "w", **_LINES) as output:
            yield output


@contextlib.contextmanager
def open_whole_output(path: str) -> Iterator[TextIO]:
    """Open the output for lines of text; an existing file is replaced only after all lines are written."""
    if path == "-":
        yield utf8_stdout()
    else:
        with atomic_write(path) as file:
            output = io.TextIOWrapper(file, **_LINES)
            yield output
            output.detach()


def write_page(path: str, page: str) -> None:
    """Write a page atomically; "-" is standard output."""
    if path == "-":
        utf8_stdout().write(page)
    else:
        write_text(path, page)


def check_output(path: str, overwrite: bool, instead: str = "use --overwrite", source: str | None = None) -> None:
    """Check before the work begins that the output can be written.

    Pipes, devices and "-" (standard output) are not replaced: they need only differ from ``source``.

    Raises:
        PyramidionError: the output is the input ``source`` ("-" is standard input), exists and may not be overwritten
            (``instead`` says what to do), or is a folder; or its folder does not exist or is not writable.
    """
    _refuse_source(path, source)
    if path == "-" or is_written_into(path):
        return
    if os.path.exists(path) and not overwrite:
        raise PyramidionError(f"{path} exists: {instead}")
    if os.path.isdir(path):
        raise PyramidionError(f"cannot write {path}: it is a folder")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise PyramidionError(f"cannot write {path}: folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise PyramidionError(f"cannot write {path}: no permission to write to {folder}")


def _refuse_source(path: str, source: str | None) -> None:
    """Raise PyramidionError if the output is the input file; "-" is a standard stream."""
    written = "/dev/stdout" if path == "-" else path
    both = source is not None and is_same_file(written, "/dev/stdin" if source == "-" else source)
    if both and not ("-" in (path, source) and is_pipe_or_device(written)):  # a terminal is both
        if path == "-":
            raise PyramidionError("standard output is the input file: redirect it to another file, or use --output")
        raise PyramidionError(f"{path} is the input file: choose another --output")


class Progress:
    """Logs how many documents are done, every :data:`PROGRESS_SECONDS`; the ``progress`` argument of ``summarize``.

    Args:
        total: number of documents, or None if it is not known.
    """

    def __init__(self, total: int | None = None) -> None:
        self.start = self.last = time.monotonic()
        self.done, self.total = 0, total

    def __call__(self, documents: int) -> None:
        self.done += documents
        now = time.monotonic()
        if now - self.last >= PROGRESS_SECONDS:
            self.last = now
            self.tell()

    def tell(self) -> None:
        """Log the number of documents and the rate, and the remaining time if the total is known."""
        seconds = max(time.monotonic() - self.start, 1e-9)
        plural = "" if self.done == 1 else "s"
        remaining = 0 if self.total is None else max(0, self.total - self.done)
        of = f" of {self.total:,}" if remaining else ""
        left = f", {remaining * seconds / self.done:,.0f} s left" if remaining and self.done else ""
        logger.info(
            f"{self.done:,}{of} document{plural} in {seconds:.0f} s ({self.done / seconds:.2f} per second{left})"
        )


def count_documents(
    args: argparse.Namespace, done: int = 0, limit: int | None = None, shard: Shard = WHOLE
) -> int | None:
    """Return how many documents the command will process.

    None if the input cannot be read twice, is larger than :data:`MOST_COUNTED`, or is invalid.

    Args:
        args: the command's arguments, with those of :func:`add_input_options`.
        done: number of documents that are skipped at the start.
        limit: maximum number of documents.
        shard: the shard of the input that is processed.
    """
    try:
        if args.input == "-" or not os.path.isfile(args.input) or os.path.getsize(args.input) > MOST_COUNTED:
            return None
        level, reading = logger.manager.disable, read_documents(args.input, args.input_format, args.field)
        logging.disable(logging.WARNING)  # warnings about a document are logged when it is processed
        try:
            return sum(1 for _ in islice(shard.of(reading), limit)) - done
        finally:
            logging.disable(level)
    except (OSError, PyramidionError):  # raised again when the document is processed
        return None
