"""Results of a long benchmark, one at a time: it can be stopped, and goes on with what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

from measure import plain


class Cells:
    """Results by name, in a file that is written after each; without a folder, in memory alone."""

    def __init__(self, folder: Path | None, benchmark: str):
        self._path = None if folder is None else folder / f"{benchmark}_cells.json"
        self.values: dict[str, Any] = {}
        if self._path is not None and self._path.exists():
            self.values = json.loads(self._path.read_text("utf-8"))

    def get(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return a result as JSON has it, computed where it is not there yet."""
        if name not in self.values:
            self.values[name] = plain(compute())
            print(name, json.dumps(self.values[name]), flush=True)
            if self._path is not None:
                self._path.write_text(json.dumps(self.values, indent=1) + "\n", "utf-8")
        return self.values[name]
