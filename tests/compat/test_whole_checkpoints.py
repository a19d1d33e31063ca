"""Tests that checkpoints are written atomically, and that a damaged last checkpoint does not end a run."""

import contextlib
import fcntl
import logging
import os
import resource
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from fairseq import checkpoint_utils

from pyramidion_fairseq.compat import whole_checkpoints
from pyramidion_fairseq.errors import PyramidionError
from tests.helpers.training import ARCH, TASK, TRAIN, USER_DIR, write_corpus

CONTENT = {"model": {"weight": torch.arange(5000.0)}}
DAMAGE = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "one bit flipped": lambda data: data[:9000] + bytes([data[9000] ^ 1]) + data[9001:],
    "zeros": lambda data: bytes(len(data)),
    "an empty zip": lambda data: b"PK\x05\x06" + bytes(18),
}


@pytest.fixture
def folder(tmp_path):
    for age, name in enumerate(["checkpoint_best.pt", "checkpoint2.pt", "checkpoint1.pt", "crash.pt"]):
        torch.save(CONTENT, tmp_path / name)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    torch.save(CONTENT, tmp_path / "checkpoint_last.pt")
    return tmp_path


class Trainer:
    """A trainer that records the path that fairseq's loader gives it and reads nothing."""

    checkpoint_suffix = ""

    def load_checkpoint(self, path, *_, **__):
        self.path = path
        raise StopIteration


def path_read(folder, **options):
    cfg = Namespace(
        save_dir=str(folder),
        restore_file="checkpoint_last.pt",
        finetune_from_model=None,
        reset_optimizer=False,
        reset_lr_scheduler=False,
        reset_meters=False,
        reset_dataloader=False,
        optimizer_overrides="{}",
    )
    vars(cfg).update(options)
    trainer = Trainer()
    with pytest.raises(StopIteration):
        checkpoint_utils.load_checkpoint(cfg, trainer)
    return Path(trainer.path).name


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_last_checkpoint_is_replaced_by_the_newest_whole_one(folder, damage, caplog):
    last = folder / "checkpoint_last.pt"
    assert whole_checkpoints.is_whole(last)
    assert path_read(folder) == "checkpoint_last.pt"
    last.write_bytes(DAMAGE[damage](last.read_bytes()))
    assert not whole_checkpoints.is_whole(last)
    shutil.copy(last, folder / "checkpoint_best.pt")  # the best may be a copy of the same damaged file
    with caplog.at_level(logging.WARNING):
        assert path_read(folder) == "checkpoint2.pt"
        assert path_read(folder, finetune_from_model=str(folder / "checkpoint1.pt")) == "checkpoint2.pt"
    assert str(last) in caplog.text and str(folder / "checkpoint2.pt") in caplog.text


def test_given_restore_file_is_used_although_the_last_is_damaged(folder):
    (folder / "checkpoint_last.pt").write_bytes(b"")
    assert path_read(folder, restore_file=str(folder / "crash.pt")) == "crash.pt"


def test_last_checkpoint_in_the_old_format_is_used(folder):
    torch.save(CONTENT, folder / "checkpoint_last.pt", _use_new_zipfile_serialization=False)
    assert path_read(folder) == "checkpoint_last.pt"


def test_missing_last_checkpoint_warns_how_to_continue(folder, caplog):
    (folder / "checkpoint_last.pt").unlink()
    with caplog.at_level(logging.WARNING):
        assert path_read(folder) == "checkpoint_last.pt"
    assert f"--restore-file {folder / 'checkpoint_best.pt'}" in caplog.text


def test_no_whole_checkpoint_is_a_one_line_error(folder):
    for path in folder.glob("checkpoint*.pt"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(PyramidionError, match="is damaged and there is no other whole checkpoint") as error:
        path_read(folder)
    assert "\n" not in str(error.value)


@contextlib.contextmanager
def full_disk():
    """Let writing fail after 4096 bytes of a file, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_full_disk_keeps_the_previous_checkpoint(folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    last = str(folder / "checkpoint_last.pt")
    for write in (
        lambda: checkpoint_utils.torch_persistent_save({"model": torch.zeros(9000)}, last),
        lambda: checkpoint_utils.PathManager.copy(str(folder / "checkpoint1.pt"), last, overwrite=True),
    ):
        refused = pytest.raises(whole_checkpoints.CheckpointNotWrittenError, match=r"cannot write .*File too large")
        with refused as error, full_disk():
            write()
        assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_full_disk_without_a_last_checkpoint_says_how_to_continue(folder):
    """Check the first checkpoints of a run, which are written before checkpoint_last.pt exists."""
    last = folder / "checkpoint_last.pt"
    last.unlink()

    def remedy():
        with pytest.raises(whole_checkpoints.CheckpointNotWrittenError) as error, full_disk():
            checkpoint_utils.torch_persistent_save({"model": torch.zeros(9000)}, str(last))
        return str(error.value)

    assert remedy().endswith(f"again with --restore-file {folder / 'checkpoint_best.pt'} to continue from it")
    for path in folder.glob("checkpoint*.pt"):
        path.unlink()
    assert remedy().endswith("run the command again, which starts from scratch")


def test_second_run_in_the_same_save_dir_is_refused(command, tmp_path):
    """Check that a second run is refused; two would overwrite and load each other's checkpoints."""
    write_corpus(tmp_path, words=40)
    save = tmp_path / "checkpoints"
    train = [tmp_path, *TASK, *TRAIN, "--max-update", 2, "--save-dir"]
    command("train", *train, save)
    before = {path: path.read_bytes() for path in save.iterdir()}
    with open_folder(save) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (tmp_path / "link").symlink_to(save)
        for name in (save, tmp_path / "link"):
            done = command("train", *train, name, "--max-update", 3, check=False)
            (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
            assert done.returncode == 1 and f"another run saves to {name}, and two runs would overwrite" in line
        assert {path: path.read_bytes() for path in save.iterdir()} == before
        command("train", *train, save, "--no-save")
    command("train", *train, save, "--max-update", 3)


@contextlib.contextmanager
def open_folder(path):
    file = os.open(path, os.O_RDONLY)
    yield file
    os.close(file)


def test_forked_workers_do_not_keep_the_lock_of_the_folder(tmp_path):
    """Check that workers do not keep the lock; one that outlives a killed run would block its continuation."""
    whole_checkpoints._hold(str(tmp_path))
    whole_checkpoints._hold(str(tmp_path))  # the same process may lock it again
    begun, begins = os.pipe()
    ended, ends = os.pipe()
    worker = os.fork()
    if not worker:
        os.close(ends)
        os.write(begins, b"x")
        os.read(ended, 1)
        os._exit(0)
    try:
        os.read(begun, 1)
        with open_folder(tmp_path) as file:
            with pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            whole_checkpoints._release_locks()
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(ends)
        os.waitpid(worker, 0)


def test_saving_overwrites_leftovers_and_leaves_no_temporary_files(folder):
    last = folder / "checkpoint_last.pt"
    (folder / "checkpoint_last.pt.tmp").write_bytes(b"torso")
    checkpoint_utils.torch_persistent_save({"model": torch.ones(3)}, str(last))
    assert torch.load(last, weights_only=True)["model"].tolist() == [1, 1, 1]
    checkpoint_utils.PathManager.copy(str(folder / "checkpoint1.pt"), str(last), overwrite=True)
    assert last.read_bytes() == (folder / "checkpoint1.pt").read_bytes()
    assert not list(folder.glob("*.tmp"))


def test_continuing_from_another_models_checkpoint_is_a_one_line_error(command, tmp_path):
    """Check continuing with other options of the model: an error, and nothing is overwritten."""
    write_corpus(tmp_path, words=40)
    save = tmp_path / "checkpoints"
    train = [tmp_path, *TASK, *TRAIN, "--save-dir", save]
    command("train", *train, "--max-update", 1)
    before = {path: path.read_bytes() for path in save.iterdir()}
    others = TRAIN[: len(USER_DIR)] + TRAIN[len(USER_DIR) + len(ARCH) :]
    for other in (
        [*train, "--pooling-schedule", "1:12"],
        [*train, "--decoder-ffn-embed-dim", "8"],
        [tmp_path, *TASK, *others, "--arch", "transformer_tiny", "--save-dir", save],
    ):
        done = command("train", *other, "--max-update", 2, check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert "checkpoint_last.pt; please ensure that the architectures match" in line and "state_dict" in line
    assert {path: path.read_bytes() for path in save.iterdir()} == before
