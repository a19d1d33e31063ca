"""Options of the encoder-only models: the encoder options of ``config.py``, and RoBERTa's own.

Annotations are not postponed, for the reason given in ``config.py``.
"""

from argparse import Namespace
from dataclasses import MISSING, field, fields, make_dataclass
from typing import Any

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.utils import get_available_activation_fns

from ..config import PyramidionConfig, complete, read_options
from ..errors import PyramidionError
from ..poolers import POOLERS
from ..schedule import PoolingSchedule

#: Prefixes of PyramidionConfig fields that do not apply here, or have another name in RoBERTa.
_EXCLUDED = ("decoder_", "pointer", "share_", "max_source_", "max_target_", "prepend_bos", "encoder_learned_pos",
             "no_scale_embedding", "lsg_no_")  # fmt: skip
#: Values that are the same in every RoBERTa.
_ROBERTA_FIXED = {
    "encoder_learned_pos": True,
    "no_scale_embedding": True,
    # One vector per token, with the first global token's as the first one, as in published LSG encoders.
    "lsg_no_global_to_decoder": True,
    "lsg_no_pool_with_global": False,
}
#: Defaults that differ from PyramidionConfig: RoBERTa's base size, and LSG attention.
_ROBERTA_DEFAULTS = {
    "attention": "lsg",
    "encoder_layers": 12,
    "encoder_attention_heads": 12,
    "layernorm_embedding": True,
    "activation_fn": "gelu",
    "activation_dropout": 0.0,
}


def _encoder_fields() -> list[tuple[str, Any, Any]]:
    kept = [f for f in fields(PyramidionConfig) if f.name != "_name" and not f.name.startswith(_EXCLUDED)]
    return [
        (f.name, f.type, field(default=_ROBERTA_DEFAULTS.get(f.name, f.default), metadata=f.metadata))
        for f in kept
        if f.default is not MISSING and f.name != "layernorm_embedding"
    ]


def _option(name: str, kind: Any, default: Any, help_text: str) -> tuple[str, Any, Any]:
    return name, kind, field(default=default, metadata={"help": help_text})


_ROBERTA_OPTIONS = [
    _option("max_positions", int, 4096, "maximum length of a document in tokens, <s> and </s> counted"),
    _option("no_layernorm_embedding", bool, False, "no layer norm after the embedding, as in roberta_prenorm"),
    _option("pooler_dropout", float, 0.0, "dropout probability in the classification head"),
    _option(
        "pooler_activation_fn",
        ChoiceEnum(get_available_activation_fns()),
        "tanh",
        "activation of the classification head",
    ),
    _option("untie_weights_roberta", bool, False, "the output of masked_lm does not share the embedding's weights"),
    _option("load_checkpoint_heads", bool, False, "register the classification heads of a checkpoint that is loaded"),
]
#: Options of :class:`~pyramidion_fairseq.models.roberta.LSGRobertaModel`. Lengths are in tokens.
EncoderConfig = make_dataclass("EncoderConfig", [*_encoder_fields(), *_ROBERTA_OPTIONS], bases=(FairseqDataclass,))
#: Names of the options.
FIELDS = [f.name for f in fields(EncoderConfig) if f.name != "_name"]


def complete_encoder(cfg: Any) -> Namespace:
    """Return the options of :data:`EncoderConfig`, and the fixed ones of every RoBERTa, as a plain namespace.

    Args:
        cfg: an EncoderConfig, an omegaconf DictConfig or an argparse Namespace; unknown fields are dropped, missing
            ones get their defaults.

    Raises:
        PyramidionError: values contradict each other, or make no sense without a decoder.
    """
    own = read_options(cfg, EncoderConfig)
    for name in ("pooler_activation_fn", "activation_fn"):
        own[name] = str(getattr(own[name], "value", own[name]))
    if own["max_positions"] is None or own["max_positions"] < 3:
        raise PyramidionError(f"--max-positions must be at least 3, got {own['max_positions']}")
    schedule = PoolingSchedule.of(own["pooling_schedule"], own["max_positions"], own["encoder_layers"] - 1)
    if schedule.steps and schedule.steps[0][1] > own["max_positions"]:
        raise PyramidionError(
            f'pooling schedule "{schedule}" keeps {schedule.steps[0][1]} tokens after layer {schedule.steps[0][0]}, '
            f"but documents have at most {own['max_positions']} (--max-positions)"
        )
    own["pooling_schedule"] = str(schedule)
    shared = {**own, **_ROBERTA_FIXED, "layernorm_embedding": not own["no_layernorm_embedding"]}
    options = complete(Namespace(**shared, max_source_positions=own["max_positions"]))
    options = Namespace(**{**own, **vars(options)})
    _check_poolings(options)
    return options


def _check_poolings(options: Namespace) -> None:
    """Raise an error for poolings whose output is not read: a classifier reads only the vector of ``<s>``."""
    steps = PoolingSchedule.parse(options.pooling_schedule).steps
    if not steps:
        return
    pooler = POOLERS.get(options.pooler)
    if pooler.adds_scores_to_attention:
        raise PyramidionError(
            f"--pooler {options.pooler} adds scores to a decoder's attention, and this model has no decoder: take "
            "another one, such as successive_halving"
        )
    if steps[-1][0] == options.encoder_layers and not (pooler.upsamples and not options.no_upsampling):
        raise PyramidionError(
            f"--pooling-schedule {options.pooling_schedule} pools after the last layer ({options.encoder_layers}), "
            "where nothing reads what is left: the classifier takes the vector of <s>; pool after an earlier layer"
        )
