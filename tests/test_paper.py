"""Tests that every statement in docs/paper.md has code and tests, and every measured number a source."""

import csv
import sys
from collections import Counter

import pytest

from tests.helpers.paths import ROOT

pytest.importorskip("tomllib", reason="docs/paper_statements.toml is read with Python 3.11 or newer")
sys.path.insert(0, str(ROOT / "scripts"))
import write_paper  # noqa: E402

STATEMENTS = write_paper.statements()
IDS = [statement.id for statement in STATEMENTS]


def test_statement_ids_are_unique_and_every_paper_mark_names_one():
    assert not [name for name, count in Counter(IDS).items() if count > 1]
    assert not set(write_paper.marks()) - set(IDS)


@pytest.mark.parametrize("statement", STATEMENTS, ids=IDS)
def test_statement_has_tests_code_and_a_known_status(statement):
    assert write_paper.marks().get(statement.id), f"no test has @pytest.mark.paper({statement.id!r})"
    assert statement.code and all(statement.code)
    assert not [reference for reference in statement.code if not write_paper.has_symbol(reference)]
    assert statement.status in write_paper.STATUSES
    assert statement.text.endswith(".") and statement.where


@pytest.mark.parametrize("statement", [s for s in STATEMENTS if s.measured], ids=lambda s: s.id)
def test_measured_numbers_are_in_their_source_file(statement):
    there = write_paper.numbers((ROOT / statement.source).read_text(encoding="utf-8"))
    assert write_paper.numbers(statement.measured) <= there


@pytest.mark.parametrize("statement", [s for s in STATEMENTS if s.status == "not measured"], ids=lambda s: s.id)
def test_unmeasured_statement_has_no_number_and_no_source(statement):
    assert not statement.measured and not statement.source


def test_range_of_the_cited_scores_matches_table_3():
    (told,) = (statement.published for statement in STATEMENTS if statement.id == "table-3-cited")
    with (ROOT / "benchmarks" / "published" / "tables.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["table"] == "3" and not row["train_s"]]
    scores = sorted((row["R1"] for row in rows), key=float)
    assert len(rows) == 7 and told == f"{scores[0]} to {scores[-1]} R-1"


def test_paper_page_is_up_to_date():
    assert write_paper.TARGET.read_text(encoding="utf-8") == write_paper.text(), "run python scripts/write_paper.py"


def test_has_symbol_finds_only_symbols_that_exist():
    for there in (
        "pyramidion_fairseq/schedule.py::PoolingSchedule.parse",
        "pyramidion_fairseq/config.py::PyramidionConfig.softmax_base",
        "pyramidion_fairseq/models/architectures.py::ARCHITECTURES[deeppyramidion]",
        "examples/recipes/paper.py::EFFECTIVE_BATCH",
        "Makefile::gpu",
        "benchmarks/topk.py",
    ):
        assert write_paper.has_symbol(there), there
    for gone in (
        "pyramidion_fairseq/schedule.py::PoolingSchedule.gone",
        "pyramidion_fairseq/models/architectures.py::ARCHITECTURES[gone]",
        "pyramidion_fairseq/gone.py::PoolingSchedule",
        "pyramidion_fairseq/gone.py",
        "Makefile::gone",
    ):
        assert not write_paper.has_symbol(gone), gone


def test_paper_marks_are_read_from_decorators():
    tree = write_paper.ast.parse('@pytest.mark.paper("eq-4", "alg-1")\n@other\ndef test_x():\n    pass\n')
    assert list(write_paper.marked(tree.body[0])) == ["eq-4", "alg-1"]
