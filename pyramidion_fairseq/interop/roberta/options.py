"""Options of a converted RoBERTa, from fairseq's arguments or Hugging Face's config.json."""

from __future__ import annotations

from typing import Any, Mapping

from ...errors import PyramidionError
from ...models.architectures import ENCODERS, fields_of
from ...models.encoder_config import FIELDS
from ..bart.options import ACTIVATIONS

#: Values of ``model_type`` in config.json that can be converted.
KINDS = ("roberta", "camembert", "xlm-roberta")
_NAMES = {
    "num_hidden_layers": "encoder_layers",
    "hidden_size": "encoder_embed_dim",
    "intermediate_size": "encoder_ffn_embed_dim",
    "num_attention_heads": "encoder_attention_heads",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
}
#: Fields that the pretrained weights determine, so that they cannot be set.
SHAPE = ["encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim", "encoder_attention_heads",
         "encoder_normalize_before", "no_layernorm_embedding", "activation_fn", "untie_weights_roberta"]  # fmt: skip


def from_fairseq(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a fairseq RoBERTa or of an encoder of this package.

    Raises:
        PyramidionError: the model is of another kind.
    """
    arch = str(args.get("arch") or args.get("_name") or "")
    known = {name: args[name] for name in FIELDS if args.get(name) is not None}
    if arch in ENCODERS:
        return {**fields_of(arch), **known}
    if not arch.startswith(("roberta", "camembert", "xlmr")):
        raise PyramidionError(f"not a RoBERTa: the checkpoint's architecture is {arch or 'not named'}")
    for name in ("encoder_layers_to_keep", "encoder_layerdrop", "quant_noise_pq", "spectral_norm_classification_head"):
        if args.get(name):
            raise PyramidionError(f"cannot convert a RoBERTa with {name}={args[name]!r}")
    size = "lsg_roberta_large" if "large" in arch else "lsg_roberta_base"
    known["no_layernorm_embedding"] = not args.get("layernorm_embedding", "prenorm" not in arch)
    return {**fields_of(size), **known}


def from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return options from the config.json of a Hugging Face model or of an exported directory.

    Raises:
        PyramidionError: the model is of another kind.
    """
    if "pyramidion" in config:
        return {name: config["pyramidion"][name] for name in FIELDS if name in config["pyramidion"]}
    kind = config.get("model_type")
    if kind not in KINDS:
        raise PyramidionError(f"not a RoBERTa, CamemBERT or XLM-R: model_type is {kind!r}")
    position = config.get("position_embedding_type") or "absolute"
    if position != "absolute" or config.get("is_decoder") or config.get("add_cross_attention"):
        raise PyramidionError(f"cannot convert a {kind} with relative positions, or one that is a decoder")
    if config.get("layer_norm_eps", 1e-12) != 1e-5:
        raise PyramidionError(f"cannot convert a {kind} with layer_norm_eps={config.get('layer_norm_eps', 1e-12)}: "
                              "fairseq has 1e-5")  # fmt: skip
    if config.get("pad_token_id", 1) != 1:  # transformers counts positions from the row after that of padding
        raise PyramidionError(f"cannot convert a {kind} with pad_token_id={config['pad_token_id']}: fairseq has 1")
    activation = config.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise PyramidionError(f"cannot convert a {kind} with hidden_act={activation!r}")
    options = {ours: config[theirs] for theirs, ours in _NAMES.items() if config.get(theirs) is not None}
    head = config.get("classifier_dropout")
    return {
        **fields_of("lsg_roberta"),
        **options,
        "activation_fn": ACTIVATIONS[activation],
        "pooler_dropout": options.get("dropout", 0.0) if head is None else head,
        "max_positions": config["max_position_embeddings"] - 2,
    }
