"""Conversion of generation settings of transformers to those of fairseq."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Mapping

from ...pretrained import SETTINGS
from ...utils.files import read_json

logger = logging.getLogger(__name__)

#: transformers' names -> fairseq's names and the difference of the values: transformers counts the symbol from which
#: generation starts in the minimum length, and also the last ``</s>`` in the maximum length. Lengths in new tokens do
#: not count the first symbol, and come last because they take precedence.
_NAMES = {
    "num_beams": ("beam", 0),
    "length_penalty": ("lenpen", 0),
    "min_length": ("min_len", 1),
    "max_length": ("max_len_b", 2),
    "no_repeat_ngram_size": ("no_repeat_ngram_size", 0),
    "min_new_tokens": ("min_len", 0),
    "max_new_tokens": ("max_len_b", 1),
}
#: transformers' values of settings that are missing. Its maximum, 20 tokens, is for no summary and is left out.
_DEFAULTS = {"beam": 1, "lenpen": 1.0, "min_len": 1, "no_repeat_ngram_size": 0}
#: Settings that fairseq does not have, and their neutral values.
_WITHOUT_COUNTERPART = {
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "encoder_no_repeat_ngram_size": 0,
    "exponential_decay_length_penalty": None,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "sequence_bias": None,
    "do_sample": False,
}


def read_generation(folder: Path, config: Mapping[str, Any], model_length: int) -> dict[str, Any]:
    """Return the settings in generation_config.json, or in config.json if that file does not exist.

    Args:
        folder: the directory.
        config: its config.json.
        model_length: maximum tokens of the model's summaries, including ``</s>``.

    Returns:
        Settings of :data:`pyramidion_fairseq.pretrained.SETTINGS`. Those that are not given have transformers'
        defaults, except for the maximum length, which is omitted.

    Raises:
        PyramidionError: the file is not a JSON object.
    """
    path = folder / "generation_config.json"
    said = read_json(path) if path.is_file() else config
    settings: dict[str, Any] = dict(_DEFAULTS)
    for theirs, (ours, more) in _NAMES.items():
        value, (least, most) = said.get(theirs), SETTINGS[ours]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        number = type(least)(value) - more
        if ours == "max_len_b":
            number = min(number, model_length - 1)
        if ours == "min_len":
            number = max(number, 1)  # fairseq's least
        if least <= number <= most:
            settings[ours] = number
        else:
            logger.warning(f"{theirs}={value!r} of {folder} is ignored: {ours} must be from {least} to {most}")
    padding = said.get("pad_token_id", config.get("pad_token_id"))  # fairseq never generates it
    for name, nothing in _WITHOUT_COUNTERPART.items():
        if said.get(name, nothing) not in (nothing, None, [], [padding]):
            logger.warning(f"{name}={said[name]!r} of {folder} is ignored: fairseq has no such setting")
    settings["min_len"] = min(settings["min_len"], settings.get("max_len_b", model_length - 1))
    return settings
