"""What the commands that summarise share: options, loading, output, and how they end."""

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
#: Bytes of an input that is read once more to know how many documents it holds.
MOST_COUNTED = 2**26
#: How lines are written: lone surrogates, which a JSON object may have, as JSON's escapes for them.
_LINES: Any = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}


class Parser(argparse.ArgumentParser):
    """argparse's, whose ``--help`` fails where it cannot be written, as any other output does."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            (file or sys.stderr).write(message)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for :func:`load`."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--checkpoint",
        metavar="CKPT[:CKPT2...]",
        help=f"checkpoint, or several as an ensemble (default: {DEFAULT}, which comes with the package)",
    )
    group.add_argument(
        "--data", metavar="DIR", help="folder with dict.*.txt (default: the checkpoint's, or that of its training)"
    )
    group.add_argument(
        "--sentencepiece-model", metavar="FILE", help="default: sentencepiece.model beside checkpoint or dictionaries"
    )
    add_user_dir(group)
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    kinds = "number format; auto: the fastest of the device; bfloat16 pays on CPUs with AVX512-BF16 or AMX (float32)"
    group.add_argument("--dtype", default="float32", choices=["auto", "float32", "bfloat16", "float16"], help=kinds)
    group.add_argument("--fp16", action="store_true", help="the same as --dtype float16, on a GPU")


def add_user_dir(group: Any) -> None:
    """Add the option for :func:`import_user_dir`."""
    told = "package of your own, with the scorer, pooler or attention that the model was trained with"
    group.add_argument("--user-dir", metavar="DIR", help=told)


def import_user_dir(folder: str | None) -> None:
    """Import a package as ``fairseq-train --user-dir`` does; what it registers is known then.

    Raises:
        PyramidionError: there is no such folder, or importing it fails.
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
    parser.add_argument("file", nargs="?", metavar="FILE", help="the same as --input FILE")
    default = "needed" if required else "default: -, standard input"
    group.add_argument("--input", metavar="FILE", help=default)
    parser.set_defaults(input_required=required)
    group.add_argument("--input-format", default="auto", choices=FORMATS, help=kinds)
    group.add_argument("--field", help="field of the JSON objects that holds the text (default: the usual ones)")


def add_pretrained_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``pyramidion-convert`` takes of a pretrained model: IN, OUT, and where its vocabulary is."""
    add = parser.add_argument
    add("input", metavar="IN", type=Path, help="model.pt, or a Hugging Face directory")
    add("output", metavar="OUT", type=Path, help="folder to write; must not exist or be empty")
    add("--dictionary", metavar="FILE", type=Path, default=None, help="dict.txt (default: beside the model)")
    kinds = "with encoder.json and vocab.bpe, or a sentencepiece model, or that file (default: the model's)"
    add("--bpe", metavar="FOLDER", type=Path, default=None, help=kinds)


def add_generation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for :func:`generation_of`."""
    group = parser.add_argument_group("generation (defaults: the model's generation.json, then the paper's)")
    group.add_argument("--beam", type=int, help="width of the beam (2)")
    group.add_argument("--lenpen", type=float, help="exponent of the length penalty (1)")
    group.add_argument("--min-len", type=int, help="shortest summary in tokens (72)")
    group.add_argument("--max-len-b", type=int, help="longest summary in tokens (966)")
    group.add_argument("--no-repeat-ngram-size", type=int, help="no n-gram of this size twice (0: off)")
    group.add_argument("--batch-size", type=int, default=8, help="documents in a batch, at most (8)")
    group.add_argument("--max-tokens", type=int, help="padded tokens in a batch, at most (default: no limit)")


def generation_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return keyword arguments of ``summarize``; what is not given is left to its defaults."""
    names = ("beam", "lenpen", "min_len", "max_len_b", "no_repeat_ngram_size", "batch_size", "max_tokens")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def load(args: argparse.Namespace, overrides: Mapping[str, Any] | None = None) -> Any:
    """Return the hub interface that the options ask for, with other values for options of the checkpoint."""
    from .. import registered  # noqa: F401 -- a second or two, which --help need not wait for
    from ..inference.loading import load_summarizer

    import_user_dir(args.user_dir)
    if args.checkpoint is None:
        logger.info(f"no --checkpoint is given: {DEFAULT} is taken, a small model of articles from PubMed")
        args.checkpoint = DEFAULT
    hub = load_summarizer(
        args.checkpoint, args.data, args.sentencepiece_model, args.device, args.fp16, overrides, args.dtype
    )
    interrupts.check()
    return hub


def input_of(args: argparse.Namespace) -> str:
    """Return the file that is read, "-" for standard input; PyramidionError where two are given, or none is."""
    if args.file is not None and args.input is not None:
        raise PyramidionError(f"two inputs, {args.file} and --input {args.input}: give one of them")
    given = args.file if args.file is not None else args.input
    if given is None and args.input_required:
        raise PyramidionError("say which file the document is in: FILE, or --input FILE")
    return given if given is not None else "-"


def documents_of(args: argparse.Namespace, whole: bool = False) -> Iterator[Document]:
    """Return the input's documents; what is wrong with its start is raised at once."""
    args.file, args.input = None, input_of(args)
    documents = read_documents(args.input, args.input_format, args.field, whole)
    return chain(list(islice(documents, 1)), documents)


@contextlib.contextmanager
def one_line_exit_and_log(command: str) -> Iterator[None]:
    """Apply :func:`one_line_exit`, with the messages of this package alone."""
    open_closed_streams()
    logging.basicConfig(format="%(levelname)s | %(message)s", level=logging.WARNING, stream=sys.stderr, force=True)
    logging.getLogger("pyramidion_fairseq").setLevel(logging.INFO)
    logging.getLogger("pyramidion_fairseq.compat").setLevel(logging.WARNING)
    leave_out(*WARNINGS)
    with one_line_exit(command):
        yield


@contextlib.contextmanager
def one_line_exit(command: str) -> Iterator[None]:
    """End the command with one line on stderr and status 1 for what a user can cause, 130 where it is interrupted.

    Where the reader of standard output has left, nothing is said. No output is lost with status 0.
    """
    open_closed_streams()
    try:
        with _written_at_the_end(), interrupts.remembered():
            yield
    except BrokenPipeError:  # the reader has had enough
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write(f"{command}: interrupted\n")
        sys.exit(130)
    except io.UnsupportedOperation:
        sys.exit(f"{command}: error: standard output is closed: give it a file, or use --output where there is one")
    except OSError as error:
        reason = str(error) if error.filename else f"the output cannot be written: {error.strerror or error}"
        sys.exit(f"{command}: error: {reason}")
    except (PyramidionError, VersionError) as error:
        sys.exit(f"{command}: error: {error}")
    except MemoryError:
        sys.exit(f"{command}: error: memory is too small: use a smaller --batch-size, or shorter documents")


def open_closed_streams() -> None:
    """Replace closed standard streams: stdout by one that refuses writing, stderr by one that drops it."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull)  # noqa: SIM115 - until the process ends
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


@contextlib.contextmanager
def _written_at_the_end() -> Iterator[None]:
    """Write standard output's buffer at the end, also where ``--help`` ends the program.

    Raises:
        OSError: it cannot be written, and is thrown away: Python itself would end with a traceback.
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
            with contextlib.suppress(OSError):  # one of a test has no number
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def utf8_stdout() -> TextIO:
    """Return standard output that takes every character, whatever the locale, and names of files that are no UTF-8."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(**_LINES)
    return sys.stdout


@contextlib.contextmanager
def open_output(path: str, append: bool = False) -> Iterator[TextIO]:
    """Open what lines are written to: standard output where the path is "-"."""
    if path == "-":
        yield utf8_stdout()
    else:
        append = append or is_written_into(path)
        with open(path, "a" if append else "w", **_LINES) as output:
            yield output


@contextlib.contextmanager
def open_whole_output(path: str) -> Iterator[TextIO]:
    """Open what lines are written to; an older file stays until all are written."""
    if path == "-":
        yield utf8_stdout()
    else:
        with atomic_write(path) as file:
            output = io.TextIOWrapper(file, **_LINES)
            yield output
            output.detach()


def write_page(path: str, page: str) -> None:
    """Write a page, all or nothing; to standard output where the path is "-"."""
    if path == "-":
        utf8_stdout().write(page)
    else:
        write_text(path, page)


def check_output(path: str, overwrite: bool, instead: str = "use --overwrite", source: str | None = None) -> None:
    """Refuse, before the work begins, a file that is there already, or whose folder cannot be written to.

    Pipes and devices are written into: nothing of them is replaced, and their folder may be anybody's. So is "-",
    standard output.

    Raises:
        PyramidionError: says so; ``instead`` is what can be done about the file. Also where it is ``source``, "-" for
            standard input, which is read while it would be written.
    """
    _refuse_source(path, source)
    if path == "-" or is_written_into(path):
        return
    if os.path.exists(path) and not overwrite:
        raise PyramidionError(f"{path} exists: {instead}")
    if os.path.isdir(path):
        raise PyramidionError(f"{path} cannot be written: it is a folder")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise PyramidionError(f"{path} cannot be written: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise PyramidionError(f"{path} cannot be written: no permission to write to {folder}")


def _refuse_source(path: str, source: str | None) -> None:
    """Raise PyramidionError where output goes into the file that is read; "-" is a standard stream."""
    written = "/dev/stdout" if path == "-" else path
    both = source is not None and is_same_file(written, "/dev/stdin" if source == "-" else source)
    if both and not ("-" in (path, source) and is_pipe_or_device(written)):  # a terminal is both
        if path == "-":
            raise PyramidionError("standard output is the file that is read: send it to another one, or use --output")
        raise PyramidionError(f"{path} is the file that is read: choose another --output")


class Progress:
    """Tells on stderr, every now and then, how many documents are done; as ``progress`` of ``summarize``.

    Args:
        total: how many there are, where that is known.
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
        """Log the number and the rate, and the time that is left where the total is known."""
        seconds = max(time.monotonic() - self.start, 1e-9)
        plural = "" if self.done == 1 else "s"
        remaining = 0 if self.total is None else max(0, self.total - self.done)
        of = f" of {self.total:,}" if remaining else ""
        left = f", {remaining * seconds / self.done:,.0f} s left" if remaining and self.done else ""
        logger.info(
            f"{self.done:,}{of} document{plural} in {seconds:.0f} s ({self.done / seconds:.2f} a second{left})"
        )


def count_documents(
    args: argparse.Namespace, done: int = 0, limit: int | None = None, shard: Shard = WHOLE
) -> int | None:
    """Return how many documents of the input are to be summarised; None where only reading them all could tell.

    Args:
        args: with those of :func:`add_input_options`.
        done: documents that are left out at the start.
        limit: at most so many.
        shard: of the input, which is summarised alone.
    """
    try:
        if args.input == "-" or not os.path.isfile(args.input) or os.path.getsize(args.input) > MOST_COUNTED:
            return None
        level, reading = logger.manager.disable, read_documents(args.input, args.input_format, args.field)
        logging.disable(logging.WARNING)  # what is said of a document is said when it is summarised
        try:
            return sum(1 for _ in islice(shard.of(reading), limit)) - done
        finally:
            logging.disable(level)
    except (OSError, PyramidionError):  # told in its place
        return None
