import os
import stat
import threading

from pyramidion_fairseq.utils.files import atomic_write, write_text


def test_devices_and_open_pipes_are_written_into():
    """A file in the place of /dev/null would be there for the whole machine; in that of these it cannot be."""
    read, write = os.pipe()
    try:
        write_text(f"/dev/fd/{write}", "one")
        with atomic_write(f"/dev/fd/{write}") as file:
            file.write(b" two")
        assert os.read(read, 100) == b"one two"
    finally:
        os.close(read)
        os.close(write)


def test_a_named_pipe_stays_and_gets_what_is_written(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()), daemon=True)
    reader.start()
    write_text(path, "words")
    reader.join(10)
    assert found == [b"words"] and stat.S_ISFIFO(path.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    """Outputs are often links to a larger disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk/file")
    for text in ("one", "two"):
        write_text(tmp_path / "link", text)
        assert os.readlink(tmp_path / "link") == "disk/file" and (tmp_path / "disk" / "file").read_text() == text
    assert os.listdir(tmp_path / "disk") == ["file"] and sorted(os.listdir(tmp_path)) == ["disk", "link"]
