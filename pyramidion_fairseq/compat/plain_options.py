"""Options that a checkpoint brings along, before anything is built of them: plain, bounded, and without paths.

:mod:`.archive_check` has bounded how many there are and how deep they are nested.
"""

import os
import re
from argparse import Namespace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Set, Tuple

import omegaconf
import torch
from fairseq.data.encoders import gpt2_bpe

from ..config import COUNTS

#: Options that name a file or an address which fairseq opens while it builds a task, a model or a hub interface from
#: a checkpoint's options -> what they are set to. docs/security.md says where fairseq reads each.
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
    # Of these, None is no value.
    **dict.fromkeys(("baseline_model", "bpe_codes", "bpe_merges", "bpe_vocab", "bpe_vocab_file"), ""),
    **dict.fromkeys(("pretrained_checkpoint", "sentencepiece_model_path", "seq2seq_path", "w2v_path"), ""),
    "gpt2_encoder_json": gpt2_bpe.DEFAULT_ENCODER_JSON,
    "gpt2_vocab_bpe": gpt2_bpe.DEFAULT_VOCAB_BPE,
}  # fmt: skip
#: Names of files in the folder of the data: cleared where they are more than a name.
_IN_FOLDER = ("config_yaml", "data_config_yaml", "label_dir", "multitask_config_yaml")
#: Part of the name of a file.
_LANGUAGES = ("source_lang", "target_lang")
#: Names of fairseq's options -> smallest and largest value, of what is built or computed that many times. Those that
#: this package's models have as well are in :data:`~pyramidion_fairseq.config.COUNTS`.
_BOUNDS: List[Tuple[str, int, int]] = [
    (r"decoder_(?:in|out)put_dim", 1, 2**20),
    (r"max_(?:source_|target_)?positions|tokens_per_sample", 0, 2**22),  # models of others have longer ones than ours
    (r"beam|nbest|diverse_beam_groups", -1, 1024),
    (r"max_len_b|min_len|iter_decode_max_iter", 0, 2**22),
]


class UnusableOptionError(Exception):
    """An option of a checkpoint cannot be used; the message says which and why."""


def plain(value: Any) -> Any:
    """Return a copy of dicts, lists and namespaces, with omegaconf's parts as such; no reference is resolved.

    Reads what the parts hold, and calls none of their methods, which would follow their links to each other.
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


def check(options: Any, tensors: Any) -> None:
    """Refuse numbers that nothing can be built of, and clear what names paths; changes the options.

    Args:
        options: a checkpoint's ``cfg`` or ``args``, plain.
        tensors: its ``model``: what is built must have the layers and widths of these.

    Raises:
        UnusableOptionError: a number is out of its bounds, or is not that of the tensors.
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
        raise UnusableOptionError(f"the option {name} is {value!r}, which is no name of a language")
    if name in _IN_FOLDER and value != os.path.basename(value):
        group[name] = None
    if name == "sentencepiece_model" and not os.path.isfile(value):
        group[name] = ""  # a pipe, a device, an address; or the file is no longer there
    if name == "data" and "://" in value:
        group[name] = None


def _check_number(name: str, value: Any) -> None:
    fairseqs = ((least, most) for pattern, least, most in _BOUNDS if re.fullmatch(pattern, str(name)))
    bounds = next(fairseqs, COUNTS.get(str(name)))
    number = _number(value)
    finite = number is not None and number == number and abs(number) != float("inf")
    if number is not None and ((finite and abs(number) >= 2**64) or (bounds and not bounds[0] <= number <= bounds[1])):
        least, most = bounds or (-(2**64), 2**64)
        raise UnusableOptionError(f"the option {name} is {value!r}, but must be from {least:,} to {most:,}")


def _number(value: Any) -> Optional[float]:
    """Return the number that an option is, or that fairseq makes of its text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:
        return 2.0**80  # no number of a pickle is larger


def _check_sizes(options: Mapping[str, Any], shapes: Mapping[str, Tuple[int, ...]]) -> None:
    """Compare layers and widths with the tensors, before models of these sizes are built."""
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
