import json
import os
import shutil
import subprocess
import sys

import pytest

from pyramidion_fairseq.prepare import pipeline, stage_results
from pyramidion_fairseq.prepare.errors import PrepareError
from pyramidion_fairseq.prepare.workspace import Workspace
from tests.helpers.preprocessing import LIGHT


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


def test_stage_is_kept_until_its_dependencies_change(space, tmp_path):
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
def test_damaged_output_is_rebuilt(space, tmp_path, damage):
    calls = []
    space.run("one", {}, builder(calls, "text"))
    damage(str(tmp_path / "dest/sub/a.txt"))
    space.run("one", {}, builder(calls, "text"))
    assert calls == ["text", "text"]
    assert (tmp_path / "dest/sub/a.txt").read_text() == "text"


def test_obsolete_outputs_are_removed_and_user_files_kept(space, tmp_path):
    space.run("one", {"x": 1}, builder([], "t", ["sub/a.txt", "sub/b.txt"]))
    (tmp_path / "dest/sub/mine.txt").write_text("of the user")
    space.run("one", {"x": 2}, builder([], "t", ["sub/a.txt"]))
    assert sorted(os.listdir(str(tmp_path / "dest/sub"))) == ["a.txt", "mine.txt"]


def test_failed_stage_keeps_the_earlier_output(space, tmp_path):
    space.run("one", {"x": 1}, builder([], "good"))

    def fail(folder):
        builder([], "half")(folder)
        raise PrepareError("no")

    with pytest.raises(PrepareError):
        space.run("one", {"x": 2}, fail)
    assert (tmp_path / "dest/sub/a.txt").read_text() == "good"


def test_user_file_is_never_overwritten(space, tmp_path):
    (tmp_path / "dest/sub").mkdir()
    (tmp_path / "dest/sub/a.txt").write_text("of the user")
    with pytest.raises(PrepareError, match=r"sub/a\.txt would be overwritten but was not made by prepare\.py"):
        space.run("one", {}, builder([], "t"))
    assert (tmp_path / "dest/sub/a.txt").read_text() == "of the user"


def test_files_and_foreign_folders_are_refused_as_destination(tmp_path, write):
    with pytest.raises(PrepareError, match="is a file"):
        Workspace(write("file", "x"))
    (tmp_path / "full").mkdir()
    write("full/notes", "x")
    with pytest.raises(PrepareError, match="is not empty and was not made by prepare"):
        Workspace(str(tmp_path / "full"))
    assert os.listdir(str(tmp_path / "full")) == ["notes"]
    (tmp_path / "empty").mkdir()
    Workspace(str(tmp_path / "empty"))


def test_second_run_in_the_same_folder_is_refused(space, tmp_path):
    code = LIGHT + "from pyramidion_fairseq.prepare import workspace; workspace.Workspace(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "dest")]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "another prepare.py is writing to" in second.stderr
    assert second.returncode == 1


@pytest.mark.parametrize(
    "sides", [("train.source", "train.target"), ("valid.source", "copy"), ("copy", "test.target")]
)
def test_outputs_of_an_earlier_run_are_refused_as_input(tmp_path, options, write, jsonl, sides):
    """Check that they stay: reading would replace them, and remove those of the splits that are not given."""
    corpus = write("a.jsonl", jsonl(range(20)))
    pipeline.read(options("--input", corpus), Workspace(str(tmp_path / "dest")))
    text = tmp_path / "dest" / "text"
    before = {path.name: path.read_bytes() for path in text.iterdir()}
    os.link(text / "train.source", text / "copy")
    paths = ":".join(str(text / side) for side in sides)
    with pytest.raises(
        PrepareError, match="is an output of an earlier run and would be replaced: choose another DEST"
    ):
        pipeline.read(options("--train", paths, "--lowercase"), Workspace(str(tmp_path / "dest")))
    (text / "copy").unlink()
    assert {path.name: path.read_bytes() for path in text.iterdir()} == before


def later(path):
    """Move the file's modification time forward."""
    state = os.stat(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))


def test_output_with_a_changed_byte_is_rebuilt_but_not_with_a_changed_time(space, tmp_path):
    calls, path = [], tmp_path / "dest/sub/a.txt"
    space.run("one", {}, builder(calls, "text"))
    later(path)
    space.run("one", {}, builder(calls, "text"))
    assert calls == ["text"]
    path.write_text("teXt")
    later(path)
    space.run("one", {}, builder(calls, "text"))
    assert calls == ["text", "text"] and path.read_text() == "text"


def edit_stamp(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", ["../victim", "{}/victim", "sub/../../victim", "..\\victim", "sub//a", "", "\0"])
@pytest.mark.parametrize("depends", [1, 2], ids=["kept", "made again"])
def test_stamp_cannot_name_files_outside_the_destination(space, tmp_path, name, depends):
    victim = tmp_path / "victim"
    victim.write_text("of the user")
    space.run("one", {"x": 1}, builder([], "t"))
    edit_stamp(tmp_path / "dest/.prepare/one.json", outputs={name.format(tmp_path): [11, 0], "sub/a.txt": [1, 0]})
    with pytest.raises(PrepareError, match=r"and was not made by prepare\.py: remove it"):
        space.run("one", {"x": depends}, builder([], "t"))
    assert victim.read_text() == "of the user"


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"outputs": []}', '{"outputs": {}, "result": 1}', "[" * 100_000, "\xff"]
)
def test_malformed_stamp_is_ignored(space, tmp_path, content):
    (tmp_path / "dest/.prepare/one.json").write_text(content, encoding="latin-1")
    calls = []
    space.run("one", {}, builder(calls, "text"))
    assert calls == ["text"] and (tmp_path / "dest/sub/a.txt").read_text() == "text"


@pytest.mark.parametrize("again", [False, True], ids=["first run", "later run"])
def test_nothing_is_written_through_a_linked_folder(space, tmp_path, again):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if again:
        space.run("one", {"x": 1}, builder([], "t"))
        shutil.move(tmp_path / "dest/sub/a.txt", elsewhere / "a.txt")
        (tmp_path / "dest/sub").rmdir()
    (tmp_path / "dest/sub").symlink_to(elsewhere)
    before = {path.name: path.read_text() for path in elsewhere.iterdir()}
    for depends in (1, 2):
        with pytest.raises(PrepareError, match="dest/sub is a link: replace it by the folder itself"):
            space.run("one", {"x": depends}, builder([], "new"))
    assert {path.name: path.read_text() for path in elsewhere.iterdir()} == before


def test_output_replaced_by_a_link_is_rebuilt(space, tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "dest/sub/a.txt"
    space.run("one", {}, builder([], "text"))
    victim.write_text("text")
    path.unlink()
    path.symlink_to(victim)
    space.run("one", {}, builder([], "text"))
    assert not path.is_symlink() and victim.read_text() == "text"


@pytest.mark.parametrize("name", ["lock", "work", "."])
def test_links_in_place_of_workspace_files_are_refused(tmp_path, name):
    victim, stamps = tmp_path / "victim", tmp_path / "dest/.prepare"
    victim.mkdir() if name != "lock" else victim.write_text("of the user")
    stamps.parent.mkdir()
    stamps.symlink_to(victim) if name == "." else stamps.mkdir()
    if name != ".":
        (stamps / name).symlink_to(victim)
    with pytest.raises(PrepareError, match="dest"):
        Workspace(str(tmp_path / "dest"))
    assert victim.read_text() == "of the user" if name == "lock" else not list(victim.iterdir())


def test_stamps_are_neither_written_through_links_nor_read_from_pipes(space, tmp_path):
    victim, stamps = tmp_path / "victim", tmp_path / "dest/.prepare"
    victim.write_text("of the user")
    (stamps / "one.json.tmp").symlink_to(victim)
    os.mkfifo(stamps / "one.json")
    space.run("one", {}, builder([], "text"))
    assert victim.read_text() == "of the user" and (tmp_path / "dest/sub/a.txt").read_text() == "text"


READ = {"documents": {"train": 3}, "skipped": {}, "bad": 0, "replaced": 0}
LENGTHS = {"train.source": stage_results.is_of_lengths}


@pytest.mark.parametrize(
    "form, result",
    [
        (stage_results.READ, {}),
        (stage_results.READ, {**READ, "documents": {"valid": 3}}),
        (stage_results.READ, {**READ, "documents": ["train"]}),
        (stage_results.READ, {**READ, "bad": -1}),
        (stage_results.READ, {**READ, "skipped": {"a": 10**30}}),
        (stage_results.VOCABULARY, {"pieces": "40"}),
        (stage_results.BINARISED, {"dictionary": None}),
        (stage_results.REPORT, {"table": "\x1b[2J"}),
        (stage_results.REPORT, {"table": ["a"]}),
        (LENGTHS, {}),
        (LENGTHS, {"train.source": {"lengths": {"x": 1}, "unknown": 0}}),
        (LENGTHS, {"train.source": {"lengths": [1], "unknown": 0}}),
    ],
)
def test_stage_with_a_malformed_result_in_its_stamp_runs_again(space, tmp_path, form, result):
    """Check it with the right key, which anyone who has the corpus can compute."""
    sound = {**READ, "pieces": 1, "dictionary": 1, "table": "a  b\n"}
    sound["train.source"] = {"lengths": {"12": 3}, "unknown": 0}

    def build(folder):
        calls.append(folder)
        return sound

    calls = []
    space.run("one", {}, build, form)
    space.run("one", {}, build, form)
    assert len(calls) == 1
    path = tmp_path / "dest/.prepare/one.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "result": result}))
    assert space.run("one", {}, build, form)["result"] == sound and len(calls) == 2
    path.write_text(json.dumps({**json.loads(path.read_text()), "digest": None}))
    assert type(space.run("one", {}, build, form)["digest"]) is str and len(calls) == 3
