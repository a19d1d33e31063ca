"""Checks of a checkpoint's options before anything is built from them: plain types, numbers in bounds, no paths.

:mod:`.archive_check` limits the number of options and their depth.
"""

import os
import re
from argparse import Namespace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Set, Tuple

import omegaconf
import torch
from fairseq.data.encoders import gpt2_bpe

from ..config import COUNTS

#: Values that replace options of a checkpoint with a path or an address that fairseq would open when it builds a task,
#: a model or a hub interface. docs/security.md says where fairseq reads each.
OPENED: Dict[str, Optional[str]] = {
    **dict.fromkeys(
        (
            "decoder_embed_path", "embed_path", "encoder_embed_path", "fixed_dictionary", "lang_dict", "lm_model",
            "lm_path", "load_pretrained_aux_decoder_from", "load_pretrained_decoder_from",
            "load_pretrained_encoder_from", "load_pretrained_feature_extractor_from",
            "load_pretrained_mbart_decoder_from", "load_pretrained_mbart_encoder_from", "load_pretrained_mbart_from",
            "pretrained_mlm_checkpoint", "pretrained_xlm_checkpoint", "quantization_config_path", "replace_unk",
            "results_path", "sampling_weights_from_file", "source_dict", "speaker_to_id", "target_dict", "user_dir",
        )
    ),
    # These cannot be None.
    **dict.fromkeys(("baseline_model", "bpe_codes", "bpe_merges", "bpe_vocab", "bpe_vocab_file"), ""),
    **dict.fromkeys(("pretrained_checkpoint", "sentencepiece_model_path", "seq2seq_path", "w2v_path"), ""),
    "gpt2_encoder_json": gpt2_bpe.DEFAULT_ENCODER_JSON,
    "gpt2_vocab_bpe": gpt2_bpe.DEFAULT_VOCAB_BPE,
}  # fmt: skip
#: Names of files in the data folder, which are cleared if they contain a path.
_IN_FOLDER = ("config_yaml", "data_config_yaml", "label_dir", "multitask_config_yaml")
#: Options that become part of a file's name.
_LANGUAGES = ("source_lang", "target_lang")
#: (Pattern of option names, smallest value, largest value) of fairseq's options that set a size or a number of steps.
#: Those of this package's models are in :data:`~pyramidion_fairseq.config.COUNTS`.
_BOUNDS: List[Tuple[str, int, int]] = [
    (r"decoder_(?:in|out)put_dim", 1, 2**20),
    (r"max_(?:source_|target_)?positions|tokens_per_sample", 0, 2**22),  # other models have longer ones
    (r"beam|nbest|diverse_beam_groups", -1, 1024),
    (r"max_len_b|min_len|iter_decode_max_iter", 0, 2**22),
]


class UnusableOptionError(Exception):
    """An option of a checkpoint is unusable; the message says which one and why."""


def plain(value: Any) -> Any:
    """Return a copy with plain dicts, lists and values instead of omegaconf objects; references are not resolved.

    The objects' attributes are read directly. Their methods, which follow links between objects, are not called.
    """
    if isinstance(value, omegaconf.Node):
        held = vars(value)
        return plain(held.get("_content", held.get("_val")))
    if isinstance(value, Namespace):
        return Namespace(**{name: plain(inner) for name, inner in vars(value).items()})
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([plain(inner) for inner in value]) if type(value) in (list, tuple) else value
    return value


def check_options(options: Any, tensors: Any) -> None:
    """Refuse numbers out of bounds, and clear paths in place.

    Args:
        options: a checkpoint's ``cfg`` or ``args``, as returned by :func:`plain`.
        tensors: the checkpoint's ``model``; layers and widths in the options must match it.

    Raises:
        UnusableOptionError: a number is out of bounds, or does not match the tensors.
    """
    shapes = {str(name): tuple(value.shape) for name, value in _tensors(tensors)}
    for group in _groups(options):
        for name in list(group):
            if name in OPENED and group[name] is not None:
                group[name] = OPENED[name]
            _check_path(group, name)
            _check_number(name, group[name])
        _check_sizes(group, shapes)


def _tensors(tensors: Any) -> Iterator[Tuple[Any, torch.Tensor]]:
    return ((name, value) for name, value in tensors.items() if torch.is_tensor(value)) if tensors else iter(())


def _groups(options: Any) -> Iterator[Dict[str, Any]]:
    """Yield every dict of options, at any depth."""
    if isinstance(options, Namespace):
        options = vars(options)
    if isinstance(options, dict):
        yield options
        options = list(options.values())
    if isinstance(options, (list, tuple)):
        for inner in options:
            yield from _groups(inner)


def _check_path(group: Dict[str, Any], name: str) -> None:
    value = group[name]
    if not isinstance(value, str):
        return
    if name in _LANGUAGES and (value != os.path.basename(value) or "\0" in value):
        raise UnusableOptionError(f"the option {name} is {value!r}, which is not the name of a language")
    if name in _IN_FOLDER and value != os.path.basename(value):
        group[name] = None
    if name == "sentencepiece_model" and not os.path.isfile(value):
        group[name] = ""  # a pipe, a device or an address, or a file that no longer exists
    if name == "data" and "://" in value:
        group[name] = None


def _check_number(name: str, value: Any) -> None:
    of_fairseq = ((least, most) for pattern, least, most in _BOUNDS if re.fullmatch(pattern, str(name)))
    bounds = next(of_fairseq, COUNTS.get(str(name)))
    number = _number(value)
    finite = number is not None and number == number and abs(number) != float("inf")
    if number is not None and ((finite and abs(number) >= 2**64) or (bounds and not bounds[0] <= number <= bounds[1])):
        least, most = bounds or (-(2**64), 2**64)
        raise UnusableOptionError(f"the option {name} is {value!r}, but must be from {least:,} to {most:,}")


def _number(value: Any) -> Optional[float]:
    """Return an option as a number, as fairseq converts it; None if it is not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:
        return 2.0**80  # larger than any number that a pickle may contain


def _check_sizes(options: Mapping[str, Any], shapes: Mapping[str, Tuple[int, ...]]) -> None:
    """Compare layers and widths with the tensors before a model of these sizes is built."""
    if not shapes:
        return
    found = re.compile(r"(?:^|\.)(encoder|decoder)\.layers\.(\d{1,9})\.")
    layers: Dict[str, Set[str]] = {}
    for match in filter(None, map(found.search, shapes)):
        layers.setdefault(match.group(1), set()).add(match.group(2))
    for side in ("encoder", "decoder"):
        given = _number(options.get(f"{side}_layers"))
        there = len(layers.get(side, shapes))
        if given is not None and given > there:
            raise UnusableOptionError(f"the option {side}_layers is {given:,.0f}, but the file has {there:,}")
        linear = shapes.get(f"{side}.layers.0.fc1.weight", ())
        for name, index in ((f"{side}_ffn_embed_dim", 0), (f"{side}_embed_dim", 1)):
            given = _number(options.get(name))
            if given is not None and len(linear) == 2 and given != linear[index]:
                raise UnusableOptionError(f"the option {name} is {given:,.0f}, but the file has {linear[index]:,}")
