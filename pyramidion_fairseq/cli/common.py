"""What the commands that summarise share: options, loading, output, and how they end."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
import uuid
import warnings
from itertools import chain, islice
from typing import Any, Iterator, TextIO

from ..errors import PyramidionError
from ..text import Document
from ..text.reading import FORMATS, read_documents

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 10


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Options for :func:`load`."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--checkpoint", required=True, metavar="CKPT[:CKPT2...]", help="checkpoint, or several as an ensemble"
    )
    group.add_argument(
        "--data", metavar="DIR", help="folder with dict.*.txt (default: the checkpoint's, or that of its training)"
    )
    group.add_argument(
        "--sentencepiece-model", metavar="FILE", help="default: sentencepiece.model beside checkpoint or dictionaries"
    )
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    group.add_argument("--fp16", action="store_true", help="half precision, on a GPU")


def add_input_options(parser: argparse.ArgumentParser, kinds: str, required: bool = False) -> None:
    """Options for :func:`documents_of`."""
    group = parser.add_argument_group("documents")
    group.add_argument("--input", default="-", required=required, metavar="FILE", help="default: -, standard input")
    group.add_argument("--input-format", default="auto", choices=FORMATS, help=kinds)
    group.add_argument("--field", help="field of the JSON objects that holds the text (default: the usual ones)")


def add_generation_options(parser: argparse.ArgumentParser) -> None:
    """Options for :func:`generation_of`."""
    group = parser.add_argument_group("generation (defaults: the paper's)")
    group.add_argument("--beam", type=int, default=2, help="width of the beam (2)")
    group.add_argument("--lenpen", type=float, default=1.0, help="exponent of the length penalty (1)")
    group.add_argument("--min-len", type=int, help="shortest summary in tokens (72, or less if --max-len-b is less)")
    group.add_argument("--max-len-b", type=int, default=966, help="longest summary in tokens (966)")
    group.add_argument("--no-repeat-ngram-size", type=int, default=0, help="no n-gram of this size twice (0: off)")
    group.add_argument("--batch-size", type=int, default=8, help="documents in a batch, at most (8)")
    group.add_argument("--max-tokens", type=int, help="padded tokens in a batch, at most (default: no limit)")


def generation_of(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of ``summarize``; what is not given is left to its defaults."""
    names = ("beam", "lenpen", "min_len", "max_len_b", "no_repeat_ngram_size", "batch_size", "max_tokens")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def load(args: argparse.Namespace) -> Any:
    """The hub interface that the options ask for."""
    from ..loading import load_summarizer  # a second or two, which --help need not wait for

    return load_summarizer(args.checkpoint, args.data, args.sentencepiece_model, args.device, args.fp16)


def documents_of(args: argparse.Namespace, whole: bool = False) -> Iterator[Document]:
    """The input's documents; what is wrong with its start is raised at once."""
    documents = read_documents(args.input, args.input_format, args.field, whole)
    return chain(list(islice(documents, 1)), documents)


@contextlib.contextmanager
def one_line_errors(command: str) -> Iterator[None]:
    """End the command with one line on stderr and status 1 for what a user can cause, 130 where it is interrupted."""
    logging.basicConfig(format="%(levelname)s | %(message)s", level=logging.WARNING, stream=sys.stderr, force=True)
    logging.getLogger("pyramidion_fairseq").setLevel(logging.INFO)
    logging.getLogger("pyramidion_fairseq.compat").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")  # of fairseq's decoder
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write(f"{command}: interrupted\n")
        sys.exit(130)
    except (PyramidionError, OSError) as error:
        sys.exit(f"{command}: error: {error}")
    except MemoryError:
        sys.exit(f"{command}: error: memory is too small: use a smaller --batch-size, or shorter documents")


def utf8_stdout() -> TextIO:
    """Standard output that takes every character, whatever the locale."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    return sys.stdout


def check_output(path: str, overwrite: bool, instead: str = "use --overwrite") -> None:
    """Refuse, before the work begins, a file that is there already, or whose folder cannot be written to.

    Raises:
        PyramidionError: says so; ``instead`` is what can be done about the file.
    """
    if os.path.exists(path) and not overwrite:
        raise PyramidionError(f"{path} exists: {instead}")
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise PyramidionError(f"{path} cannot be written: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise PyramidionError(f"{path} cannot be written: no permission to write to {folder}")


def write_whole(path: str, text: str) -> None:
    """Write a text file that is either whole or not there."""
    temporary = f"{os.path.abspath(path)}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(temporary, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise


class Progress:
    """Tells on stderr, every now and then, how many documents are done; as ``progress`` of ``summarize``."""

    def __init__(self) -> None:
        self.start = self.last = time.monotonic()
        self.done = 0

    def __call__(self, documents: int) -> None:
        self.done += documents
        now = time.monotonic()
        if now - self.last >= PROGRESS_SECONDS:
            self.last = now
            self.tell()

    def tell(self) -> None:
        """Log the number and the rate."""
        seconds = max(time.monotonic() - self.start, 1e-9)
        plural = "" if self.done == 1 else "s"
        logger.info(f"{self.done:,} document{plural} in {seconds:.0f} s ({self.done / seconds:.2f} a second)")
