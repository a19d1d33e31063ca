"""Tests of the warning when a continued run has options that change the model of its weights."""

from tests.helpers.training import TASK, TRAIN, write_corpus

TOLD = "the run continues with another model than it started with"


def test_continued_run_warns_of_changed_model_options(command, tmp_path):
    """Check another k, which fits the weights; dropout and a schedule written differently give no warning."""
    write_corpus(tmp_path, words=40, train=[9] * 6, valid=[9], test=[9])
    run = [tmp_path, *TASK, *TRAIN, "--save-dir", tmp_path, "--max-update"]
    command("train", *run, 1)
    other = ["--pooling-schedule", "1:12,2:3", "--softmax-base", 2]
    log = command("train", *run, 2, "--no-save", *other).stdout
    assert f"--pooling-schedule was 1:12,2:5, --softmax-base was 20.0: {TOLD}" in log
    for options in (["--dropout", 0.2, "--pooling-schedule", "1:12, 2:5"], ["--finetune-from-model", "{}", *other]):
        given = [str(option).replace("{}", str(tmp_path / "checkpoint_last.pt")) for option in options]
        folder = tmp_path / "tuned" if "--finetune-from-model" in given else tmp_path
        assert TOLD not in command("train", *run, 2, "--no-save", *given, "--save-dir", folder).stdout
