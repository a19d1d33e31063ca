"""Conversion of BART's options in fairseq's arguments or Hugging Face's config.json to fields of PyramidionConfig."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import fields
from typing import Any, Mapping

from ...config import PyramidionConfig, complete
from ...errors import PyramidionError
from ...models.architectures import ARCHITECTURES, fields_of

#: Arguments of fairseq's BART that must have this value if given; others have no counterpart.
_REQUIRED = {
    "encoder_normalize_before": False,
    "decoder_normalize_before": False,
    "encoder_learned_pos": True,
    "decoder_learned_pos": True,
    "share_all_embeddings": True,
    "layernorm_embedding": True,
    "no_token_positional_embeddings": False,
    "no_cross_attention": False,
    "cross_self_attention": False,
    "adaptive_input": False,
    "adaptive_softmax_cutoff": None,
}
#: Hugging Face's names, and those of PyramidionConfig.
_NAMES = {
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "encoder_ffn_dim": "encoder_ffn_embed_dim",
    "decoder_ffn_dim": "decoder_ffn_embed_dim",
    "encoder_attention_heads": "encoder_attention_heads",
    "decoder_attention_heads": "decoder_attention_heads",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
}
#: Defaults of transformers for the numbers of heads, which cannot be read from shapes of tensors.
_HEADS = {"encoder_attention_heads": 16, "decoder_attention_heads": 16}
#: Activations of transformers that fairseq has too: name there -> name in fairseq.
ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "gelu_new": "gelu_accurate"}
#: Fields that are determined by the pretrained weights.
SHAPE = [
    *(f"{side}_{what}" for side in ("encoder", "decoder") for what in ("layers", "embed_dim", "ffn_embed_dim")),
    *(f"{side}_{what}" for side in ("encoder", "decoder") for what in ("attention_heads", "normalize_before")),
    *("encoder_learned_pos", "decoder_learned_pos", "decoder_positions", "share_all_embeddings"),
    *("share_decoder_input_output_embed", "no_scale_embedding", "layernorm_embedding", "activation_fn"),
    "pegasus_positions",
]


def from_fairseq(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a fairseq BART, or of a model of this package.

    Args:
        args: the arguments of the model, by name.

    Raises:
        PyramidionError: it is another kind of model.
    """
    arch = _architecture(args)
    if arch in ARCHITECTURES:
        return _from_ours(arch, args)
    if not (arch.startswith("bart") or arch.startswith("mbart")):
        raise PyramidionError(f"not a BART: the checkpoint's architecture is {arch or 'not named'}")
    return _from_stock(args, "BART", {})


def from_arguments(args: Mapping[str, Any], title: str, prefix: str, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of another family's fairseq checkpoint, or of a model of this package.

    Args:
        args: the arguments of the model, by name.
        title: title of the family, for messages.
        prefix: prefix of the family's architectures.
        fixed: arguments that must have this value if given, and that differ from BART's.

    Raises:
        PyramidionError: it is another kind of model.
    """
    arch = _architecture(args)
    if arch in ARCHITECTURES:
        return _from_ours(arch, args)
    if not arch.startswith(prefix):
        raise PyramidionError(f"not an {title}: the checkpoint's architecture is {arch or 'not named'}")
    return _from_stock(args, title, fixed)


def _architecture(args: Mapping[str, Any]) -> str:
    return str(args.get("arch") or args.get("_name") or "")


def _from_ours(arch: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a model of this package; missing ones are those of the architecture."""
    return vars(complete(Namespace(**{**fields_of(arch), **args})))


def _from_stock(args: Mapping[str, Any], title: str, fixed: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in {**_REQUIRED, **fixed}.items():
        if args.get(name, value) != value:
            raise PyramidionError(f"cannot convert a {title} with {name}={args[name]!r}: only {value!r} is supported")
    for name in ("encoder_layerdrop", "decoder_layerdrop", "quant_noise_pq"):
        if args.get(name):
            raise PyramidionError(f"cannot convert a {title} with {name}={args[name]!r}")
    known = {field.name for field in fields(PyramidionConfig)} - {"_name"}
    options = {**fields_of("bart_base_long"), **fixed}
    options.update({k: v for k, v in args.items() if k in known and v is not None})
    options["activation_dropout"] = args.get("relu_dropout") or args.get("activation_dropout") or 0.0
    return {**options, "decoder_positions": True, "share_decoder_input_output_embed": True, "prepend_bos": True}


def from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options in the config.json of a Hugging Face BART, or of this package's export.

    Raises:
        PyramidionError: it is another kind of model.
    """
    if "pyramidion" in config:
        return dict(config["pyramidion"])
    if config.get("model_type") != "bart":
        raise PyramidionError(f"not a BART: model_type is {config.get('model_type')!r}")
    if config.get("normalize_before") or config.get("add_final_layer_norm"):
        raise PyramidionError("cannot convert a BART with pre-norm layers")
    if not config.get("normalize_embedding", True) or config.get("static_position_embeddings"):
        raise PyramidionError("cannot convert a BART without layer norm after the embedding, or with fixed positions")
    return common(config, "BART", {})


def required(config: Mapping[str, Any], name: str) -> int:
    """Return a positive integer of a config.json; PyramidionError if it is missing or invalid."""
    value = config.get(name)
    if not isinstance(value, int) or value < 1:
        raise PyramidionError(f"config.json must have a positive integer {name}, got {value!r:.50}")
    return value


def common(config: Mapping[str, Any], title: str, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that all families have in config.json.

    Args:
        config: config.json of transformers.
        title: title of the family, for messages.
        fixed: fields of PyramidionConfig that differ from BART's, including both lengths if there are two.

    Raises:
        PyramidionError: a setting has no counterpart in this package.
    """
    if config.get("encoder_layerdrop") or config.get("decoder_layerdrop"):
        raise PyramidionError(f"cannot convert a {title} with layer drop")
    if config.get("tie_word_embeddings") is False:
        raise PyramidionError(f"cannot convert a {title} with tie_word_embeddings=false: one embedding is shared")
    activation = config.get("activation_function", "gelu")
    if activation not in ACTIVATIONS:
        raise PyramidionError(f"cannot convert a {title} with activation_function={activation!r}")
    options = {**fields_of("bart_base_long"), **_HEADS}
    options.update({ours: config[theirs] for theirs, ours in _NAMES.items() if config.get(theirs) is not None})
    width, length = config["d_model"], config.get("max_position_embeddings")
    if "max_source_positions" not in fixed:
        required(config, "max_position_embeddings")
    return {
        **options,
        "encoder_embed_dim": width,
        "decoder_embed_dim": width,
        "activation_fn": ACTIVATIONS[activation],
        "no_scale_embedding": not config.get("scale_embedding", False),
        "max_source_positions": length,
        "max_target_positions": length,
        **fixed,
    }
