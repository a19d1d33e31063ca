"""Apply a function to every document, in several processes if there are enough documents."""

from __future__ import annotations

import multiprocessing
import sys
from functools import partial
from typing import Any, Callable, Sequence

from tqdm import tqdm

#: Number of documents below which starting processes takes longer than it saves.
_WORTH_A_POOL = 64


def for_each(function: Callable[[Any], Any], items: Sequence[Any], workers: int, progress: bool) -> list[Any]:
    """Return the results of the function for all items, in order.

    Args:
        function: function of one item; must be picklable.
        items: one item per document.
        workers: number of processes; small corpora are processed in this process.
        progress: whether to show a progress bar on a terminal.
    """
    bar = partial(tqdm, total=len(items), unit="documents", disable=None if progress else True, leave=False)
    if workers <= 1 or len(items) < _WORTH_A_POOL:
        return list(bar(map(function, items)))
    start = "fork" if sys.platform == "linux" else None
    with multiprocessing.get_context(start).Pool(workers) as pool:
        return list(bar(pool.imap(function, items, chunksize=16)))
