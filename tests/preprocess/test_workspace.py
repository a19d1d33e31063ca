import os
import subprocess
import sys

import pytest
from prepare_errors import PrepareError
from workspace import Workspace


def builder(calls, text, names=("sub/a.txt",)):
    def build(folder):
        calls.append(text)
        for name in names:
            os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
            with open(os.path.join(folder, name), "w") as stream:
                stream.write(text)
        return {"text": text}

    return build


@pytest.fixture
def space(tmp_path):
    return Workspace(str(tmp_path / "dest"))


def test_a_stage_is_kept_until_what_it_depends_on_changes(space, tmp_path):
    calls = []
    first = space.run("one", {"x": 1}, builder(calls, "first"))
    assert space.run("one", {"x": 1}, builder(calls, "again")) == first
    assert calls == ["first"]
    second = space.run("one", {"x": 2}, builder(calls, "second"))
    assert calls == ["first", "second"]
    assert (tmp_path / "dest/sub/a.txt").read_text() == "second"
    assert first["digest"] != second["digest"] and second["result"] == {"text": "second"}
    assert space.run("one", {"x": 3}, builder(calls, "second"))["digest"] == second["digest"]


@pytest.mark.parametrize("damage", [os.unlink, lambda path: os.truncate(path, 2)])
def test_a_damaged_output_is_made_again(space, tmp_path, damage):
    calls = []
    space.run("one", {}, builder(calls, "text"))
    damage(str(tmp_path / "dest/sub/a.txt"))
    space.run("one", {}, builder(calls, "text"))
    assert calls == ["text", "text"]
    assert (tmp_path / "dest/sub/a.txt").read_text() == "text"


def test_outputs_that_are_no_longer_made_go_and_others_stay(space, tmp_path):
    space.run("one", {"x": 1}, builder([], "t", ["sub/a.txt", "sub/b.txt"]))
    (tmp_path / "dest/sub/mine.txt").write_text("of the user")
    space.run("one", {"x": 2}, builder([], "t", ["sub/a.txt"]))
    assert sorted(os.listdir(str(tmp_path / "dest/sub"))) == ["a.txt", "mine.txt"]


def test_a_failing_stage_leaves_the_finished_one_alone(space, tmp_path):
    space.run("one", {"x": 1}, builder([], "good"))

    def fail(folder):
        builder([], "half")(folder)
        raise PrepareError("no")

    with pytest.raises(PrepareError):
        space.run("one", {"x": 2}, fail)
    assert (tmp_path / "dest/sub/a.txt").read_text() == "good"


def test_a_file_of_the_user_is_never_overwritten(space, tmp_path):
    (tmp_path / "dest/sub").mkdir()
    (tmp_path / "dest/sub/a.txt").write_text("of the user")
    with pytest.raises(PrepareError, match=r"sub/a\.txt is in the way"):
        space.run("one", {}, builder([], "t"))
    assert (tmp_path / "dest/sub/a.txt").read_text() == "of the user"


def test_destinations_that_are_refused(tmp_path, write):
    with pytest.raises(PrepareError, match="is a file"):
        Workspace(write("file", "x"))
    (tmp_path / "full").mkdir()
    write("full/notes", "x")
    with pytest.raises(PrepareError, match="is not empty and was not made by prepare"):
        Workspace(str(tmp_path / "full"))
    assert os.listdir(str(tmp_path / "full")) == ["notes"]
    (tmp_path / "empty").mkdir()
    Workspace(str(tmp_path / "empty"))


def test_two_runs_at_once_are_refused(space, tmp_path, scripts):
    code = "import sys; sys.path.insert(0, sys.argv[1]); import workspace; workspace.Workspace(sys.argv[2])"
    command = [sys.executable, "-c", code, scripts, str(tmp_path / "dest")]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "another prepare.py is writing to" in second.stderr
    assert second.returncode == 1
