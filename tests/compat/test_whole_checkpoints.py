"""The trainer's checkpoints are whole or not there, and a damaged last one does not end a run."""

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
    "one bit": lambda data: data[:9000] + bytes([data[9000] ^ 1]) + data[9001:],
    "zeros": lambda data: bytes(len(data)),
    "another zip": lambda data: b"PK\x05\x06" + bytes(18),
}


@pytest.fixture
def folder(tmp_path):
    for age, name in enumerate(["checkpoint_best.pt", "checkpoint2.pt", "checkpoint1.pt", "crash.pt"]):
        torch.save(CONTENT, tmp_path / name)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    torch.save(CONTENT, tmp_path / "checkpoint_last.pt")
    return tmp_path


class Trainer:
    """Takes the options that fairseq's loader gives it; reads nothing."""

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
def test_the_newest_whole_checkpoint_is_used(folder, damage, caplog):
    last = folder / "checkpoint_last.pt"
    assert whole_checkpoints.is_whole(last)
    assert path_read(folder) == "checkpoint_last.pt"
    last.write_bytes(DAMAGE[damage](last.read_bytes()))
    assert not whole_checkpoints.is_whole(last)
    shutil.copy(last, folder / "checkpoint_best.pt")  # it may be a copy of the same torso
    with caplog.at_level(logging.WARNING):
        assert path_read(folder) == "checkpoint2.pt"
        assert path_read(folder, finetune_from_model=str(folder / "checkpoint1.pt")) == "checkpoint2.pt"
    assert str(last) in caplog.text and str(folder / "checkpoint2.pt") in caplog.text


def test_a_file_that_was_asked_for_is_never_replaced(folder):
    (folder / "checkpoint_last.pt").write_bytes(b"")
    assert path_read(folder, restore_file=str(folder / "crash.pt")) == "crash.pt"


def test_files_in_the_old_format_are_left_to_the_reader(folder):
    torch.save(CONTENT, folder / "checkpoint_last.pt", _use_new_zipfile_serialization=False)
    assert path_read(folder) == "checkpoint_last.pt"


def test_a_missing_last_checkpoint_starts_anew_and_says_how_to_continue(folder, caplog):
    (folder / "checkpoint_last.pt").unlink()
    with caplog.at_level(logging.WARNING):
        assert path_read(folder) == "checkpoint_last.pt"
    assert f"--restore-file {folder / 'checkpoint_best.pt'}" in caplog.text


def test_nothing_whole_is_one_line(folder):
    for path in folder.glob("checkpoint*.pt"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(PyramidionError, match="is damaged and there is no other whole checkpoint") as error:
        path_read(folder)
    assert "\n" not in str(error.value)


@contextlib.contextmanager
def full_disk():
    """Writing ends after 4096 bytes of a file, as on a disk without room."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_checkpoint_before(folder):
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


def test_a_full_disk_says_what_continues_where_nothing_does_by_itself(folder):
    """Of a run's first checkpoints: the last one is written after them."""
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


def test_a_second_run_is_kept_out_of_a_folder(command, tmp_path):
    """Two would replace each other's checkpoints, and continue from them."""
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


def test_processes_of_a_run_do_not_hold_its_folder(tmp_path):
    """A worker that outlives a killed run for a while would keep the same command from continuing."""
    whole_checkpoints._hold(str(tmp_path))
    whole_checkpoints._hold(str(tmp_path))  # the same process may
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


def test_written_checkpoints_are_whole_and_torsos_of_killed_runs_overwritten(folder):
    last = folder / "checkpoint_last.pt"
    (folder / "checkpoint_last.pt.tmp").write_bytes(b"torso")
    checkpoint_utils.torch_persistent_save({"model": torch.ones(3)}, str(last))
    assert torch.load(last, weights_only=True)["model"].tolist() == [1, 1, 1]
    checkpoint_utils.PathManager.copy(str(folder / "checkpoint1.pt"), str(last), overwrite=True)
    assert last.read_bytes() == (folder / "checkpoint1.pt").read_bytes()
    assert not list(folder.glob("*.tmp"))


def test_a_checkpoint_of_another_model_is_one_line(command, tmp_path):
    """Training goes on from it with other options; nothing is overwritten."""
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
