import collections

import pytest

from pyramidion_fairseq.prepare.splitting import fill_empty_splits, move_last_line, split_of

EXPECTED = ["train", "train", "train", "test", "train", "test", "valid", "train"]


def test_split_of_meets_the_fractions_and_is_stable():
    counts = collections.Counter(split_of(f"id-{n}", 1, 0.05, 0.10) for n in range(20000))
    assert counts["valid"] / 20000 == pytest.approx(0.05, abs=0.006)
    assert counts["test"] / 20000 == pytest.approx(0.10, abs=0.008)
    # These values are fixed: another Python version or platform must split the same way.
    assert [split_of(f"id-{n}", 1, 0.3, 0.3) for n in range(8)] == EXPECTED
    assert [split_of(f"id-{n}", 2, 0.3, 0.3) for n in range(8)] != EXPECTED
    assert split_of("lone \ud800", 1, 1.0, 0.0) == "valid"


def files(tmp_path, texts):
    for split in ("train", "valid", "test"):
        lines = texts.get(split, [])
        for side in ("source", "target"):
            (tmp_path / f"{split}.{side}").write_text("".join(f"{side} {line}\n" for line in lines))
    return {split: str(tmp_path / split) for split in ("train", "valid", "test")}


def contents(tmp_path, side):
    splits = ("train", "valid", "test")
    return {s: (tmp_path / f"{s}.{side}").read_text().replace(side + " ", "").split() for s in splits}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"train": "abcd"}, {"train": "ab", "valid": "d", "test": "c"}),
        ({"test": "abc"}, {"train": "c", "valid": "b", "test": "a"}),
        ({"train": "ab", "valid": "c"}, {"train": "a", "valid": "c", "test": "b"}),
        ({"train": "a", "valid": "b", "test": "c"}, {"train": "a", "valid": "b", "test": "c"}),
        ({"valid": "a", "test": "b"}, {"train": "ab", "valid": "", "test": ""}),
        ({"train": "a"}, {"train": "a", "valid": "", "test": ""}),
    ],
)
def test_fill_empty_splits_leaves_no_split_empty_from_three_documents_on(tmp_path, before, after):
    prefixes = files(tmp_path, before)
    counts = {split: len(before.get(split, "")) for split in prefixes}
    result = fill_empty_splits(prefixes, counts, dict.fromkeys(prefixes, True))
    assert result == {split: len(lines) for split, lines in after.items()}
    for side in ("source", "target"):
        assert contents(tmp_path, side) == {split: list(lines) for split, lines in after.items()}


@pytest.mark.parametrize(
    "before, after",
    [
        ({"train": 126, "valid": 3, "test": 1}, {"train": 104, "valid": 13, "test": 13}),
        ({"train": 380, "valid": 8, "test": 12}, {"train": 360, "valid": 20, "test": 20}),
        ({"train": 4500, "valid": 240, "test": 260}, {"train": 4500, "valid": 240, "test": 260}),
        ({"train": 20, "valid": 9, "test": 9}, {"train": 20, "valid": 9, "test": 9}),
    ],
)
def test_fill_empty_splits_enlarges_small_validation_and_test_splits(tmp_path, before, after):
    prefixes = files(tmp_path, {split: [f"{split}{n}" for n in range(count)] for split, count in before.items()})
    assert fill_empty_splits(prefixes, before, dict.fromkeys(prefixes, True)) == after
    for side in ("source", "target"):
        found = contents(tmp_path, side)
        assert {split: len(lines) for split, lines in found.items()} == after
        moved = {line for lines in found.values() for line in lines}
        assert moved == {f"{split}{n}" for split, count in before.items() for n in range(count)}


def test_fill_empty_splits_keeps_unwanted_splits_empty(tmp_path):
    prefixes = files(tmp_path, {"train": "abc"})
    wanted = {"train": True, "valid": False, "test": True}
    assert fill_empty_splits(prefixes, {"train": 3, "valid": 0, "test": 0}, wanted) == {
        "train": 2,
        "valid": 0,
        "test": 1,
    }


@pytest.mark.parametrize("length", [3, 65534, 65535, 65536, 200000])
def test_move_last_line_moves_lines_of_any_length(tmp_path, length):
    origin, target = tmp_path / "a", tmp_path / "b"
    origin.write_text("first\n" + "x" * length + "\n")
    target.write_text("old\n")
    move_last_line(str(origin), str(target))
    assert origin.read_text() == "first\n"
    assert target.read_text() == "old\n" + "x" * length + "\n"


def test_split_by_id_does_not_depend_on_the_order_of_records(read, write, jsonl, tmp_path):
    path = write("a.jsonl", jsonl(range(40)))
    _, forward = read("--input", path, "--valid-fraction", "0.2", "--test-fraction", "0.2")
    path = write("a.jsonl", jsonl(reversed(range(40))))
    (tmp_path / "read").rename(tmp_path / "first")
    _, backward = read("--input", path, "--valid-fraction", "0.2", "--test-fraction", "0.2")
    for split in ("train", "valid", "test"):
        assert sorted(forward[split + ".source"]) == sorted(backward[split + ".source"])
        assert 0 < len(forward[split + ".source"]) < 40
