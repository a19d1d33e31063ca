"""One function of every document, in several processes where that pays."""

from __future__ import annotations

import multiprocessing
import sys
from functools import partial
from typing import Any, Callable, Sequence

from tqdm import tqdm

#: Below this many documents, starting processes takes longer than it saves.
_WORTH_A_POOL = 64


def for_each(function: Callable[[Any], Any], items: Sequence[Any], workers: int, progress: bool) -> list[Any]:
    """Return what the function gives for each item, in their order.

    Args:
        function: can be pickled.
        items: one a document.
        workers: processes; small corpora are done in this one.
        progress: show a bar on a terminal.
    """
    bar = partial(tqdm, total=len(items), unit="documents", disable=None if progress else True, leave=False)
    if workers <= 1 or len(items) < _WORTH_A_POOL:
        return list(bar(map(function, items)))
    start = "fork" if sys.platform == "linux" else None
    with multiprocessing.get_context(start).Pool(workers) as pool:
        return list(bar(pool.imap(function, items, chunksize=16)))
