"""Checkpoints of other code, made ours: names and arguments mapped, weights unchanged."""

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
from ..checkpoints import check_finite
from ..compat import plain_options
from ..config import PyramidionConfig, complete
from ..errors import PyramidionError, one_line
from ..models import PyramidionModel
from ..schedule import HALVE, PoolingSchedule
from .dictionary_files import make_dictionary

logger = logging.getLogger(__name__)

#: Arguments of the published code that must have one of these values where they are given: no others have a
#: counterpart here.
_CHOICES = {
    "encoder_pooling": ("topk", "lambda"),
    "use_sparse_attn": ("pooler", "only_blockwise", "pooler_no_block"),
}
#: Those that must have this value, of the poolings and of everything else.
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
#: Arguments that the published code takes and never reads: name, value that means what it does, what it does.
_WITHOUT_EFFECT = (
    ("topk_softmax_base", 20, "the base of its peaked softmax is always 20"),
    ("no_decoder_positional_embeddings", False, "its decoder always has sinusoidal positions"),
)
_SCORER = re.compile(r"encoder\.pooler\.scorer\.(\d+)\.(weight|bias)")


def published_options(args: Mapping[str, Any]) -> dict[str, Any]:
    """Map the arguments of the authors' published code (applicaai/pyramidions) to ours.

    Args:
        args: the arguments by name, as a checkpoint's ``args`` has them.

    Returns:
        Fields of :class:`~pyramidion_fairseq.config.PyramidionConfig`.

    Raises:
        PyramidionError: an argument asks for something that our model does not have, or is malformed.
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
            logger.warning(f"{name}={args[name]!r} is left out, as the published code does nothing with it: {meaning}")
    return options


def _published_attention(args: Mapping[str, Any], pools: bool) -> str:
    """Say whether the published code attends in blocks: where it pools and is not told otherwise."""
    kind = args.get("use_sparse_attn", "pooler")
    if not pools and kind == "only_blockwise":
        logger.warning(
            "encoder_pooling=lambda with use_sparse_attn=only_blockwise is taken as blocks without a pooling; the "
            "newest published code ignores the second and attends to whole documents (then: --attention full)"
        )
        return "blockwise"
    return "blockwise" if pools and kind != "pooler_no_block" else "full"


def _published_schedule(args: Mapping[str, Any]) -> str:
    """Turn "{1: 2048, 2: 512}", layers counted from 0, into "2:2048,3:512".

    Without layers half of the tokens are kept after every one. A width that keeps all tokens is no pooling: so the
    authors write their models that never pool, "{1: 8192}".
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
    """Map the parameter names of the published code to ours; scorers of layers that do not pool are left out.

    Args:
        state: the published model's state dict.
        schedule: our pooling schedule, from :func:`published_options`.

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
    """Refuse weights that fairseq could not load into a model of these options, by a model without memory.

    Args:
        options: all fields of :class:`~pyramidion_fairseq.config.PyramidionConfig`.
        state: from :func:`published_state`.

    Raises:
        PyramidionError: a tensor is missing, unknown or of another shape, or the options are not those of the weights.
    """
    try:
        plain_options.check(options, state)  # before a model of that size is built
    except plain_options.UnusableOptionError as error:
        raise PyramidionError(f"cannot convert a published model with these arguments: {error}") from None
    source, target = (_dictionary_of(state, f"{side}.embed_tokens.weight") for side in ("encoder", "decoder"))
    with torch.device("meta"):
        model = PyramidionModel.build_model(
            Namespace(**options), Namespace(source_dictionary=source, target_dictionary=target)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing is copied
        try:
            model.load_state_dict(dict(state), strict=True)
        except RuntimeError as error:
            raise PyramidionError(f"cannot convert a published model with these weights: {one_line(error)}") from None


def _dictionary_of(state: Mapping[str, Tensor], embeddings: str) -> Dictionary:
    """Return a dictionary of as many symbols as there are embeddings."""
    if embeddings not in state or state[embeddings].dim() != 2:
        raise PyramidionError(f"cannot convert a published model without the matrix {embeddings}")
    return make_dictionary(list(map(str, range(len(state[embeddings])))))


def convert_published(checkpoint: Mapping[str, Any], data: str | None = None) -> dict[str, Any]:
    """Convert a checkpoint of the authors' published code to one that stock fairseq loads with ``--user-dir``.

    Args:
        checkpoint: with "model" and "args" (a Namespace or a dict), as fairseq saved it.
        data: folder with the dictionaries of its training, to carry; by default the one that its arguments name. They
            are left out where they cannot be read, or have other sizes than the embeddings.

    Returns:
        A checkpoint with "model" and "cfg", for generation and ``--finetune-from-model``. The optimiser's state is
        not carried over.

    Raises:
        PyramidionError: it is no such checkpoint, its model cannot be expressed, a weight is not finite, or the
            weights are not those of its arguments.

    Note:
        The published code pads every document to ``max_source_positions`` and lets padding take part; ours masks it,
        so only documents of full length are encoded exactly alike.
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
    return {
        "args": None,
        "cfg": cfg,
        "model": state,
        # What fairseq reads of a checkpoint when it generates from it or fine-tunes it.
        "extra_state": {"epoch": 0, "train_iterator": {"epoch": 0}, **carried},
        "optimizer_history": [
            {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}
        ],
    }
