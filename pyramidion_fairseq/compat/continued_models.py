"""A warning if a run continues with other model options, such as another k; fairseq gives none if the weights fit."""

from __future__ import annotations

import logging
from argparse import Namespace
from typing import Any, Mapping

from .. import vocabularies
from ..config import complete

logger = logging.getLogger(__name__)

#: Key in a loaded ``extra_state``: the options of the checkpoint's model, if it has a pooling schedule.
KEY = "model_options"
#: Options that affect how a model is trained, but not what it computes.
_OF_TRAINING = (
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "checkpoint_activations",
    "offload_activations",
    "compile_encoder_layers",
    "min_params_to_wrap",
)


def add_record(state: Mapping[str, Any]) -> None:
    """Add a checkpoint's model options to its ``extra_state``, which the trainer returns.

    Args:
        state: the checkpoint; its ``extra_state`` must be a dict.
    """
    options = vocabularies.options_of(state, "model")
    state["extra_state"].pop(KEY, None)
    if "pooling_schedule" in options:
        state["extra_state"][KEY] = dict(options)


def warn_of_other_model(trainer: Any, extra_state: Mapping[str, Any]) -> None:
    """Warn of model options that differ from those of the checkpoint.

    Args:
        trainer: fairseq's trainer.
        extra_state: ``extra_state`` of the checkpoint, with :data:`KEY` or without.
    """
    if KEY not in extra_state or trainer.data_parallel_rank != 0:
        return
    try:
        then, now = vars(complete(Namespace(**extra_state[KEY]))), vars(complete(trainer.cfg.model))
    except (ArithmeticError, AttributeError, TypeError, ValueError):
        return  # invalid options; the weights have been checked already
    names = [name for name in then if name not in _OF_TRAINING and then[name] != now[name]]
    if names:
        changed = ", ".join(f"--{name.replace('_', '-')} was {then[name] or 'not given'}" for name in names)
        logger.warning(
            f"{changed}: the run continues with another model than it started with, and checkpoint_best.pt is of the "
            "earlier model; to train another model from these weights, use --finetune-from-model and another "
            "--save-dir"
        )
