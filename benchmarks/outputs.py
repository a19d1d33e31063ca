"""Check the output folder of a benchmark before measuring, and write its files atomically."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.utils.files import atomic_write, read_json, write_text


def check_folder(folder: Path) -> str:
    """Create the folder if needed; return the reason if it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"--output {folder}: it cannot be a folder ({error.strerror})"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"--output {folder}: it cannot be written to ({error.strerror})"


def write_results(folder: Path, name: str, results: Any, text: str, figure: Any) -> None:
    """Write NAME.json, NAME.md and, with a figure of matplotlib, NAME.png."""
    write_text(folder / f"{name}.json", json.dumps(results, indent=1) + "\n")
    write_text(folder / f"{name}.md", text)
    if figure is not None:
        with atomic_write(folder / f"{name}.png") as file:
            figure.savefig(file, format="png", dpi=150, bbox_inches="tight")


def whole_lines(path: Path) -> bytes:
    """Return the complete lines that an earlier run has appended; nothing if there is no file."""
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def cut_unfinished(path: Path, whole: bytes) -> None:
    """Truncate a file after its :func:`whole_lines`."""
    if path.exists() and path.stat().st_size > len(whole):
        with open(path, "r+b") as file:
            file.truncate(len(whole))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the JSON rows that an earlier run has appended; an incomplete last line is removed.

    Ends the program where another line is damaged.
    """
    whole = whole_lines(path)
    try:
        rows = [dict(json.loads(line)) for line in whole.splitlines()]
    except (TypeError, ValueError) as error:
        raise SystemExit(f"error: {path} is damaged: {error}; remove it, or use another --output") from None
    cut_unfinished(path, whole)
    return rows


def read_kept(path: Path) -> dict[str, Any]:
    """Return the results of an earlier run, nothing if there is no file; exit if the file is damaged."""
    try:
        return read_json(path) if path.exists() else {}
    except PyramidionError as error:
        raise SystemExit(f"error: {error}; remove it, or use another --output") from None
