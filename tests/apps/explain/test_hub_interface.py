"""Tests of the hub interface: one summary for each document, in order, equal to stock generation."""

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pyramidion_fairseq import PyramidionModel
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.inference.batching import batches_by_length, separate_short_documents
from pyramidion_fairseq.inference.loading import load_summarizer
from pyramidion_fairseq.inference.summarizer import PyramidionHubInterface
from pyramidion_fairseq.text import Document
from tests.helpers.paths import ROOT
from tests.helpers.summaries import article, write_checkpoint, write_sentencepiece

QUICK = {"min_len": 3, "max_len_b": 12}


def test_summarize_equals_translate_and_generate_of_fairseq(trained_folder):
    documents = [article(2), article(40), "word", article(5, seed=1)]
    hub = PyramidionModel.from_pretrained(
        str(trained_folder), "checkpoint_best.pt", data_name_or_path=str(trained_folder),
        bpe="sentencepiece", sentencepiece_model=str(trained_folder / "sentencepiece.model"),
    )  # fmt: skip
    assert isinstance(hub, PyramidionHubInterface)
    stock = hub.translate(documents, beam=2, max_len_b=12, min_len=3)
    summaries = hub.summarize(documents, batch_size=3, **QUICK)
    assert [summary.text for summary in summaries] == stock
    hypotheses = hub.generate([hub.encode(text) for text in documents], beam=2, max_len_b=12, min_len=3)
    for summary, (best, *_) in zip(summaries, hypotheses):
        assert [*summary.tokens, 2] == best["tokens"].tolist()
        assert summary.score == pytest.approx(float(best["score"]), abs=1e-5)
    assert all(summary.provenance is None for summary in summaries)


def test_deepcopy_writes_the_same_summary_and_shares_no_parameters(summarizers):
    hub = summarizers()
    expected = hub.summarize(article(9), True, **QUICK)[0]
    copied = copy.deepcopy(hub)
    found = copied.summarize(article(9), True, **QUICK)[0]
    assert (found.text, found.explain().to_dict()) == (expected.text, expected.explain().to_dict())
    assert not {p.data_ptr() for p in hub.parameters()} & {p.data_ptr() for p in copied.parameters()}


def test_pickled_hub_writes_the_same_summary_in_another_process(summarizers, tmp_path):
    hub = summarizers()
    expected = hub.summarize(article(9), True, **QUICK)[0]
    script = (
        "import pickle, sys\n"
        "hub = pickle.load(open(sys.argv[1], 'rb'))\n"
        f"print(hub.summarize({article(9)!r}, True, min_len=3, max_len_b=12)[0].text)"
    )
    (tmp_path / "hub.pickle").write_bytes(pickle.dumps(hub))
    out = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "hub.pickle")], cwd=ROOT, capture_output=True, text=True
    )
    assert out.stdout.strip() == expected.text, out.stderr
    torch.save(hub, tmp_path / "hub.pt")  # with another protocol
    loaded = torch.load(tmp_path / "hub.pt", weights_only=False)
    assert loaded.summarize(article(9), True, **QUICK)[0].explain().to_dict() == expected.explain().to_dict()


def test_hub_refuses_train_mode(summarizers):
    hub = summarizers()
    assert not any(module.training for module in hub.modules())  # as loaded
    assert hub.eval() is hub and hub.models[0].eval() is hub.models[0]
    assert hub.train(False) is hub
    with pytest.raises(RuntimeError, match="cannot train: fairseq-train --restore-file can"):
        hub.train()
    assert not any(module.training for module in hub.models[0].modules())


def test_threads_that_share_a_hub_get_their_own_explanations(summarizers):
    hub, documents = summarizers(), [article(n, seed=n) for n in (3, 40, 9, 25)]

    def explained(document):
        return hub.summarize(document, True, **QUICK)[0].explain().to_dict()

    expected = [explained(document) for document in documents]
    with ThreadPoolExecutor(len(documents)) as threads:
        assert list(threads.map(explained, documents * 3)) == expected * 3


def test_provenance_does_not_change_summaries(summarizers):
    documents = [article(2), article(40), article(9)]
    plain, explained = (summarizers().summarize(documents, flag, **QUICK) for flag in (False, True))
    assert [(s.text, s.score, s.tokens) for s in plain] == [(s.text, s.score, s.tokens) for s in explained]


@pytest.mark.parametrize("limits", [{"batch_size": 1}, {"batch_size": 3}, {"max_tokens": 80}, {"buffer": 2}])
def test_batching_does_not_change_summaries_or_provenance(summarizers, limits):
    documents = [article(n, seed=n) if n else "" for n in (3, 0, 40, 1, 7, 2, 40)]
    expected = list(summarizers().summarize_stream(documents, True, **QUICK))
    done = []
    found = list(summarizers().summarize_stream(documents, True, progress=done.append, **limits, **QUICK))
    assert [summary.text for summary in found] == [summary.text for summary in expected]
    assert sum(done) == 7 and (found[1].text, found[1].score, found[1].tokens) == ("", None, ())
    for one, other in zip(found, expected):
        assert (one.provenance is None) == (other.provenance is None)
        if one.provenance:
            weights = (s.provenance.models[0].source_weights() for s in (one, other))
            torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2])
def test_no_repeat_ngram_size_prevents_repeated_ngrams(summarizers, size):
    def repeats(**chosen):
        found = summarizers().summarize([article(9), article(3)], min_len=20, max_len_b=23, **chosen)
        ngrams = [[s.tokens[i : i + size] for i in range(len(s.tokens) - size + 1)] for s in found]
        return [len(grams) - len(set(map(tuple, grams))) for grams in ngrams]

    assert min(repeats()) > 0 and repeats(no_repeat_ngram_size=size) == [0, 0]


def test_summarize_stream_reads_one_buffer_ahead(summarizers):
    read = []

    def documents():
        for number in range(100):
            read.append(number)
            yield article(2, seed=number)

    stream = summarizers().summarize_stream(documents(), buffer=4, **QUICK)
    next(stream)
    assert read == [0, 1, 2, 3]


def test_summarize_takes_a_text_a_document_or_a_list(summarizers):
    assert len(summarizers().summarize(article(3), **QUICK)) == 1
    assert len(summarizers().summarize(Document.from_text(article(3)), **QUICK)) == 1
    assert summarizers().summarize([]) == []


def test_default_generation_options_are_those_of_the_paper(summarizers, monkeypatch):
    hub, seen = summarizers(), []
    build = hub.task.build_generator
    monkeypatch.setattr(hub.task, "build_generator", lambda models, args: seen.append(args) or build(models, args))
    (summary,) = hub.summarize(article(3))
    assert (seen[0].beam, seen[0].lenpen, seen[0].max_len_b, seen[0].min_len) == (2, 1.0, 966, 23)
    assert len(summary.tokens) == 23  # the model writes 24, including </s>
    hub.summarize(article(3), min_len=2, max_len_b=4)
    assert (seen[1].min_len, seen[1].max_len_b) == (2, 4)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"beem": 3}, "no such option of generation: beem"),
        ({"beam": 0}, "beam and max_len_b must be at least 1"),
        ({"max_len_b": 0}, "beam and max_len_b must be at least 1"),
        ({"min_len": -1}, "min_len must be at least 0, got -1"),
        ({"no_repeat_ngram_size": -3}, "no_repeat_ngram_size must be at least 0, got -3"),
        ({"min_len": 5, "max_len_b": 4}, "min_len 5 is above the longest summary, 4 tokens .max_len_b is 4."),
        (
            {"min_len": 73, "max_len_b": 72},
            "min_len 73 is above the longest summary, 23 tokens .the model writes 24, </s>",
        ),
        ({"min_len": 24}, "min_len 24 is above the longest summary, 23 tokens"),
        (
            {"min_len": 5, "max_len_a": 0.0001, "max_len_b": 1},
            "min_len is above the longest summary of a document, max_",
        ),
        ({"score_reference": True}, "score_reference reads a reference"),
        ({"prefix_size": 2}, "prefix_size reads a reference"),
        ({"temperature": 0}, "--temperature must be greater than 0, got 0"),
        ({"batch_size": 0}, "sizes must be at least 1"),
        ({"max_tokens": 0}, "sizes must be at least 1"),
    ],
)
def test_invalid_generation_options_are_named(summarizers, options, message):
    with pytest.raises(PyramidionError, match=message):
        summarizers().summarize(article(2), **options)


def test_summarize_stream_takes_a_single_text(summarizers):
    (summary,) = summarizers().summarize_stream(article(2))
    assert [summary] == summarizers().summarize([article(2)])


def test_values_that_are_not_documents_are_refused(summarizers):
    with pytest.raises(PyramidionError, match="a document is a text, not int"):
        summarizers().summarize([article(2), 3])
    for whole in ({"text": article(2)}, article(2).encode()):
        with pytest.raises(PyramidionError, match=f"a document is a text, not {type(whole).__name__}"):
            summarizers().summarize(whole)
    with pytest.raises(PyramidionError, match="no provenance: its document is empty"):
        summarizers().explain([""])


HOSTILE = [
    "<script>alert(1)</script> <img src=x onerror=alert(1)> &amp; ]]> </textarea>",
    "\x00\x01\x02\x7f\x80 binary \ufffd \ufffe \uffff",
    "lone \ud800 surrogates \udfff",
    "word",
    "\u202eright to left\u202c zero\u200bwidth",
    "x" * 100_000,
    "\u65e5\u672c\u8a9e" * 5000,
    ". " * 5000,
    "\n\n\n a \n\n\n",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_can_be_explained(summarizers, text):
    explanation = summarizers().explain(text, **QUICK)[0]
    words = explanation.document.words
    assert words and len(explanation.stages[-1].weights) == len(words) == len(explanation.document.space_after)
    " ".join(words).encode("utf-8")
    assert explanation.document.sentences[-1][1] == len(words)


def test_document_of_ten_megabytes_is_truncated_and_explained(summarizers):
    text = (article(50) + "\n") * (10_000_000 // len(article(50)))
    (summary,) = summarizers().summarize(text, with_provenance=True, **QUICK)
    explanation = summary.explain()
    assert len(explanation.document.words) == 50_000 and explanation.model.note.startswith("The last ")
    assert explanation.truncated > 49_900
    assert summary.text == summarizers().summarize(article(50), **QUICK)[0].text


def test_ensemble_has_provenance_of_each_model(trained_folder):
    paths = [str(trained_folder / name) for name in ("checkpoint_best.pt", "other.pt")]
    hub = load_summarizer(":".join(paths), device="cpu")
    (summary,) = hub.summarize(article(5), with_provenance=True, **QUICK)
    first, second = summary.provenance.models
    assert [name for name, _ in first.stages] == ["after layer 1", "after layer 2"]
    assert [name for name, _ in second.stages] == ["after layer 2"] and second.attention.size(1) == 9
    alone = load_summarizer(paths[:1], device="cpu").summarize(article(5), **QUICK)[0]
    assert alone.score != summary.score
    explanation = summary.explain()
    assert [stage.kind for stage in explanation.stages] == ["decoder", "used"]
    assert all(sum(weight for _, weight in sources) <= 1 + 1e-6 for sources in explanation.summary.sources)


def test_out_of_memory_halves_the_batch(summarizers, monkeypatch, caplog):
    hub, sizes = summarizers(), []
    generate = PyramidionHubInterface._generate

    def limited(self, sources, *rest):
        sizes.append(len(sources))
        if len(sources) > 2:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return generate(self, sources, *rest)

    documents = [article(n) for n in range(1, 6)]
    expected = [summary.text for summary in hub.summarize(documents, **QUICK)]
    monkeypatch.setattr(PyramidionHubInterface, "_generate", limited)
    assert [summary.text for summary in hub.summarize(documents, **QUICK)] == expected
    assert sizes == [5, 2, 3, 1, 2] and "going on with half as many" in caplog.text

    def never(self, *_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(PyramidionHubInterface, "_generate", never)
    with pytest.raises(PyramidionError, match="memory on cpu is too small for a document of"):
        hub.summarize(documents)


def test_encoder_gets_document_lengths_from_the_host(summarizers, monkeypatch):
    hub, seen = summarizers(), []
    encoder = hub.models[0].encoder
    encode = encoder.encode

    def record(tokens, embeddings, keep_states, document_lengths):
        seen.append((tokens.ne(1).sum(dim=1).tolist(), document_lengths))
        return encode(tokens, embeddings, keep_states, document_lengths)

    monkeypatch.setattr(encoder, "encode", record)
    hub.summarize([article(9), article(1)], **QUICK)
    ((counted, given),) = seen
    assert counted == given and counted[0] > counted[1]


def test_batches_by_length_and_separate_short_documents():
    assert batches_by_length([], 3) == []
    assert batches_by_length([5, 9, 5, 1], 3) == [[1, 0, 2], [3]]
    assert separate_short_documents([[1, 0, 2], [3]], [5, 9, 4, 1], 5) == [[1, 0], [2], [3]]
    assert batches_by_length([5, 9, 5, 1], 3, max_tokens=10) == [[1], [0, 2], [3]]
    assert batches_by_length([50, 9], 3, max_tokens=10) == [[0], [1]]
    assert batches_by_length([4, 4, 4], 2, max_tokens=12) == [[0, 1], [2]]


def test_checkpoint_of_the_translation_task_summarizes_with_provenance(tmp_path):
    write_sentencepiece(tmp_path)
    path = write_checkpoint(tmp_path, task="translation")
    hub = load_summarizer(path, device="cpu")
    assert hub.task.cfg.left_pad_source
    summaries = hub.summarize([article(40), article(1)], with_provenance=True, **QUICK)
    assert len(summaries) == 2
    for summary in summaries:
        weights = summary.provenance.models[0].source_weights()
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(weights)), rtol=0, atol=1e-5)
