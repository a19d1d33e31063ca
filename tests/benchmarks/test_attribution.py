"""Tests of benchmarks/attribution.py: exact drops and rankings of tiny untrained models, and continued runs."""

import json

import numpy as np
import pytest
import torch

from pyramidion_fairseq.functional import TokenRecord
from pyramidion_fairseq.inference.loading import load_summarizer
from pyramidion_fairseq.text import Document
from tests.helpers.summaries import SENTENCES, write_checkpoint, write_sentencepiece

QUICK = {"min_len": 6, "max_len_b": 12}
#: Number of tokens of a document that the models read.
READ = 128
#: Numbers of sentences of the documents; the second document has too few.
LENGTHS = [9, 3, 7]
POINTING = {"pointer": True, "pointer_bias": 1.0}


@pytest.fixture(scope="module")
def modules():
    import attribution
    import deletion

    return attribution, deletion


def tiny(tmp_path_factory, **options):
    """Write an untrained model and return its folder."""
    folder = tmp_path_factory.mktemp("model")
    write_sentencepiece(folder)
    write_checkpoint(folder, max_source_positions=READ, **options)
    return folder


@pytest.fixture(scope="module")
def summarizers(tmp_path_factory):
    """Return tiny models in float64: without a pointer, with one, and with <s> before the document."""

    def load(**options):
        return load_summarizer(str(tiny(tmp_path_factory, **options)), device="cpu").to(torch.float64)

    return {"plain": load(), "pointer": load(**POINTING), "bos": load(prepend_bos=True)}


def article(sentences, seed=0):
    """Return a document of short sentences that all differ."""
    words = [word for sentence in SENTENCES for word in sentence.split()]
    starts = [(seed + 5 * number) % 30 for number in range(sentences)]
    ends = [f" {'.' * (number + 1)}" for number in range(sentences)]
    return Document(tuple(" ".join(words[start : start + 3]) + end for start, end in zip(starts, ends)), split=False)


@pytest.fixture
def deletion_of(modules, summarizers):
    def make(name="plain", document=None, **options):
        hub = summarizers[name]
        document = article(9) if document is None else document
        (summary,) = hub.summarize(document, with_provenance=True, **QUICK)
        return hub, summary, modules[1].Deletion(hub, summary, **options)

    return make


@pytest.fixture
def settings(modules):
    return modules[1].Settings(seed=1, draws=3, most_sentences=100, ablations=64, alpha=1e-7)


def recomputed(hub, summary, tokens):
    """Return the log-probability of a summary given these tokens, computed one decoder step at a time."""
    model, total, so_far = hub.models[0], 0.0, [2]
    with torch.no_grad():
        encoded = model.encoder(torch.tensor([tokens]), torch.tensor([len(tokens)]))
        for token in [*summary.tokens, 2]:
            output = model.decoder(torch.tensor([so_far]), encoder_out=encoded)
            total += float(model.get_normalized_probs(output, log_probs=True)[0, -1, token])
            so_far.append(token)
    return total


@pytest.mark.parametrize("name", ["plain", "pointer", "bos"])
def test_log_probability_equals_the_score_of_generation(deletion_of, name):
    _, summary, deletion = deletion_of(name)
    assert deletion.log_probability == pytest.approx(summary.score * len(deletion.target), rel=1e-6)
    assert deletion.drops([[], set()]) == [0.0, 0.0]
    assert deletion.without([]) == [*summary.provenance.source.tokens, 2]


@pytest.mark.parametrize("name", ["plain", "pointer", "bos"])
def test_leave_one_out_matches_recomputation_on_the_shortened_text(deletion_of, settings, name):
    """Check the drops by deleting each sentence from the text and encoding the rest again."""
    document = article(7)
    hub, summary, deletion = deletion_of(name, document, batch_size=3)
    assert summary.explain().truncated == 0 and deletion.sentences == list(range(7))
    expected = []
    for left_out in range(7):
        rest = Document(tuple(s for i, s in enumerate(document.sentences) if i != left_out), False)
        (source,) = (s.provenance.source for s in hub.summarize(rest, with_provenance=True, **QUICK))
        tokens = [*source.tokens, 2]
        assert deletion.without([left_out]) == tokens
        expected.append(deletion.log_probability - recomputed(hub, summary, tokens))
    assert deletion.drops([[i] for i in range(7)]) == pytest.approx(expected, abs=1e-5)
    ranking = deletion.rank("leave-one-out", settings)
    assert ranking.orders == [sorted(range(7), key=lambda i: -expected[i])] and ranking.passes == 7
    assert len(set(np.round(expected, 5))) == 7  # they differ by more than rounding


def test_leave_one_out_tries_only_the_first_most_sentences(deletion_of, settings, modules):
    _, _, deletion = deletion_of()
    few = modules[1].Settings(**{**vars(settings), "most_sentences": 3})
    (order,), passes, _ = deletion.rank("leave-one-out", few)
    assert passes == 3 and sorted(order[:3]) == [0, 1, 2] and order[3:] == deletion.sentences[3:]


def test_long_documents_are_truncated_before_sentences_are_deleted(deletion_of):
    _, summary, deletion = deletion_of(document=article(30))
    explanation = summary.explain()
    read = len(explanation.document.words) - explanation.truncated
    assert len(deletion.tokens) == READ and explanation.truncated > 0
    assert deletion.sentences == [i for i, (start, _) in enumerate(explanation.document.sentences) if start < read]
    first = deletion.owners.count(0)
    assert deletion.without([0]) == deletion.tokens[first:] and 0 < first < READ // 4


@pytest.mark.parametrize("name", ["plain", "pointer", "bos"])
def test_explanation_ranking_equals_that_of_the_hub(deletion_of, settings, summarizers, name):
    hub, _, deletion = deletion_of(name)
    (explanation,) = hub.explain(article(9), **QUICK)
    (order,), passes, seconds = deletion.rank("explanation", settings)
    ranked = [rank.sentence for rank in explanation.ranking]
    assert order[: len(ranked)] == ranked and sorted(order) == deletion.sentences
    assert passes == 0 < seconds
    (weighted,), _, _ = deletion.rank("weighted-attention", settings)
    assert (weighted == order) is (name != "pointer")  # with a pointer, copied mass counts at its source


def test_attention_ranking_shares_each_slot_evenly_among_its_tokens(deletion_of, settings):
    """Check with a plain loop that a vector's attention is divided evenly among its tokens."""
    _, summary, deletion = deletion_of()
    (record,) = summary.provenance.models
    slots, sums = record.decoder.slots.tolist(), dict.fromkeys(deletion.sentences, 0.0)
    for place, owner in enumerate(deletion.owners):
        if owner >= 0:
            sums[owner] += float(record.attention[:-1, slots[place]].sum()) / slots.count(slots[place])
    (order,), _, _ = deletion.rank("attention", settings)
    assert order == sorted(sums, key=lambda sentence: -sums[sentence])


def test_even_weights_gives_dropped_tokens_no_weight(modules):
    record = TokenRecord(torch.tensor([0, 0, 1, 0]), torch.tensor([0.9, 0.1, 1.0, 0.0]))
    assert modules[1].even_weights(record).weights.tolist() == [0.5, 0.5, 1.0, 0.0]


def test_copied_mass_is_the_share_of_probability_not_written(deletion_of, settings):
    """Check that the rest of a token's probability is written: the softmax of the vocabulary times its gate."""
    hub, summary, deletion = deletion_of("pointer")
    mass, model = deletion.copied(), hub.models[0]
    with torch.no_grad():
        encoded = model.encoder(torch.tensor([deletion.tokens]), torch.tensor([len(deletion.tokens)]))
        logits, extra = model.decoder(torch.tensor([[2, *summary.tokens]]), encoder_out=encoded)
        mixed = model.get_normalized_probs((logits, extra), log_probs=False)[0]
    written = logits[0].double().softmax(dim=1) * extra["pointer"].log_write[0].exp().unsqueeze(1)
    written, mixed = (table.gather(1, deletion.target.unsqueeze(1))[:, 0].double() for table in (written, mixed))
    torch.testing.assert_close(mass.sum(dim=1).double(), 1 - written / mixed, rtol=0, atol=1e-5)
    assert ((mass > 0) <= (torch.tensor(deletion.tokens) == deletion.target.unsqueeze(1))).all() and mass.max() > 0.1
    sums = {s: float(mass[:-1, [o == s for o in deletion.owners]].sum()) for s in deletion.sentences}
    (order,), passes, _ = deletion.rank("copied", settings)
    assert order == sorted(sums, key=lambda sentence: -sums[sentence]) and passes == 0


def test_context_cite_recovers_additive_contributions(deletion_of, settings, monkeypatch):
    """Check that the fit ranks sentences by their parts if the log-probability is a sum of these parts."""
    _, _, deletion = deletion_of()
    parts = {sentence: (7 * i) % 9 for i, sentence in enumerate(deletion.sentences)}
    assert len(set(parts.values())) == len(parts)
    asked = []

    def log_probabilities(deletions):
        asked.extend(deletions)
        return [sum(part for sentence, part in parts.items() if sentence not in deleted) for deleted in deletions]

    monkeypatch.setattr(deletion, "log_probabilities", log_probabilities)
    (order,), passes, _ = deletion.rank("context-cite", settings)
    assert order == sorted(parts, key=lambda sentence: -parts[sentence])
    assert passes == len(asked) == 64 and len({frozenset(deleted) for deleted in asked}) > 50


def test_random_rankings_depend_on_the_seed_and_lead_is_document_order(deletion_of, settings):
    _, _, deletion = deletion_of()
    orders = deletion.rank("random", settings).orders
    assert len(orders) == 3 and all(sorted(order) == deletion.sentences for order in orders)
    assert len({*map(tuple, orders)}) == 3 and deletion.rank("random", settings).orders == orders
    assert deletion_of(number=1)[2].rank("random", settings).orders != orders
    assert deletion.rank("lead", settings).orders == [deletion.sentences]


@pytest.fixture
def run(modules, tmp_path, tmp_path_factory):
    """Return a function that runs the program on a model without a pointer; its attribute rows is the file of rows."""
    folder = tiny(tmp_path_factory)
    records = [{"article_text": list(article(length, seed=length).sentences)} for length in LENGTHS]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    quick = ["--min-len", "6", "--max-len-b", "12", "--draws", "2", "--ablations", "8", "--device", "cpu"]

    def run(*options, checkpoint=folder, **changes):
        paths = {"--checkpoint": checkpoint, "--input": tmp_path / "in.jsonl", "--output": tmp_path / "out"}
        modules[0].main([*(str(word) for pair in paths.items() for word in pair), *quick, *options])
        return json.loads((tmp_path / "out" / "attribution.json").read_text())["results"]

    run.rows, run.folder, run.input = tmp_path / "out" / "attribution.jsonl", folder, tmp_path / "in.jsonl"
    return run


def rows_of(run):
    """Return the rows without their times."""
    rows = map(json.loads, run.rows.read_text().splitlines())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_attribution_continues_a_stopped_run(run, modules, monkeypatch, capsys):
    whole, rows = run(), rows_of(run)
    assert [row.get("left_out", "") for row in rows[1:]] == ["", "sentences that the model reads: 3", ""]
    assert whole["documents"] == 2 and whole["left_out"] == 1 and "copied" not in whole["methods"]
    lines = run.rows.read_text().splitlines(keepends=True)
    run.rows.write_text("".join(lines[:2]) + lines[2][:20])  # killed while it wrote
    measured, measure_document = [], modules[0].measure_document
    monkeypatch.setattr(
        modules[0], "measure_document", lambda *args: measured.append(args[2]) or measure_document(*args)
    )
    again = run()
    assert measured == [1, 2] and rows_of(run) == rows
    for method, entry in whole["methods"].items():
        other = again["methods"][method]
        assert {**other, "seconds": 0} == {**entry, "seconds": 0}
    run()
    assert measured == [1, 2]
    output = capsys.readouterr().out
    assert "Left out: 1 of which the model reads at most 5 sentences." in output and "| explanation " in output
    assert run.rows.with_suffix(".png").stat().st_size > 1000


def test_attribution_reports_means_and_paired_differences(run):
    methods, rows = run("--documents", "3")["methods"], rows_of(run)[1:]
    rows = [row for row in rows if "left_out" not in row]
    drops = {name: np.array([row["drops"][name] for row in rows]) for name in methods}
    tokens = np.array([[row["summary_tokens"]] for row in rows])
    for name, entry in methods.items():
        for key, values in {
            "drop": drops[name],
            "drop_per_token": drops[name] / tokens,
            "above_random": drops[name] - drops["random"],
            "below_explanation": drops["explanation"] - drops[name],
        }.items():
            assert [part["mean"] for part in entry[key]] == pytest.approx(values.mean(axis=0).tolist())
            assert all(part["low"] <= part["mean"] <= part["high"] for part in entry[key])
    best = np.array([row["drops"]["leave-one-out"][0] for row in rows])
    assert all((best >= drops[name][:, 0] - 1e-5).all() for name in methods)  # for k = 1 no method has a larger drop
    assert methods["leave-one-out"]["passes"] == np.mean([row["sentences"] for row in rows])
    assert methods["context-cite"]["passes"] == 8 and methods["explanation"]["passes"] == 0


def test_attribution_refuses_rows_of_other_settings_or_documents(run, tmp_path_factory, capsys):
    run("--documents", "1", "--methods", "explanation", "lead")
    before = run.rows.read_bytes()
    other = tiny(tmp_path_factory, seed=1)
    same = ["--methods", "explanation", "lead"]
    for options, checkpoint, message in (
        ([*same, "--seed", "2"], run.folder, "was begun with other seed: use another --output"),
        (["--methods", "lead"], run.folder, "was begun with other methods:"),
        ([*same, "--beam", "1"], run.folder, "was begun with other generation:"),
        (same, other, "was begun with other model:"),
    ):
        with pytest.raises(SystemExit, match=message):
            run(*options, checkpoint=checkpoint)
    lines = run.input.read_text().splitlines(keepends=True)
    for content in ("".join(lines[::-1]), ""):
        run.input.write_text(content)
        with pytest.raises(SystemExit, match=r"document 0 of .*in\.jsonl is not that of .*attribution\.jsonl"):
            run(*same)
    run.input.write_text("".join(lines))
    assert run.rows.read_bytes() == before
    assert run("--documents", "3", *same)["documents"] == 2  # the number of documents is not a setting


@pytest.mark.parametrize(
    "options, message",
    [
        (["--documents", "0"], "--documents must be at least 1, got 0"),
        (["--alpha", "nan"], "--seed and --alpha must be at least 0"),
        (["--methods", "copied"], "--methods copied: this model has no pointer"),
        (["--methods", "weighted-attention"], "--methods weighted-attention: this model has no pointer"),
        (["--checkpoint", "nowhere"], "there is no checkpoint nowhere"),
    ],
)
def test_invalid_arguments_are_one_line_errors(run, options, message):
    with pytest.raises(SystemExit, match=f"^attribution.py: error: .*{message}") as ended:
        run(*options)
    assert "\n" not in str(ended.value.code) and not run.rows.exists()


def test_several_models_are_refused(run):
    file = f"{run.folder}/checkpoint_best.pt"
    with pytest.raises(SystemExit, match="names 2 models: name one at a time"):
        run(checkpoint=f"{file}:{file}")


def test_documents_of_few_sentences_only_are_refused(run):
    run.input.write_text('{"text": "one sentence."}\n{"text": ""}\n')
    with pytest.raises(SystemExit, match="has no document of which the model reads more than 5 sentences"):
        run()
    assert [row["left_out"] for row in rows_of(run)[1:]] == ["sentences that the model reads: 1", "it is empty"]
