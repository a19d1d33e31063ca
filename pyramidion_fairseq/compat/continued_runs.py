"""Continued runs: saves and restores state that stock fairseq does not store in checkpoints.

* The dictionaries (:mod:`pyramidion_fairseq.vocabularies`).
* The counter of ``--patience``: fairseq would count from 0 again, and train after the run had stopped. After
  ``--max-update`` and ``--stop-time-hours`` it would make one more update. It would count the hours of a pretrained
  model for the run that fine-tunes it.
* The name of the metric of "best": a best value of another metric is dropped, because it might never be exceeded.
* The number of processes that shared the batches. fairseq counts the batches of one process, and would read documents
  twice or skip them with another number. With another ``--update-freq`` it would skip the rest of the epoch.
* The options of the model (:mod:`.continued_models`).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import sys
from typing import Any, Iterator, Mapping

import torch
from fairseq import checkpoint_utils
from fairseq.data import iterators
from fairseq.trainer import Trainer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from .. import class_labels, vocabularies
from ..errors import PyramidionError, one_line
from . import continued_models
from .marks import mark

logger = logging.getLogger(__name__)

#: Key in ``extra_state``: {"best": float, "num_runs": int} of ``should_stop_early``.
PATIENCE = "patience"
#: Key in a loaded ``extra_state``: (name, whether it is maximised) of the metric that "best" is of.
METRIC = "best_metric"
#: Key in ``extra_state``: validations without improvement, as counted by ``--lr-scheduler reduce_lr_on_plateau``.
PLATEAU = "plateau"
#: Key in a loaded ``extra_state``: number of processes, or of groups that share documents, that shared the batches.
SHARDS = "shards"
#: Key in a loaded ``extra_state``: the options that determine the batches and their order.
BATCHES = "batches"
_OF_BATCHES = ("batch_size", "max_tokens", "seed")
#: Key in the ``extra_state`` that is added to a checkpoint without one: it can be fine-tuned, but not continued.
UNKNOWN = "no_record"
UNUSABLE = "has no usable state of its run: use another checkpoint, or --finetune-from-model"
OTHER_SCHEDULER = (
    "the checkpoint to continue is of another --lr-scheduler: use the same one, or reset its state with "
    "--reset-lr-scheduler"
)
#: Modules that may contain fairseq's training loop: installed, run as a file, or in a process spawned by the latter.
_TRAINING = ("fairseq_cli.train", "__main__", "__mp_main__")


def install() -> None:
    """Make fairseq's trainer save, restore and check this state. Further calls do nothing."""
    if getattr(Trainer.load_checkpoint, "continues", False):
        return
    Trainer.state_dict = _with_records(Trainer.state_dict)
    Trainer.load_checkpoint = _trainer_loader(Trainer.load_checkpoint)
    checkpoint_utils.load_checkpoint = _run_loader(checkpoint_utils.load_checkpoint)
    iterators.GroupedIterator.__init__ = _grouping(iterators.GroupedIterator.__init__)


def _grouping(stock: Any) -> Any:
    @functools.wraps(stock)
    def init(self: Any, iterable: Any, chunk_size: int, skip_remainder_batch: bool = False) -> None:
        """Group batches as fairseq does, but read the whole rest of the epoch if ``--update-freq`` has changed."""
        done = getattr(iterable, "n", 0)
        stock(self, iterable, chunk_size, skip_remainder_batch)
        if done % chunk_size and not skip_remainder_batch:
            self.total = self.n + math.ceil((len(iterable) - done) / chunk_size)

    return init


def add_records_of_options(state: Mapping[str, Any]) -> None:
    """Add to a checkpoint's ``extra_state`` what is read from its options, which the trainer does not return."""
    vocabularies.add_named_dictionaries(state)
    options = vocabularies.options_of(state, "checkpoint")
    name = options.get("best_checkpoint_metric")
    if not isinstance(state.get("extra_state"), dict):
        return
    continued_models.add_record(state)
    processes = vocabularies.options_of(state, "distributed_training").get("distributed_world_size")
    sharing = vocabularies.options_of(state, "task").get("sequence_parallel", 1)
    if type(processes) is int and type(sharing) is int and processes >= sharing >= 1:
        state["extra_state"][SHARDS] = processes // sharing
    given = {**vocabularies.options_of(state, "dataset"), **vocabularies.options_of(state, "common")}
    state["extra_state"][BATCHES] = {name: given[name] for name in _OF_BATCHES if name in given}
    if name:
        state["extra_state"][METRIC] = (name, bool(options.get("maximize_best_checkpoint_metric")))


def _with_records(stock: Any) -> Any:
    @functools.wraps(stock)
    def state_dict(self: Any) -> dict[str, Any]:
        """Return fairseq's state, with the dictionaries, class labels and counters that the run has."""
        state = stock(self)
        found = _vocabularies(self)
        if found is not None:
            state["extra_state"][vocabularies.KEY] = found
        labels, head = class_labels.labels_of_task(self.task), _head(self)
        if labels is not None:
            state["extra_state"][class_labels.KEY] = class_labels.for_checkpoint(labels, head)
        for module in _training_modules():
            stop = module.should_stop_early
            if self.cfg.checkpoint.patience > 0 and getattr(stop, "best", None) is not None:
                state["extra_state"][PATIENCE] = {"best": float(stop.best), "num_runs": int(stop.num_runs)}
        scheduler = _plateau(self)
        if scheduler is not None:
            state["extra_state"][PLATEAU] = int(scheduler.num_bad_epochs)
        return state

    return state_dict


def _vocabularies(trainer: Any) -> dict[str, Any] | None:
    """Return the record of the data's vocabularies. It is made once, since files can change during training."""
    if "vocabularies" not in vars(trainer):
        trainer.vocabularies = vocabularies.of_training(trainer.task, getattr(trainer.cfg, "bpe", None))
    return trainer.vocabularies


def _trainer_loader(stock: Any) -> Any:
    @functools.wraps(stock)
    def load_checkpoint(
        self: Any,
        filename: str,
        reset_optimizer: bool = False,
        reset_lr_scheduler: bool = False,
        optimizer_overrides: Any = None,
        reset_meters: bool = False,
    ) -> Any:
        """Load a checkpoint as fairseq does, compare it with the data and options, and restore the counters.

        Raises:
            PyramidionError: the checkpoint was trained with other dictionaries or another sentencepiece model than the
                data's, or its state of training is unusable.
        """
        of_data = _vocabularies(self)
        options = (reset_optimizer, reset_lr_scheduler, optimizer_overrides, reset_meters)
        try:
            with _average_of_weights(self):
                extra_state = stock(self, filename, *options)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            if isinstance(error, PyramidionError):
                raise
            if not (reset_optimizer or reset_lr_scheduler) and _has_another_scheduler(self):
                raise PyramidionError(OTHER_SCHEDULER) from error
            raise PyramidionError(f"{filename} {UNUSABLE} ({type(error).__name__}: {one_line(error)})") from error
        if extra_state is None:
            return None
        fine_tunes = reset_optimizer and reset_meters  # only the weights continue
        _check_record(extra_state, filename, fine_tunes=fine_tunes)
        _check_vocabularies(self, extra_state, filename, of_data)
        if not reset_optimizer:
            _warn_of_no_optimizer(self, filename)
        if fine_tunes:
            self._previous_training_time = 0
            return extra_state
        if not reset_optimizer and not reset_meters:
            _restore_counters(self, extra_state)
        continued_models.warn_of_other_model(self, extra_state)
        if not self.cfg.checkpoint.reset_dataloader:
            _convert_batch_count(self, extra_state)
            _warn_of_other_batches(self, extra_state)
        return extra_state

    return mark(load_checkpoint, "continues")


@contextlib.contextmanager
def _average_of_weights(trainer: Any) -> Iterator[None]:
    """Use a checkpoint's weights as its moving average if it has none, with ``--store-ema``.

    fairseq intends to do so, but has deleted the weights by then.
    """
    read = checkpoint_utils.load_checkpoint_to_cpu

    @functools.wraps(read)
    def load_checkpoint_to_cpu(*args: Any, **kwargs: Any) -> Any:
        state = read(*args, **kwargs)
        if isinstance(state.get("extra_state"), dict) and "ema" not in state["extra_state"]:
            logger.info("the checkpoint has no moving average (--store-ema): it is initialised from the weights")
            state["extra_state"]["ema"] = state["model"]
        return state

    if trainer.cfg.ema.store_ema:
        checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu
    try:
        yield
    finally:
        checkpoint_utils.load_checkpoint_to_cpu = read


def _has_another_scheduler(trainer: Any) -> bool:
    """Return whether the checkpoint's scheduler has other state than the trainer's."""
    state = (trainer._optim_history or [{}])[-1].get("lr_scheduler_state")
    return isinstance(state, dict) and state.keys() != trainer.lr_scheduler.state_dict().keys()


def _check_record(extra_state: Any, filename: str, fine_tunes: bool) -> None:
    """Refuse a state of training that is missing, or has invalid counts or results."""
    if isinstance(extra_state, dict) and extra_state.pop(UNKNOWN, False) and not fine_tunes:
        raise PyramidionError(f"{filename} {UNUSABLE} (it is missing)")
    record = extra_state if isinstance(extra_state, dict) else {"train_iterator": None}
    iterator_state = record.get("train_iterator", {})
    counts: list[Any] = [None]
    if isinstance(iterator_state, dict):
        counts = [iterator_state.get(name, 1) for name in ("epoch", "iterations_in_epoch")]
    results = [record.get(name) or 0 for name in ("best", "val_loss", "previous_training_time")]
    sound = all(type(count) is int and 0 <= count < 2**31 for count in counts)
    if not sound or not all(isinstance(result, (int, float, torch.Tensor)) for result in results):
        raise PyramidionError(f"{filename} {UNUSABLE} (train_iterator is {iterator_state!r:.100})")


def _check_vocabularies(trainer: Any, extra_state: Any, filename: str, of_data: Mapping[str, Any] | None) -> None:
    remedy = (
        "prepare the data with the checkpoint's dictionary (fairseq-preprocess --srcdict), or start another run in "
        "another --save-dir"
    )
    quiet = trainer.data_parallel_rank != 0
    vocabularies.check_dictionaries(extra_state, trainer.task, filename, remedy, quiet)
    vocabularies.check_same_sentencepiece(extra_state, of_data, filename)
    class_labels.check_labels(extra_state, class_labels.labels_of_task(trainer.task), _head(trainer), filename)


def _warn_of_no_optimizer(trainer: Any, filename: str) -> None:
    """Warn that the optimizer is reset, if the checkpoint lacks its state (``--no-save-optimizer-state``)."""
    history = trainer._optim_history or [{}]
    made = history[-1].get("num_updates", 0)
    if made > trainer.get_num_updates() and trainer.data_parallel_rank == 0:
        logger.warning(
            f"{filename} has no optimizer state (--no-save-optimizer-state): the optimizer is reset, and the "
            f"{made:,} updates of the checkpoint are not counted"
        )


def _head(trainer: Any) -> str:
    """Return the name of the classification head that is trained; "" if there is none."""
    return str(getattr(trainer.cfg.task, "classification_head_name", "") or "")


def _restore_counters(trainer: Any, extra_state: dict[str, Any]) -> None:
    """Restore the counters of validations without improvement, or reset them if the metric of "best" has changed."""
    cfg, scheduler = trainer.cfg.checkpoint, _plateau(trainer)
    now = (cfg.best_checkpoint_metric, bool(cfg.maximize_best_checkpoint_metric))
    then = tuple(extra_state.get(METRIC) or now)
    if then != now:
        best = extra_state.pop("best", None)
        if trainer.data_parallel_rank == 0:
            before, after = (f"{'largest' if maximize else 'smallest'} {name}" for name, maximize in (then, now))
            logger.warning(
                f"checkpoint_best.pt was that of the {before} and will be that of the {after}: the best value so far, "
                f"{best}, is dropped, and the next validated checkpoint will be the best"
            )
        if scheduler is not None:
            scheduler.best = float("-inf") if scheduler.mode == "max" else float("inf")
        return
    counted = extra_state.get(PATIENCE) or {"best": extra_state.get("best"), "num_runs": 0}
    for module in _training_modules():
        module.should_stop_early.best, module.should_stop_early.num_runs = counted["best"], counted["num_runs"]
    if scheduler is not None:
        scheduler.num_bad_epochs = extra_state.get(PLATEAU, 0)
        # At the end of an epoch, fairseq saves the checkpoint before it calls the scheduler with the validation loss.
        if extra_state["train_iterator"].get("iterations_in_epoch") == 0 and extra_state.get("val_loss") is not None:
            trainer.lr_step(extra_state["train_iterator"]["epoch"], extra_state["val_loss"])


def _convert_batch_count(trainer: Any, extra_state: dict[str, Any]) -> None:
    """Convert the number of batches read in this epoch if the number of processes has changed."""
    now = max(1, trainer.data_parallel_world_size // int(getattr(trainer.cfg.task, "sequence_parallel", 1)))
    then, iterator_state = extra_state.pop(SHARDS, now), extra_state["train_iterator"]
    if then == now or not iterator_state.get("iterations_in_epoch"):
        return
    done = iterator_state["iterations_in_epoch"] * then
    iterator_state["iterations_in_epoch"] = done // now
    logger.info(
        f"{then} processes have read {done:,} batches of the epoch; {now} continue after {done // now * now:,}"
    )


def _warn_of_other_batches(trainer: Any, extra_state: dict[str, Any]) -> None:
    """Warn of changed options that change the batches of an unfinished epoch."""
    now = {**trainer.cfg.dataset, **trainer.cfg.common}
    then = {name: value for name, value in (extra_state.get(BATCHES) or {}).items() if now[name] != value}
    other = [f"--{key.replace('_', '-')} was {'not given' if was is None else was}" for key, was in then.items()]
    if other and extra_state["train_iterator"].get("iterations_in_epoch") and trainer.data_parallel_rank == 0:
        logger.warning(
            f"{', '.join(other)}: this changes the batches of the current epoch, so that some documents are skipped "
            "or read twice; --reset-dataloader restarts the epoch"
        )


def _plateau(trainer: Any) -> ReduceLROnPlateau | None:
    """Return torch's scheduler if it is ``ReduceLROnPlateau``; None for others."""
    scheduler = getattr(trainer.lr_scheduler, "lr_scheduler", None)
    return scheduler if isinstance(scheduler, ReduceLROnPlateau) else None


def _run_loader(stock: Any) -> Any:
    @functools.wraps(stock)
    def load_checkpoint(cfg: Any, trainer: Any, **passthrough_args: Any) -> Any:
        """Load a checkpoint as fairseq does, after resetting the counters of earlier runs in this process.

        A run that ``--patience``, ``--max-update`` or ``--stop-time-hours`` had ended does not train further.
        """
        vars(checkpoint_utils.save_checkpoint).pop("best", None)
        for module in _training_modules():
            module.should_stop_early.best, module.should_stop_early.num_runs = None, 0
            if not getattr(module.train, "stops", False):
                module.train = _epoch(module.train, module)
        return stock(cfg, trainer, **passthrough_args)

    return load_checkpoint


def _epoch(stock: Any, module: Any) -> Any:
    @functools.wraps(stock)
    def train(cfg: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
        """Train an epoch as fairseq does, unless the run had finished before it was started again."""
        # The hours in the checkpoint, which are the same in all processes.
        hours = trainer._previous_training_time / 3600
        reason = _end_reason(cfg, module.should_stop_early.num_runs, trainer.get_num_updates(), hours)
        if reason:
            logger.info(f"this run has finished: {reason}; to continue it, raise that limit")
            return [None], True
        return stock(cfg, trainer, *args, **kwargs)

    return mark(train, "stops")


def _end_reason(cfg: Any, bad_validations: int, updates: int, hours: float) -> str:
    """Return why a run has finished; "" if it has not. Stock fairseq checks only after the next update."""
    if 0 < cfg.checkpoint.patience <= bad_validations:
        return f"no better validation in the last {bad_validations} (--patience {cfg.checkpoint.patience})"
    most, longest = cfg.optimization.max_update, cfg.optimization.stop_time_hours
    if 0 < longest < hours:
        return f"it has trained for {hours:.3g} hours (--stop-time-hours {longest:g})"
    return f"it has made {updates:,} updates (--max-update {most})" if 0 < most <= updates else ""


def _training_modules() -> Iterator[Any]:
    for name in _TRAINING:
        module = sys.modules.get(name)
        if hasattr(module, "should_stop_early"):
            yield module
