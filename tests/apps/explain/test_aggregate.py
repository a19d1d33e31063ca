"""Tests of the statistics over a corpus, compared with plain loops and known cases."""

import csv
import dataclasses

import pytest
import torch

from pyramidion_fairseq.apps.explain.aggregate import BINS, LEAD, RANDOM, USED, Aggregate, Slots, share_by_position
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.functional import TokenRecord
from pyramidion_fairseq.text import Document
from tests.helpers.provenances import WITH_LANGUAGE, provenance
from tests.helpers.summaries import SENTENCES, article

SECTIONS = {"sections": [SENTENCES[:2], SENTENCES[2:]], "section_names": ["Intro", " METHODS "]}
RECORD = {"article_text": SENTENCES, "title": "one", **SECTIONS}


@pytest.mark.parametrize("length", [1, 3, BINS, 47, 1000])
def test_share_by_position_splits_the_shares_into_equal_parts(length):
    shares = torch.rand(length, dtype=torch.double)
    shares /= shares.sum()
    parts = share_by_position(shares)
    assert parts.shape == (BINS,) and float(parts.sum()) == pytest.approx(1)
    expected = torch.zeros(BINS, dtype=torch.double)
    points = (torch.arange(length * 100, dtype=torch.double) + 0.5) / (length * 100)  # 100 per token
    expected.index_add_(0, (points * BINS).long(), shares.repeat_interleave(100) / 100)
    torch.testing.assert_close(parts, expected, rtol=0, atol=0.01)
    even = share_by_position(torch.full((length,), 1 / length, dtype=torch.double))
    torch.testing.assert_close(even, torch.full((BINS,), 1 / BINS, dtype=torch.double))


def test_slots_have_counts_largest_weights_and_effective_tokens():
    weights = torch.tensor([0.25, 0.25, 0.25, 0.25, 1.0, 0.0, 0.9, 0.1])
    slots = Slots.of(TokenRecord(torch.tensor([0, 0, 0, 0, 1, 0, 3, 3]), weights))
    assert slots.tokens.tolist() == [4, 1, 2]
    assert slots.largest.tolist() == pytest.approx([0.25, 1.0, 0.9])
    assert slots.effective.tolist() == pytest.approx([4, 1, 1 / 0.82])
    gated = Slots.of(TokenRecord(torch.zeros(2, dtype=torch.long), torch.tensor([0.25, 0.25])))  # sum to less than 1
    assert gated.effective.tolist() == pytest.approx([2])


@pytest.fixture
def summaries(summarizers):
    documents = [Document.from_record(RECORD), article(3), article(9, seed=2)]
    return summarizers(max_source_positions=512).summarize(documents, with_provenance=True, min_len=3, max_len_b=6)


def test_aggregate_tables_match_the_provenances(summaries):
    aggregate = Aggregate()
    for summary in summaries:
        aggregate.add(summary.provenance)
    positions = aggregate.position_table()
    assert len(positions) == BINS and aggregate.documents == 3
    for name in ("after layer 1", "after layer 2", USED, LEAD, RANDOM):
        assert sum(row[name] for row in positions) == pytest.approx(1)
    assert all(row[RANDOM] == pytest.approx(1 / BINS) for row in positions)
    kept = [5 / summary.provenance.models[0].lengths[0].tokens for summary in summaries]
    filled = [min(1, (1 / BINS) / share) for share in kept]
    assert positions[0][LEAD] == pytest.approx(sum(filled) / 3) and positions[-1][LEAD] == pytest.approx(0, abs=1e-12)

    sections = aggregate.section_table()
    assert [(row["section"], row["documents"]) for row in sections] == [("intro", 1), ("methods", 1)]
    (model,) = summaries[0].provenance.models
    words = summaries[0].provenance.source.token_words
    weights = model.stages[-1][1].weights
    start = summaries[0].provenance.document.sections[1].start
    expected = sum(float(weight) for weight, word in zip(weights, words) if word >= start) / float(weights.sum())
    assert sections[1]["after layer 2"] == pytest.approx(expected, rel=1e-5)

    first, second = aggregate.weight_table()
    assert (first["stage"], second["stage"]) == ("after layer 1", "after layer 2")
    assert first["vectors"] == 12 and second["vectors"] == 5
    tokens = sum(s.provenance.models[0].lengths[0].tokens / 5 for s in summaries) / 3
    assert second["tokens in a vector"] == pytest.approx(tokens)
    assert 1 <= second["tokens that count"] <= second["tokens in a vector"]
    histogram = [value for name, value in second.items() if name.startswith("largest weight 0")]
    assert len(histogram) == BINS and sum(histogram) == pytest.approx(1)

    rows = [row for row in aggregate.sentences if row["document"] == 0]
    assert [row["section"] for row in rows] == (["Intro"] * 2 + ["METHODS"] * 3)[: len(rows)]
    assert sorted(row["rank"] for row in rows) == list(range(1, len(rows) + 1))
    best = min(rows, key=lambda row: row["rank"])
    assert best[USED] == max(row[USED] for row in rows) and best["text"] in SENTENCES
    assert sum(row[USED] for row in rows) == pytest.approx(1)


def test_language_token_after_eos_belongs_to_no_word():
    aggregate = Aggregate()
    aggregate.add(provenance(WITH_LANGUAGE))
    assert all(sum(row[name] for row in aggregate.position_table()) == pytest.approx(1) for name in (USED, LEAD))
    first, second = aggregate.sentences
    assert (first[USED], second[USED]) == (pytest.approx(0.8), pytest.approx(0.2))  # of the 1.875 that words have


def test_aggregate_writes_plots_and_csv_files_with_special_characters(summaries, tmp_path):
    aggregate = Aggregate()
    odd = dataclasses.replace(
        summaries[0].provenance,
        title="=1,2\n",
        document=dataclasses.replace(
            summaries[0].provenance.document,
            sections=tuple(
                dataclasses.replace(section, name="$\\x{" + '"' + section.name)
                for section in summaries[0].provenance.document.sections
            ),
        ),
    )
    aggregate.add(odd)
    aggregate.write(str(tmp_path))
    for name in ("positions", "sections", "weights"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with open(tmp_path / "positions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == BINS and sum(float(row[USED]) for row in rows) == pytest.approx(1, abs=1e-4)
    with open(tmp_path / "sentences.csv", encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["title"] == "=1,2\n"


def test_aggregate_replaces_symbolic_links_and_keeps_their_targets(summaries, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("of the user")
    (tmp_path / "out").mkdir()
    names = [f"{name}.csv" for name in ("positions", "sections", "weights", "sentences")]
    names += [f"{name}.png" for name in ("positions", "sections", "weights")]
    for name in names:
        (tmp_path / "out" / name).symlink_to(victim)
    aggregate = Aggregate()
    aggregate.add(summaries[0].provenance)
    aggregate.write(str(tmp_path / "out"))
    assert victim.read_text() == "of the user"
    assert not any((tmp_path / "out" / name).is_symlink() for name in ("positions.csv", "weights.png"))


def test_aggregate_refuses_no_documents_and_ensembles(summaries, tmp_path):
    with pytest.raises(PyramidionError, match="no document contains any text"):
        Aggregate().write(str(tmp_path))
    provenance = summaries[0].provenance
    with pytest.raises(PyramidionError, match="requires a single checkpoint"):
        Aggregate().add(dataclasses.replace(provenance, models=provenance.models * 2))


@pytest.mark.parametrize("options", [{"pooling_schedule": ""}, {"pooler": "hard_topk"}, {"pooler": "funnel"}])
def test_weight_table_of_other_poolers_and_of_no_pooling(summarizers, options, tmp_path):
    aggregate = Aggregate()
    (summary,) = summarizers(**options).summarize(article(9), with_provenance=True, min_len=3, max_len_b=6)
    aggregate.add(summary.provenance)
    aggregate.write(str(tmp_path))
    for row in aggregate.weight_table():
        if options.get("pooler") == "hard_topk":
            assert row["tokens in a vector"] == row["tokens that count"] == row["largest weight"] == 1
        else:
            assert row["tokens that count"] == pytest.approx(
                row["tokens in a vector"], rel=0.02
            )  # windows of windows of 3 and 6
