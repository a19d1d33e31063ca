"""Results of a long benchmark, saved one by one, so that it can be interrupted and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

from measure import plain
from outputs import read_kept

from pyramidion_fairseq.utils.files import write_text


class Cells:
    """Results by name, in a file that is written after each; without a folder, in memory alone.

    A name has all that its result depends on: with other options another cell is measured.
    """

    def __init__(self, folder: Path | None, benchmark: str):
        self._path = None if folder is None else folder / f"{benchmark}_cells.json"
        self.values: dict[str, Any] = {} if self._path is None else read_kept(self._path)

    def get(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return a result as JSON values, computing it if it is missing."""
        if name not in self.values:
            self.values[name] = plain(compute())
            if self._path is not None:
                write_text(self._path, json.dumps(self.values, indent=1) + "\n")
            print(name, json.dumps(self.values[name]), flush=True)
        return self.values[name]
