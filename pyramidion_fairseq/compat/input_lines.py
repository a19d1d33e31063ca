"""How documents are read in ``fairseq-interactive``: one per line, split as in ``pyramidion-summarize``.

Stock fairseq also ends a document at a CR within a line, which yields more summaries than documents, and fails at
bytes that are not UTF-8.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, BinaryIO, Iterator

from ..text.reading import decoded_lines
from .marks import mark


def install() -> None:
    """Make ``fairseq-interactive`` read its lines with :func:`buffered_read`. Further calls do nothing."""
    from fairseq.distributed import utils

    stock = utils.call_main
    if getattr(stock, "reads_lines", False):
        return

    @functools.wraps(stock)
    def call_main(*args: Any, **kwargs: Any) -> Any:
        for name in ("fairseq_cli.interactive", "__main__"):
            module: Any = sys.modules.get(name)
            if hasattr(module, "buffered_read"):
                module.buffered_read = buffered_read
        return stock(*args, **kwargs)

    utils.call_main = mark(call_main, "reads_lines")


def buffered_read(path: str, buffer_size: int) -> Iterator[list[str]]:
    """Yield lists of ``buffer_size`` documents; the last list may be shorter.

    Args:
        path: the file; "-" is standard input.
        buffer_size: number of documents in a list.

    Raises:
        PyramidionError: a line is too long, or all lines end in CR only.
    """
    if path == "-":
        yield from _lists(sys.stdin.buffer, "standard input", buffer_size)
        return
    with open(path, "rb") as stream:
        yield from _lists(stream, path, buffer_size)


def _lists(stream: BinaryIO, name: str, buffer_size: int) -> Iterator[list[str]]:
    documents: list[str] = []
    for _, line in decoded_lines(stream, name):
        documents.append(line.strip())
        if len(documents) >= buffer_size:
            yield documents
            documents = []
    if documents:
        yield documents
