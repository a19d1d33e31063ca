import os
import stat
import threading

import pytest

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.utils.files import atomic_write, complete_folder, write_text


def test_write_text_and_atomic_write_write_into_open_pipes():
    """Check it because a device must not be replaced by a file; /dev/fd stands for /dev/null here."""
    read, write = os.pipe()
    try:
        write_text(f"/dev/fd/{write}", "one")
        with atomic_write(f"/dev/fd/{write}") as file:
            file.write(b" two")
        assert os.read(read, 100) == b"one two"
    finally:
        os.close(read)
        os.close(write)


def test_write_text_writes_into_a_named_pipe_without_replacing_it(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()), daemon=True)
    reader.start()
    write_text(path, "words")
    reader.join(10)
    assert found == [b"words"] and stat.S_ISFIFO(path.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_write_text_replaces_the_target_of_a_link_and_keeps_the_link(tmp_path):
    """Check it because outputs are often links to a larger disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk/file")
    for text in ("one", "two"):
        write_text(tmp_path / "link", text)
        assert os.readlink(tmp_path / "link") == "disk/file" and (tmp_path / "disk" / "file").read_text() == text
    assert os.listdir(tmp_path / "disk") == ["file"] and sorted(os.listdir(tmp_path)) == ["disk", "link"]


def test_complete_folder_refuses_a_folder_with_files_and_keeps_them(tmp_path):
    (tmp_path / "mine").write_text("text")
    with pytest.raises(PyramidionError, match="exists: remove it, or choose another name"), complete_folder(tmp_path):
        (tmp_path / "new").write_text("text")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
