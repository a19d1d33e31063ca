import gzip
import io
import zipfile

import pytest

from pyramidion_fairseq.prepare import streams
from pyramidion_fairseq.prepare.errors import PrepareError


class Watched(io.BytesIO):
    """A stream that records the largest size given to readline."""

    largest = 0

    def readline(self, size=-1):
        self.largest = max(self.largest, size)
        return super().readline(size)


def test_bounded_lines_skips_long_lines_in_small_reads(monkeypatch):
    monkeypatch.setattr(streams, "PASS_OVER_BYTES", 7)
    stream = Watched(b"123456789\n" + b"x" * 1000 + b"\n" + b"1234567890\n" + b"last")
    assert list(streams.bounded_lines(stream, limit=10)) == [(1, b"123456789\n"), (2, None), (3, None), (4, b"last")]
    assert stream.largest == 11


def test_bounded_lines_splits_at_newlines_only():
    text = "a\u2028b\x85c\rd\n".encode()
    assert list(streams.bounded_lines(io.BytesIO(text + b"e\n"))) == [(1, text), (2, b"e\n")]


def test_open_stream_detects_gzip_by_content(write):
    path = write("no-extension", gzip.compress(b"hello\n"))
    with streams.open_stream(path) as stream:
        assert stream.read() == b"hello\n"


@pytest.mark.parametrize("damage", ["truncated", "corrupt"])
def test_damaged_gzip_is_refused_with_a_clear_message(write, damage):
    whole = gzip.compress(b"".join(b"%d\n" % n for n in range(5000)))
    broken = whole[:-2000] if damage == "truncated" else whole[:3000] + b"\0" * 50 + whole[3050:]
    path = write("x.gz", broken)
    with pytest.raises(PrepareError, match=r"x\.gz .*download it again"), streams.open_stream(path) as stream:
        list(streams.bounded_lines(stream))


def test_zip_members_are_listed_and_read(tmp_path):
    path = str(tmp_path / "a.zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("d/train.txt", "x\ny\n")
        archive.writestr("__MACOSX/d/._train.txt", "junk")
        archive.writestr("d/._val.txt", "junk")
    assert streams.zip_members(path) == ["d/train.txt"]
    with streams.open_stream(path, "d/train.txt") as stream:
        assert list(streams.bounded_lines(stream)) == [(1, b"x\n"), (2, b"y\n")]


def test_missing_files_folders_and_broken_zips_are_refused(write, tmp_path):
    for path, message in (("nowhere", "cannot read"), ("", "is a folder")):
        with pytest.raises(PrepareError, match=message):
            streams.magic(str(tmp_path / path))
    with pytest.raises(PrepareError, match="cannot read"):
        streams.zip_members(write("x.zip", b"PK\x03\x04 but no zip"))
