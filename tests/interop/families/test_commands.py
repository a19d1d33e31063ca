"""Tests of pyramidion-explain and stock fairseq-generate with models that mark languages."""

import json
import re

import pytest
import sentencepiece
import torch
from fairseq.sequence_generator import SequenceGenerator

from pyramidion_fairseq.apps.explain import Explanation
from pyramidion_fairseq.cli import explain
from pyramidion_fairseq.cli.convert import main
from tests.helpers import families
from tests.helpers.bart import documents, load
from tests.helpers.corpora import write_split
from tests.helpers.paths import ROOT

TEXT = "hello world we read long documents and write short summaries of them"


@pytest.fixture(scope="module", params=["mbart", "mbart-50"])
def folder(request, transformers, rows, tmp_path_factory):
    """Return the folder of a model that pools documents to 8 vectors."""
    place = tmp_path_factory.mktemp(request.param)
    given, _ = families.make(transformers, request.param, place / "in", rows)
    main(["mbart", str(given), str(place / "out"), *families.FULL, "--pool-lengths", "8"])
    return place / "out"


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


def test_explain_maps_words_to_the_document_and_hides_language_symbols(folder, model, tmp_path):
    (tmp_path / "in").write_text(TEXT)
    paths = ["--input", tmp_path / "in", "--output", tmp_path / "page.html", "--json", tmp_path / "numbers.json"]
    settings = ["--device", "cpu", "--min-len", "3", "--max-len-b", "8"]
    explain.main(["--checkpoint", str(folder), *map(str, paths), *settings])
    explanation = Explanation.from_dict(json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8")))
    assert " ".join(explanation.document.words) == TEXT and explanation.truncated == 0
    pieces = len(encode(folder, TEXT))
    assert [length.tokens for length in explanation.lengths] == [pieces + 2, 8]  # </s> and the language
    language = model.options.summary_marker
    assert explanation.summary.words and language not in " ".join(explanation.summary.words)
    count = len(explanation.document.words)
    assert all(0 <= place < count for word in explanation.summary.sources for place, _ in word)
    assert all(sum(weight for _, weight in word) <= 1 + 1e-5 for word in explanation.summary.sources)
    assert any(explanation.summary.sources)
    assert (tmp_path / "page.html").read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")


def encode(folder, text):
    """Return the pieces of a text, without added symbols."""
    (path,) = folder.glob("*.model")
    return sentencepiece.SentencePieceProcessor(model_file=str(path)).encode(text)


def test_stock_fairseq_generate_adds_and_hides_language_symbols(folder, model, command, tmp_path):
    """Check that the language is at its position of the training, and not in the printed summaries."""
    dictionary, options = model.decoder.dictionary, model.options
    for side in ("source", "target"):
        (tmp_path / f"dict.{side}.txt").write_bytes((folder / "dict.txt").read_bytes())
    texts = [row[1:length].tolist() for row, length in zip(documents([20, 13], len(dictionary)), (20, 13))]
    write_split(tmp_path, "test", texts, [[5, 6, 2]] * 2)
    out = command(
        "generate", tmp_path, "--user-dir", ROOT / "pyramidion_fairseq", "--task", "long_document_summarization",
        "--cpu", "--num-workers", 0, "--data-buffer-size", 0, "--batch-size", 2, "--path", folder / "model.pt",
        "--beam", 2, "--max-len-b", 9, "--min-len", 3,
    )  # fmt: skip
    found = dict(re.findall(r"^H-(\d+)\t\S+\t(.*)$", out.stdout, re.M))
    language = dictionary.index(options.document_marker)
    marked = [[language, *text] if options.prepend_bos else [*text, language] for text in texts]
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in marked], True, 1)
    generator = SequenceGenerator([model], dictionary, beam_size=2, max_len_b=9, min_len=3)
    first = dictionary.index(options.summary_marker)
    prefix = torch.full((2, 1), first) if options.prepend_bos else None
    sample = {"net_input": {"src_tokens": tokens, "src_lengths": tokens.ne(1).sum(1)}}
    best = [hypotheses[0]["tokens"] for hypotheses in generator.generate([model], sample, prefix_tokens=prefix)]
    expected = [dictionary.string(row[1:] if options.prepend_bos else row) for row in best]
    assert [found["0"], found["1"]] == expected and all(expected)
