"""Tests of the server's engine with a real model: its summaries, and how it stops."""

import shutil

import pytest
from fairseq.models.transformer import TransformerDecoderBase
from fairseq_cli import generate

from pyramidion_fairseq.apps.serve.engine import ModelEngine
from pyramidion_fairseq.apps.serve.worker import Stop, Stopped
from pyramidion_fairseq.cli import summarize
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.inference.loading import load_summarizer
from pyramidion_fairseq.models import decoder
from pyramidion_fairseq.text import Document
from tests.helpers.architectures import run
from tests.helpers.corpora import write_split
from tests.helpers.paths import ROOT
from tests.helpers.summaries import article

GENERATION = {"max_len_b": 12, "min_len": 4}


class StopAfter(Stop):
    """A Stop that counts its calls and requests the stop at the n-th."""

    def __init__(self, calls):
        super().__init__()
        self.calls, self.left = 0, calls

    def __call__(self):
        self.calls += 1
        if self.calls == self.left:
            self.set()
        super().__call__()


@pytest.fixture(scope="module")
def hub(summarizers):
    return summarizers()


def test_engine_returns_the_explanation_of_the_model(hub):
    document = Document.from_text(article(12), "A title")
    engine = ModelEngine(hub, **GENERATION)
    (expected,) = hub.summarize(document, with_provenance=True, **GENERATION)
    assert engine(document, Stop()) == expected.explain()


def test_options_of_a_request_override_those_of_the_engine(hub):
    document = Document.from_text(article(12))
    chosen = {**GENERATION, "min_len": 2, "max_len_b": 3}
    (expected,) = hub.summarize(document, with_provenance=True, **chosen)
    engine = ModelEngine(hub, **GENERATION)
    assert engine(document, Stop(), min_len=2, max_len_b=3) == expected.explain() != engine(document, Stop())


@pytest.mark.parametrize(
    "options",
    [{"beam": 0}, {"max_len_b": 0}, {"batch_size": 0}, {"lenpen": float("nan")}, {"min_len": 9, "max_len_b": 8}],
)
def test_engine_refuses_invalid_generation_options_when_built(hub, options):
    with pytest.raises(PyramidionError, match=f"{next(iter(options))}"):
        ModelEngine(hub, **options)


@pytest.fixture
def paths(monkeypatch):
    """Count decoding steps: those of our decoder under "ours", those of fairseq's under "fairseq's"."""
    steps = {"ours": 0, "fairseq's": 0}

    def count(name, function, counts):
        def counted(*args, **options):
            steps[name] += counts(options)
            return function(*args, **options)

        return counted

    monkeypatch.setattr(decoder, "decode_step", count("ours", decoder.decode_step, lambda options: 1))
    theirs = count("fairseq's", TransformerDecoderBase.forward, lambda o: o.get("incremental_state") is not None)
    monkeypatch.setattr(TransformerDecoderBase, "forward", theirs)
    return steps


def test_engine_checks_stop_at_every_layer_and_step_and_serves_again(hub, paths):
    engine, document = ModelEngine(hub, **GENERATION), Document.from_text(article(12))
    counting = StopAfter(-1)
    expected = engine(document, counting)
    layers = sum(len(model.encoder.layers) for model in hub.models)
    assert paths["ours"] > 10
    # One call for every encoder layer and every decoding step, one for the explaining pass, one at the end.
    assert counting.calls == layers + paths["ours"] + 2
    for calls in (1, layers + 1, counting.calls // 2, counting.calls):
        stop = StopAfter(calls)
        with pytest.raises(Stopped):
            engine(document, stop)
        assert stop.calls == calls
        assert engine(document, Stop()) == expected


def test_engine_refuses_a_document_without_text(hub):
    with pytest.raises(PyramidionError, match="empty"):
        ModelEngine(hub, **GENERATION)(Document.from_text("   "), Stop())


def test_server_returns_the_summaries_of_a_real_model(hub, serve):
    client = serve(using=ModelEngine(hub, **GENERATION))
    status, answer = client.json({"text": article(12)})
    (expected,) = hub.summarize(article(12), with_provenance=True, **GENERATION)
    assert status == 200 and answer["summary"] == expected.text
    for text in ("word", "\u202e \U0001f600 <b>", "x" * 100_000, "a b " * 50_000):
        assert client.form(text)[0] == 200, text[:20]
    assert client.json({"text": " \u200b "})[0] == 422
    assert client.json({"text": article(12)})[1] == answer


def test_serve_summarize_and_generate_use_the_same_decoding_steps(
    serve, trained_folder, tmp_path, monkeypatch, paths, caplog
):
    text = article(12)
    (tmp_path / "in.txt").write_text(text + "\n", encoding="utf-8")
    model = ["--checkpoint", str(trained_folder), "--device", "cpu", "--min-len", "4", "--max-len-b", "12"]
    summarize.main([*model, "--input", str(tmp_path / "in.txt"), "--output", str(tmp_path / "out.txt")])
    taken = [dict(paths)]

    engine = ModelEngine(load_summarizer(str(trained_folder), device="cpu"), **GENERATION)
    assert serve(using=engine).json({"text": text})[0] == 200
    taken.append(dict(paths))

    for side in ("source", "target"):
        shutil.copy(trained_folder / f"dict.{side}.txt", tmp_path)
    write_split(tmp_path, "test", [[5, 6, 7, 8, 2]] * 2, [[5, 6, 2]] * 2)
    out = run(
        monkeypatch, generate.cli_main, tmp_path, "--user-dir", ROOT / "pyramidion_fairseq", "--cpu",
        "--task", "long_document_summarization", "--path", trained_folder / "checkpoint_best.pt",
        "--num-workers", 0, "--data-buffer-size", 0, "--beam", 2, "--min-len", 4, "--max-len-b", 12,
    )  # fmt: skip
    assert out.count("\nH-") == 2
    taken.append(dict(paths))
    assert [steps["fairseq's"] for steps in taken] == [0, 0, 0]
    assert 0 < taken[0]["ours"] < taken[1]["ours"] < taken[2]["ours"]
    assert "slower path" not in caplog.text
