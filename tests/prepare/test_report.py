import json
import random

import pytest

from pyramidion_fairseq.prepare.length_statistics import percentile, summarise
from pyramidion_fairseq.prepare.report_stage import build_report, plot, report_stage, table


def test_summarise_matches_hand_computed_statistics():
    # 1, 2, 2, 3, 3, 3, 3, 10, 20, 53: sum 100; sorted positions 0..9
    histogram = {10: 1, 3: 4, 53: 1, 2: 2, 1: 1, 20: 1}
    assert summarise(histogram, limit=10) == {
        "documents": 10,
        "tokens": 100,
        "mean": 10.0,
        "median": 3.0,
        "p90": pytest.approx(20 + 0.1 * 33),  # position 8.1
        "p99": pytest.approx(20 + 0.91 * 33),  # position 8.91
        "max": 53,
        "limit": 10,
        "longer": 2,
        "share_longer": 0.2,
    }


@pytest.mark.parametrize("size", [1, 2, 7, 100])
@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.9, 0.99, 1.0])
def test_percentile_matches_numpy(size, fraction):
    numpy = pytest.importorskip("numpy")
    values = random.Random(size).choices(range(40), k=size)
    histogram = {value: values.count(value) for value in values}
    assert percentile(histogram, fraction) == pytest.approx(float(numpy.percentile(values, 100 * fraction)))


LENGTHS = {
    "train.source": {"lengths": {"4": 1, "8": 1}, "unknown": 3},
    "train.target": {"lengths": {"2": 2}, "unknown": 0},
}
LIMITS = {"source": 6, "target": 2}
ABOUT = {"arguments": {}, "vocabulary": 64, "skipped": {"not JSON": 2, "blank line": 5}, "bad": 2, "replaced": 1}


def test_report_stage_writes_json_table_and_plot(tmp_path):
    result = report_stage(LENGTHS, LIMITS, ABOUT, str(tmp_path))
    report = json.loads((tmp_path / "report.json").read_text())
    source = report["splits"]["train"]["source"]
    assert (source["documents"], source["tokens"], source["mean"], source["longer"]) == (2, 12, 6.0, 1)
    assert report["splits"]["train"]["target"]["share_longer"] == 0
    assert report["skipped"] == {"not JSON": 2, "blank line": 5}
    assert set(report["versions"]) == {"python", "sentencepiece", "fairseq"}
    lines = result["table"].split("\n")
    assert (tmp_path / "report.txt").read_text() == result["table"]
    assert lines[1].split() == ["train", "source", "2", "6", "6", "8", "8", "8", "6", "50.00%", "25.000%"]
    assert lines[2].split() == ["train", "target", "2", "2", "2", "2", "2", "2", "2", "0.00%", "0.000%"]
    assert "Left out: 7 records, listed in skipped.jsonl:" in lines
    assert lines.index("         5  blank line") < lines.index("         2  not JSON")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_plot_writes_no_picture_without_matplotlib(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert plot(LENGTHS, LIMITS, str(tmp_path / "x.png")) is False
    assert not list(tmp_path.iterdir())


def test_table_reports_zero_skipped_records():
    report = build_report(LENGTHS, LIMITS, dict(ABOUT, skipped={}, replaced=0))
    assert table(report).endswith("Left out: 0 records\n")
