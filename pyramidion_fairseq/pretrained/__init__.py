"""Trained models that are part of the package, each in its own folder with a model card."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import PyramidionError, user_errors
from ..utils.files import check_regular

#: The default model of the commands.
DEFAULT = "pubmed-small"
#: File next to a checkpoint with recommended options of generation, as JSON.
GENERATION = "generation.json"
#: Smallest and largest value of each option in such a file; if these are ints, the value must be an int.
SETTINGS: dict[str, tuple[float, float]] = {
    "beam": (1, 100),
    "lenpen": (-10.0, 10.0),
    "min_len": (1, 2**20),
    "max_len_a": (0.0, 10.0),
    "max_len_b": (1, 2**20),
    "no_repeat_ngram_size": (0, 100),
}


def names() -> list[str]:
    """Return the names of the available models."""
    folders = Path(__file__).parent.iterdir()
    return sorted(folder.name.replace("_", "-") for folder in folders if (folder / "model.pt").is_file())


def find(name: str) -> str:
    """Return the folder of a model that is part of the package; other names are returned unchanged.

    A file or folder of that name in the current directory takes precedence.
    """
    if name in names() and not os.path.exists(name):
        return str(Path(__file__).parent / name.replace("-", "_"))
    return name


def generation_settings(folder: str) -> dict[str, Any]:
    """Return the content of :data:`GENERATION` in a checkpoint's folder; an empty dict if there is no such file.

    Raises:
        PyramidionError: the file cannot be read, or contains anything but valid options of generation.
    """
    path = os.path.join(folder or ".", GENERATION)
    if not os.path.lexists(path):
        return {}
    check_regular(path)
    with user_errors(path, "read"), open(path, encoding="utf-8") as file:
        settings = json.load(file)
    if not isinstance(settings, dict):
        raise PyramidionError(f"{path} must contain a JSON object of generation options")
    for option, value in settings.items():
        least, most = SETTINGS.get(option, (1, 0))
        if type(value) not in (int, type(least)) or not least <= value <= most:
            known = ", ".join(f"{name} ({least} to {most})" for name, (least, most) in SETTINGS.items())
            raise PyramidionError(f"{path} sets {option!r:.40} to {value!r:.40}; it may set {known}")
    return settings
