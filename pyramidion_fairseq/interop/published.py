"""Conversion of checkpoints of the authors' published code: names and arguments are mapped, weights are unchanged."""

from __future__ import annotations

import ast
import logging
import re
import warnings
from argparse import Namespace
from dataclasses import fields
from typing import Any, Mapping

import torch
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf
from torch import Tensor

from .. import vocabularies
from ..checkpoints import check_finite, new_checkpoint
from ..compat import plain_options
from ..config import PyramidionConfig, complete
from ..errors import PyramidionError, one_line
from ..models import PyramidionModel
from ..schedule import HALVE, PoolingSchedule
from .dictionary_files import make_dictionary

logger = logging.getLogger(__name__)

#: Arguments of the published code, with the values that have a counterpart here.
_CHOICES = {
    "encoder_pooling": ("topk", "lambda"),
    "use_sparse_attn": ("pooler", "only_blockwise", "pooler_no_block"),
}
#: Arguments that must have this value, for the poolings and for everything else.
_REQUIRED_TO_POOL = {"encoder_pooling_arch": "linear", "flip_right": 1}
_REQUIRED = {
    "global_positions": 0,
    "no_token_positional_embeddings": False,
    "adaptive_input": False,
    "no_cross_attention": False,
    "cross_self_attention": False,
    "merge_src_tgt_embed": False,
    "adaptive_softmax_cutoff": None,
}
#: Arguments that the published code accepts but never reads: name, value that matches its behaviour, its behaviour.
_WITHOUT_EFFECT = (
    ("topk_softmax_base", 20, "the base of its peaked softmax is always 20"),
    ("no_decoder_positional_embeddings", False, "its decoder always has sinusoidal positions"),
)
_SCORER = re.compile(r"encoder\.pooler\.scorer\.(\d+)\.(weight|bias)")


def published_options(args: Mapping[str, Any]) -> dict[str, Any]:
    """Map the arguments of the authors' published code (applicaai/pyramidions) to fields of PyramidionConfig.

    Args:
        args: the arguments by name, as in a checkpoint's ``args``.

    Returns:
        Fields of :class:`~pyramidion_fairseq.config.PyramidionConfig`.

    Raises:
        PyramidionError: an argument has no counterpart in this package, or is malformed.
    """
    pools = args.get("encoder_pooling", "topk") != "lambda"
    required = {name: (value,) for name, value in (_REQUIRED | (_REQUIRED_TO_POOL if pools else {})).items()}
    for name, values in (_CHOICES | required).items():
        given = args.get(name, values[0])
        if given not in values:
            raise PyramidionError(
                f"cannot convert a published model with {name}={given!r}: only "
                f"{', '.join(map(repr, values))} is supported"
            )
    known = {field.name for field in fields(PyramidionConfig)}
    options = {name: value for name, value in args.items() if name in known and value is not None}
    options.update(
        attention=_published_attention(args, pools),
        pooler="successive_halving",
        scorer="linear",
        scorer_activation="sigmoid",
        block_size=int(args.get("chunk_size") or args["max_source_positions"]),
        pooling_schedule=_published_schedule(args) if pools else "",
        softmax_base=20.0,
        score_order=not int(args.get("sort_back", 0)),
        decoder_positions=True,
    )
    complete(PyramidionConfig(**options))
    for name, value, meaning in _WITHOUT_EFFECT:
        if args.get(name, value) != value:
            logger.warning(f"{name}={args[name]!r} is ignored, as by the published code: {meaning}")
    return options


def _published_attention(args: Mapping[str, Any], pools: bool) -> str:
    """Return "blockwise" or "full", the attention of the published code."""
    kind = args.get("use_sparse_attn", "pooler")
    if not pools and kind == "only_blockwise":
        logger.warning(
            "encoder_pooling=lambda with use_sparse_attn=only_blockwise is converted to block-wise attention without "
            "pooling; the newest published code ignores the second and uses full attention (--attention full)"
        )
        return "blockwise"
    return "blockwise" if pools and kind != "pooler_no_block" else "full"


def _published_schedule(args: Mapping[str, Any]) -> str:
    """Convert "{1: 2048, 2: 512}", with layers counted from 0, to "2:2048,3:512".

    An empty dict means halving after every layer. A width that keeps all tokens is not a pooling; the authors write
    models without pooling in this way, "{1: 8192}".
    """
    text, length = args["enc_layers_and_token_width"], int(args["max_source_positions"])
    try:
        widths = ast.literal_eval(text) if str(text or "").strip() else {}
        if not widths:
            return str(PoolingSchedule.of(HALVE, length, int(args["encoder_layers"])))
        entries = sorted((int(layer), int(width)) for layer, width in widths.items())
    except (ValueError, SyntaxError, AttributeError, TypeError):
        raise PyramidionError(f"enc_layers_and_token_width is not a dict of layers and lengths: {text!r}") from None
    steps = []
    for layer, width in entries:
        if width != length:
            steps.append(f"{layer + 1}:{width}")
        length = width
    return ",".join(steps)


def published_state(state: Mapping[str, Tensor], schedule: str) -> dict[str, Tensor]:
    """Map the parameter names of the published code, and drop scorers of layers that do not pool.

    Args:
        state: the published model's state dict.
        schedule: the pooling schedule from :func:`published_options`.

    Raises:
        PyramidionError: a layer that pools has no scorer.
    """
    pooling_layers = [step.split(":")[0] for step in schedule.split(",") if step]
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        match = _SCORER.fullmatch(name)
        if match is None:
            converted[name] = tensor
        elif str(int(match.group(1)) + 1) in pooling_layers:
            converted[f"encoder.poolings.{int(match.group(1)) + 1}.scorer.proj.{match.group(2)}"] = tensor
    for layer in pooling_layers:
        if f"encoder.poolings.{layer}.scorer.proj.weight" not in converted:
            raise PyramidionError(f"the published checkpoint has no scorer for the pooling after layer {layer}")
    return converted


def check_published(options: dict[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuse weights that do not fit a model with these options. The model is built on the meta device.

    Args:
        options: all fields of :class:`~pyramidion_fairseq.config.PyramidionConfig`.
        state: the result of :func:`published_state`.

    Raises:
        PyramidionError: a tensor is missing, unknown or of another shape, or options and weights do not match.
    """
    try:
        plain_options.check_options(options, state)  # before a model of that size is built
    except plain_options.UnusableOptionError as error:
        raise PyramidionError(f"cannot convert a published model with these arguments: {error}") from None
    source, target = (_dictionary_of(state, f"{side}.embed_tokens.weight") for side in ("encoder", "decoder"))
    with torch.device("meta"):
        model = PyramidionModel.build_model(
            Namespace(**options), Namespace(source_dictionary=source, target_dictionary=target)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about copying to meta tensors
        try:
            model.load_state_dict(dict(state), strict=True)
        except RuntimeError as error:
            raise PyramidionError(f"cannot convert a published model with these weights: {one_line(error)}") from None


def _dictionary_of(state: Mapping[str, Tensor], embeddings: str) -> Dictionary:
    """Return a dictionary with as many symbols as there are embeddings."""
    if embeddings not in state or state[embeddings].dim() != 2:
        raise PyramidionError(f"cannot convert a published model without the matrix {embeddings}")
    return make_dictionary(list(map(str, range(len(state[embeddings])))))


def convert_published(checkpoint: Mapping[str, Any], data: str | None = None) -> dict[str, Any]:
    """Convert a checkpoint of the authors' published code to one that stock fairseq loads with ``--user-dir``.

    Args:
        checkpoint: the checkpoint, with "model" and "args" (a Namespace or a dict).
        data: folder with the dictionaries of its training, which are added to the result; by default the folder that
            its arguments name. Dictionaries that cannot be read, or do not fit the embeddings, are omitted.

    Returns:
        A checkpoint with "model" and "cfg", for generation and ``--finetune-from-model``, without optimizer state.

    Raises:
        PyramidionError: the checkpoint is of other code, its model has no counterpart, a weight is not finite, or
            weights and arguments do not match.

    Note:
        The published code pads every document to ``max_source_positions`` and does not mask padding. This package
        masks it, so that only documents of full length are encoded identically.
    """
    args = checkpoint.get("args")
    args = args if isinstance(args, Mapping) or args is None else vars(args)
    if not args or "enc_layers_and_token_width" not in args or "model" not in checkpoint:
        raise PyramidionError(
            "not a checkpoint of the published code: it needs 'model', and 'args' with enc_layers_and_token_width"
        )
    check_finite(checkpoint["model"], "the published checkpoint")
    options = published_options(args)
    given = {key: args[key] for key in ("data", "source_lang", "target_lang") if args.get(key)}
    full = convert_namespace_to_omegaconf(
        Namespace(arch="pooled_transformer", task="long_document_summarization", **options, **given)
    )
    cfg: Any = OmegaConf.to_container(full, resolve=True, enum_to_str=True)
    state = published_state(checkpoint["model"], options["pooling_schedule"])
    check_published(cfg["model"], state)
    found = vocabularies.named_by({"args": args, "model": state}, data) or {}
    carried = {vocabularies.KEY: {**found, "read_from": None}} if found else {}
    return new_checkpoint(cfg, state, carried)
