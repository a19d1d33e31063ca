"""Settings of generation, of transformers made fairseq's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Mapping

from ...pretrained import SETTINGS
from ...utils.files import read_json

logger = logging.getLogger(__name__)

#: transformers' name -> fairseq's, and what its value is more by: transformers counts the symbol that generation
#: starts from in the shortest length, and the last ``</s>`` as well in the longest.
_NAMES = {
    "num_beams": ("beam", 0),
    "length_penalty": ("lenpen", 0),
    "min_length": ("min_len", 1),
    "max_length": ("max_len_b", 2),
    "no_repeat_ngram_size": ("no_repeat_ngram_size", 0),
}
#: What fairseq cannot do, and the value that does nothing.
_WITHOUT_COUNTERPART = {
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "do_sample": False,
}


def read_generation(folder: Path, config: Mapping[str, Any], model_length: int) -> dict[str, Any]:
    """Return what generation_config.json says, or config.json where it is older than that file.

    Args:
        folder: the directory.
        config: its config.json.
        model_length: tokens that the model writes, ``</s>`` counted.

    Returns:
        Settings as of :data:`pyramidion_fairseq.pretrained.SETTINGS`; what nobody says is not there.

    Raises:
        PyramidionError: the file is no JSON object.
    """
    path = folder / "generation_config.json"
    said = read_json(path) if path.is_file() else config
    settings: dict[str, Any] = {}
    for theirs, (ours, more) in _NAMES.items():
        value, (least, most) = said.get(theirs), SETTINGS[ours]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        number = type(least)(value) - more
        if theirs == "max_length":
            number = min(number, model_length - 1)
        if theirs == "min_length" and number < 1:
            continue  # no shortest length
        if least <= number <= most:
            settings[ours] = number
        else:
            logger.warning(f"{theirs}={value!r} of {folder} is left out: {ours} may be from {least} to {most}")
    for name, nothing in _WITHOUT_COUNTERPART.items():
        if said.get(name, nothing) not in (nothing, None):
            logger.warning(f"{name}={said[name]!r} of {folder} is left out: fairseq has no such setting")
    if "min_len" in settings and "max_len_b" in settings:
        settings["min_len"] = min(settings["min_len"], settings["max_len_b"])
    return settings
