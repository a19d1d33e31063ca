"""Continued runs: saves and restores what stock fairseq keeps outside of the checkpoint.

* The dictionaries (:mod:`pyramidion_fairseq.vocabularies`).
* What ``--patience`` has counted: fairseq would start at 0 again, and train on after it had stopped. After
  ``--max-update`` and ``--stop-time-hours`` it would make one more update. The hours of a model that is fine-tuned
  are not those of the run.
* The name of the metric of "best": a best value of another metric is dropped, or it could stay the best forever.
* How many processes shared the batches, of which fairseq counts those of one process: with another number of them it
  would read documents again, or leave them out. With another ``--update-freq`` it would leave out the epoch's rest.
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

#: In ``extra_state``: {"best": float, "num_runs": int} of ``should_stop_early``.
PATIENCE = "patience"
#: In ``extra_state`` once it has been read: (name, whether more is better) of the metric that "best" is of.
METRIC = "best_metric"
#: In ``extra_state``: how often ``--lr-scheduler reduce_lr_on_plateau`` has seen nothing better.
PLATEAU = "plateau"
#: In ``extra_state`` once it has been read: how many processes, or groups that share documents, shared the batches.
SHARDS = "shards"
#: In ``extra_state`` once it has been read: the options that say which documents make a batch, and in which order.
BATCHES = "batches"
_OF_BATCHES = ("batch_size", "max_tokens", "seed")
#: In the ``extra_state`` that a checkpoint without one gets: its weights can be taken, its run not gone on with.
UNKNOWN = "no_record"
USELESS = "has a record of its run that cannot be used: take another checkpoint, or --finetune-from-model"
OTHER_SCHEDULER = (
    "the checkpoint to continue is of another --lr-scheduler: take the same, or with --reset-lr-scheduler begin its "
    "state anew"
)
#: Modules that have fairseq's training loop: as it is installed, run as a file, and in processes spawned by that.
_TRAINING = ("fairseq_cli.train", "__main__", "__mp_main__")


def install() -> None:
    """Make fairseq's trainer remember and check. Calling it again does nothing."""
    if getattr(Trainer.load_checkpoint, "continues", False):
        return
    Trainer.state_dict = _with_records(Trainer.state_dict)
    Trainer.load_checkpoint = _trainer_loader(Trainer.load_checkpoint)
    checkpoint_utils.load_checkpoint = _run_loader(checkpoint_utils.load_checkpoint)
    iterators.GroupedIterator.__init__ = _grouping(iterators.GroupedIterator.__init__)


def _grouping(stock: Any) -> Any:
    @functools.wraps(stock)
    def init(self: Any, iterable: Any, chunk_size: int, skip_remainder_batch: bool = False) -> None:
        """Do as fairseq does; where updates had another size before, what is left of the epoch is all read."""
        done = getattr(iterable, "n", 0)
        stock(self, iterable, chunk_size, skip_remainder_batch)
        if done % chunk_size and not skip_remainder_batch:
            self.total = self.n + math.ceil((len(iterable) - done) / chunk_size)

    return init


def add_records_of_options(state: Mapping[str, Any]) -> None:
    """Add to a checkpoint's ``extra_state`` what its options tell, which the trainer does not hand on."""
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
    dataset, common = (vocabularies.options_of(state, part) for part in ("dataset", "common"))
    state["extra_state"][BATCHES] = {name: {**dataset, **common}.get(name) for name in _OF_BATCHES}
    if name:
        state["extra_state"][METRIC] = (name, bool(options.get("maximize_best_checkpoint_metric")))


def _with_records(stock: Any) -> Any:
    @functools.wraps(stock)
    def state_dict(self: Any) -> dict[str, Any]:
        """Do as fairseq does, with the dictionaries and what patience has counted, where there is any."""
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
    """Return the value of the data; it is looked up once, since files can change while training runs."""
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
        """Do as fairseq does.

        Raises:
            PyramidionError: the checkpoint is of other dictionaries, or of another sentencepiece model, than the data;
                or what it says of its run cannot be gone on with.
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
            raise PyramidionError(f"{filename} {USELESS} ({type(error).__name__}: {one_line(error)})") from error
        if extra_state is not None:
            _check_record(extra_state, filename, fine_tunes=reset_optimizer and reset_meters)
            _check(self, extra_state, filename, of_data)
            if not reset_optimizer:
                _tell_of_no_optimizer(self, filename)
            if reset_optimizer and reset_meters:
                self._previous_training_time = 0
            if not reset_optimizer and not reset_meters:
                _go_on(self, extra_state)
            if not (reset_optimizer and reset_meters):
                continued_models.tell_of_other_model(self, extra_state)
            if not (reset_optimizer and reset_meters) and not self.cfg.checkpoint.reset_dataloader:
                _share_anew(self, extra_state)
                _tell_of_other_batches(self, extra_state)
        return extra_state

    return mark(load_checkpoint, "continues")


@contextlib.contextmanager
def _average_of_weights(trainer: Any) -> Iterator[None]:
    """Give a checkpoint without a moving average (``--store-ema``) its weights as such.

    fairseq means to, and looks for them where it has deleted them.
    """
    read = checkpoint_utils.load_checkpoint_to_cpu

    @functools.wraps(read)
    def load_checkpoint_to_cpu(*args: Any, **kwargs: Any) -> Any:
        state = read(*args, **kwargs)
        if isinstance(state.get("extra_state"), dict) and "ema" not in state["extra_state"]:
            logger.info("the checkpoint has no moving average (--store-ema): it begins with the weights")
            state["extra_state"]["ema"] = state["model"]
        return state

    if trainer.cfg.ema.store_ema:
        checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu
    try:
        yield
    finally:
        checkpoint_utils.load_checkpoint_to_cpu = read


def _has_another_scheduler(trainer: Any) -> bool:
    """Return whether the state of the checkpoint's scheduler is not of the kind that the trainer's takes."""
    state = (trainer._optim_history or [{}])[-1].get("lr_scheduler_state")
    return isinstance(state, dict) and state.keys() != trainer.lr_scheduler.state_dict().keys()


def _check_record(extra_state: Any, filename: str, fine_tunes: bool) -> None:
    """Refuse a state of training that is missing, or whose counts or results cannot be."""
    if isinstance(extra_state, dict) and extra_state.pop(UNKNOWN, False) and not fine_tunes:
        raise PyramidionError(f"{filename} {USELESS} (there is none in it)")
    record = extra_state if isinstance(extra_state, dict) else {"train_iterator": None}
    iterator_state = record.get("train_iterator", {})
    counts: list[Any] = [None]
    if isinstance(iterator_state, dict):
        counts = [iterator_state.get(name, 1) for name in ("epoch", "iterations_in_epoch")]
    results = [record.get(name) or 0 for name in ("best", "val_loss", "previous_training_time")]
    sound = all(type(count) is int and 0 <= count < 2**31 for count in counts)
    if not sound or not all(isinstance(result, (int, float, torch.Tensor)) for result in results):
        raise PyramidionError(f"{filename} {USELESS} (train_iterator is {iterator_state!r:.100})")


def _check(trainer: Any, extra_state: Any, filename: str, of_data: Mapping[str, Any] | None) -> None:
    remedy = (
        "prepare the data with the dictionary of the checkpoint (fairseq-preprocess --srcdict), or train anew in "
        "another --save-dir"
    )
    quiet = trainer.data_parallel_rank != 0
    vocabularies.check(extra_state, trainer.task, filename, remedy, quiet)
    vocabularies.check_same_sentencepiece(extra_state, of_data, filename)
    class_labels.check_labels(extra_state, class_labels.labels_of_task(trainer.task), _head(trainer), filename)


def _tell_of_no_optimizer(trainer: Any, filename: str) -> None:
    """Warn of a checkpoint without the optimizer's state, as of ``--no-save-optimizer-state``: it begins anew."""
    history = trainer._optim_history or [{}]
    made = history[-1].get("num_updates", 0)
    if made > trainer.get_num_updates() and trainer.data_parallel_rank == 0:
        logger.warning(
            f"{filename} has no state of the optimizer (--no-save-optimizer-state): it begins anew, and its "
            f"{made:,} updates are not counted"
        )


def _head(trainer: Any) -> str:
    """Return the name of the classification head that is trained; "" where there is none."""
    return str(getattr(trainer.cfg.task, "classification_head_name", "") or "")


def _go_on(trainer: Any, extra_state: dict[str, Any]) -> None:
    """Take up the counts of bad validations, or start anew where another metric decides what is best."""
    cfg, scheduler = trainer.cfg.checkpoint, _plateau(trainer)
    now = (cfg.best_checkpoint_metric, bool(cfg.maximize_best_checkpoint_metric))
    then = tuple(extra_state.get(METRIC) or now)
    if then != now:
        best = extra_state.pop("best", None)
        if trainer.data_parallel_rank == 0:
            before, after = (f"{'largest' if maximize else 'smallest'} {name}" for name, maximize in (then, now))
            logger.warning(
                f"checkpoint_best.pt was that of the {before} and will be that of the {after}: the best so far, "
                f"{best}, is forgotten, and the next checkpoint after a validation is the best"
            )
        if scheduler is not None:
            scheduler.best = float("-inf") if scheduler.mode == "max" else float("inf")
        return
    counted = extra_state.get(PATIENCE) or {"best": extra_state.get("best"), "num_runs": 0}
    for module in _training_modules():
        module.should_stop_early.best, module.should_stop_early.num_runs = counted["best"], counted["num_runs"]
    if scheduler is not None:
        scheduler.num_bad_epochs = extra_state.get(PLATEAU, 0)
        # fairseq saves the checkpoint of an epoch's end before the scheduler hears of the validation.
        if extra_state["train_iterator"].get("iterations_in_epoch") == 0 and extra_state.get("val_loss") is not None:
            trainer.lr_step(extra_state["train_iterator"]["epoch"], extra_state["val_loss"])


def _share_anew(trainer: Any, extra_state: dict[str, Any]) -> None:
    """Count the epoch's batches for as many processes as there are now, where there were others before."""
    now = max(1, trainer.data_parallel_world_size // int(getattr(trainer.cfg.task, "sequence_parallel", 1)))
    then, place = extra_state.pop(SHARDS, now), extra_state["train_iterator"]
    if then == now or not place.get("iterations_in_epoch"):
        return
    done = place["iterations_in_epoch"] * then
    place["iterations_in_epoch"] = done // now
    logger.info(f"{then} processes have read {done:,} batches of this epoch; {now} go on behind {done // now * now:,}")


def _tell_of_other_batches(trainer: Any, extra_state: dict[str, Any]) -> None:
    """Warn of options with which the batches of a begun epoch are others than those that it was begun with."""
    now = {**trainer.cfg.dataset, **trainer.cfg.common}
    then = {name: value for name, value in (extra_state.get(BATCHES) or {}).items() if value is not None}
    other = [f"--{name.replace('_', '-')} was {value}" for name, value in then.items() if now[name] != value]
    if other and extra_state["train_iterator"].get("iterations_in_epoch") and trainer.data_parallel_rank == 0:
        logger.warning(
            f"{', '.join(other)}: the batches of this epoch are others now, so that some of its documents are left "
            "out or read twice; --reset-dataloader begins it anew"
        )


def _plateau(trainer: Any) -> ReduceLROnPlateau | None:
    """Return torch's scheduler, where it is the one that waits for validations."""
    scheduler = getattr(trainer.lr_scheduler, "lr_scheduler", None)
    return scheduler if isinstance(scheduler, ReduceLROnPlateau) else None


def _run_loader(stock: Any) -> Any:
    @functools.wraps(stock)
    def load_checkpoint(cfg: Any, trainer: Any, **passthrough_args: Any) -> Any:
        """Do as fairseq does, after clearing what earlier runs of this process left on fairseq's functions.

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
        """Do as fairseq does: an epoch. None where the run had come to its end before it was started again."""
        # Hours as the checkpoint has them, which are the same in all processes.
        hours = trainer._previous_training_time / 3600
        reason = _end(cfg, module.should_stop_early.num_runs, trainer.get_num_updates(), hours)
        if reason:
            logger.info(f"this run had stopped: {reason}; to go on, give a larger one")
            return [None], True
        return stock(cfg, trainer, *args, **kwargs)

    return mark(train, "stops")


def _end(cfg: Any, bad_validations: int, updates: int, hours: float) -> str:
    """Return what has ended a run; "" where nothing has. Stock fairseq looks after the next update."""
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
