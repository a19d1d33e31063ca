"""The documents that ``fairseq-interactive`` reads: one a line, told apart as ``pyramidion-summarize`` does.

Stock fairseq takes a CR inside of a line for the end of a document, so that there are more summaries than documents,
and ends at bytes that are no UTF-8.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, BinaryIO, Iterator

from ..text.reading import decoded_lines
from .marks import mark


def install() -> None:
    """Make ``fairseq-interactive`` read its lines by :func:`buffered_read`. Calling it again does nothing."""
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
    """Yield lists of so many documents, the last one shorter.

    Args:
        path: the file; "-" is standard input.
        buffer_size: documents in a list.

    Raises:
        PyramidionError: a line is too long, or CR alone ends the lines.
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
