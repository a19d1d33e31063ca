"""Trained models that come with the package, each in a folder of its own with its model card."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import PyramidionError, user_errors
from ..utils.files import check_regular

#: The model that commands take where no other is named.
DEFAULT = "pubmed-small"
#: Beside a checkpoint: the options of generation that suit it, as JSON.
GENERATION = "generation.json"
#: What such a file may set: smallest and largest value, whole numbers where both are.
SETTINGS: dict[str, tuple[float, float]] = {
    "beam": (1, 100),
    "lenpen": (-10.0, 10.0),
    "min_len": (1, 2**20),
    "max_len_a": (0.0, 10.0),
    "max_len_b": (1, 2**20),
    "no_repeat_ngram_size": (0, 100),
}


def names() -> list[str]:
    """Return the names of the models that are there."""
    folders = Path(__file__).parent.iterdir()
    return sorted(folder.name.replace("_", "-") for folder in folders if (folder / "model.pt").is_file())


def find(name: str) -> str:
    """Return the folder of a model that comes with the package; any other name as it is.

    A file or folder of that name in the current directory comes first.
    """
    if name in names() and not os.path.exists(name):
        return str(Path(__file__).parent / name.replace("-", "_"))
    return name


def generation_settings(folder: str) -> dict[str, Any]:
    """Return what :data:`GENERATION` in a checkpoint's folder says; nothing where there is no such file.

    Raises:
        PyramidionError: it says something else than options of generation.
    """
    path = os.path.join(folder or ".", GENERATION)
    if not os.path.lexists(path):
        return {}
    check_regular(path)
    with user_errors(path, "read"), open(path, encoding="utf-8") as file:
        settings = json.load(file)
    if not isinstance(settings, dict):
        raise PyramidionError(f"{path} must hold a JSON object of options of generation")
    for option, value in settings.items():
        least, most = SETTINGS.get(option, (1, 0))
        if type(value) not in (int, type(least)) or not least <= value <= most:
            known = ", ".join(f"{name} ({least} to {most})" for name, (least, most) in SETTINGS.items())
            raise PyramidionError(f"{path} sets {option!r:.40} to {value!r:.40}; it may set {known}")
    return settings
