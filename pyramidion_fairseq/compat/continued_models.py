"""Runs that go on with other options of the model: where the weights fit, as with another k, fairseq says nothing."""

from __future__ import annotations

import logging
from argparse import Namespace
from typing import Any, Mapping

from .. import vocabularies
from ..config import complete

logger = logging.getLogger(__name__)

#: In ``extra_state`` once it has been read: the options of the checkpoint's model, where it is one that can pool.
KEY = "model_options"
#: Options that say how a model is trained, not what it computes.
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
    """Add the options of its model to a checkpoint's ``extra_state``, which the trainer hands on.

    Args:
        state: the checkpoint; its ``extra_state`` is a dict.
    """
    options = vocabularies.options_of(state, "model")
    state["extra_state"].pop(KEY, None)
    if "pooling_schedule" in options:
        state["extra_state"][KEY] = dict(options)


def tell_of_other_model(trainer: Any, extra_state: Mapping[str, Any]) -> None:
    """Warn of options with which the model that goes on is not the one that was trained.

    Args:
        trainer: fairseq's.
        extra_state: the checkpoint's, with :data:`KEY`.
    """
    if KEY not in extra_state or trainer.data_parallel_rank != 0:
        return
    try:
        then, now = vars(complete(Namespace(**extra_state[KEY]))), vars(complete(trainer.cfg.model))
    except (ArithmeticError, AttributeError, TypeError, ValueError):
        return  # options that no model can be built of: the weights have told what they are
    names = [name for name in then if name not in _OF_TRAINING and then[name] != now[name]]
    if names:
        told = ", ".join(f"--{name.replace('_', '-')} was {then[name] or 'not given'}" for name in names)
        logger.warning(
            f"{told}: the run goes on with another model than it was begun with, and the best so far, which "
            "checkpoint_best.pt has, is of that one; to train another model from these weights: "
            "--finetune-from-model, in another --save-dir"
        )
