"""Tests of examples/pubmed_small: cleaning abstracts, oracle extracts, released folders; and of the demo."""

import gzip
import json
import random
import shutil
import string
import sys
from collections import Counter
from pathlib import Path

import pytest
import sentencepiece
import torch
from sentencepiece import sentencepiece_model_pb2

from pyramidion_fairseq import PyramidionModel, pretrained
from pyramidion_fairseq.checkpoints import load_checkpoint, save_checkpoint

import clean  # isort: skip
import lowercase  # isort: skip
import oracle_extracts  # isort: skip
import release  # isort: skip
from splits import rewrite  # isort: skip

FOLDER = Path(pretrained.find("pubmed-small"))


def test_clean_removes_publishers_sentences_from_abstracts(monkeypatch, tmp_path, capsys):
    """Check that an article whose abstract has nothing else is left out."""
    record = {"article_text": ["a text ."], "abstract_text": ["<S> we found it . </S>", "<S> keywords genes </S>"]}
    other = {"article_text": ["b"], "abstract_text": ["<S> the online version of this article contains more . </S>"]}
    for split in ("train", "val", "test"):
        with gzip.open(tmp_path / f"{split}.jsonl.gz", "wt", encoding="utf-8") as out:
            out.writelines(json.dumps(row) + "\n" for row in (record, other))
    monkeypatch.setattr(sys, "argv", ["clean.py", str(tmp_path), str(tmp_path / "out")])
    rewrite("Cleans.", ["train", "val", "test"], clean.cleaned)
    with gzip.open(tmp_path / "out" / "val.jsonl.gz", "rt", encoding="utf-8") as lines:
        assert [json.loads(line) for line in lines] == [{**record, "abstract_text": ["we found it ."]}]
    assert capsys.readouterr().out == "train: 1 articles\nval: 1 articles\ntest: 1 articles\n"


def test_missing_split_is_refused_before_anything_is_written(monkeypatch, tmp_path):
    (tmp_path / "train.jsonl.gz").touch()
    monkeypatch.setattr(sys, "argv", ["clean.py", str(tmp_path), str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"error: there is no .*val\.jsonl\.gz: SOURCE holds train"):
        rewrite("Cleans.", ["train", "val"], clean.cleaned)
    assert not (tmp_path / "out").exists()


def score(extract, abstract):
    """Return ROUGE-1 F1 + ROUGE-2 F1 of sentences; no bigram spans two sentences."""
    total = 0.0
    for size in (1, 2):
        found, wanted = (
            Counter(tuple(words[i : i + size]) for words in texts for i in range(len(words) - size + 1))
            for texts in ([sentence.split() for sentence in extract], [abstract.split()])
        )
        total += 2 * sum((found & wanted).values()) / (sum(found.values()) + sum(wanted.values()))
    return total


@pytest.mark.parametrize("seed", range(20))
def test_oracle_extract_matches_a_greedy_search_that_recounts_every_sentence(seed):
    generator = random.Random(seed)
    sentences = [" ".join(generator.choices("abcdefgh", k=generator.randrange(4, 12))) for _ in range(15)]
    abstract, expected, best = " ".join(sentences.pop() for _ in range(3)), [], 0.0
    usable = [number for number, text in enumerate(sentences) if len(text.split()) in oracle_extracts.SENTENCE]
    while left := [number for number in usable if number not in expected]:
        scores = [score([sentences[n] for n in (*expected, number)], abstract) for number in left]
        if max(scores) <= best:
            break
        best = max(scores)
        expected.append(left[scores.index(best)])
    assert oracle_extracts.oracle_extract(sentences, abstract) == sorted(expected) != []


def test_oracle_extract_respects_the_limits_of_read_and_extracted_words(monkeypatch):
    sentences = ["we found alpha in the mice .", "too short", "we found gamma in the rats ."]
    assert oracle_extracts.oracle_extract(sentences, "gamma in rats , alpha in mice") == [0, 2]
    monkeypatch.setattr(oracle_extracts, "READ", 15)  # the document has 16 words
    assert oracle_extracts.oracle_extract(sentences, "gamma in rats , alpha in mice") == [0]
    monkeypatch.setattr(oracle_extracts, "EXTRACT", 5)  # the sentence has 6 words and a full stop
    assert oracle_extracts.oracle_extract(sentences, "gamma in rats , alpha in mice") == []


def as_trained(model):
    """Return a released sentencepiece model as it was trained: with its capitals."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    spec = proto.normalizer_spec
    rules = lowercase.read_rules(spec.precompiled_charsmap)
    for letter in string.ascii_uppercase:
        assert rules.pop(letter.encode()) == letter.lower().encode()
    spec.precompiled_charsmap, spec.name = lowercase.compile_rules(rules), "nmt_nfkc"
    return proto.SerializeToString()


def test_released_sentencepiece_lowercases_ascii_letters_and_nothing_else():
    released = (FOLDER / "sentencepiece.model").read_bytes()
    trained = as_trained(released)
    assert lowercase.lowercase_ascii(trained) == released and len(released) - len(trained) < 50
    before, after = (sentencepiece.SentencePieceProcessor(model_proto=model) for model in (trained, released))
    spec = sentencepiece_model_pb2.ModelProto.FromString(trained).normalizer_spec
    rules = lowercase.read_rules(spec.precompiled_charsmap)
    assert len(rules) > 200_000 and rules["ﬁ".encode()] == b"fi" and rules["e\u0301".encode()] == "é".encode()
    keys = random.Random(0).sample(sorted(rules), 500)
    texts = [key.decode() for key in keys if not set(key.decode()) & set(string.ascii_uppercase)]
    texts += ["the ﬁrst 10 µm of É. coli, Δg ™ ½", "<dig> and <cit>"]
    assert len(texts) > 400 and all(before.encode(text) == after.encode(text) for text in texts)
    assert before.encode("DNA") != after.encode("DNA") == before.encode("dna")


def test_article_with_capitals_has_the_summary_of_the_article_in_lower_case():
    """Check also that the words of the page keep their capitals."""
    hub = PyramidionModel.from_pretrained("pubmed-small")
    text = "Cells grew well in medium. The DNA of MICE was sequenced."
    small, first, all_capitals = hub.summarize([text.lower(), text, text.upper()], min_len=2, max_len_b=20)
    assert small.tokens == first.tokens == all_capitals.tokens and len(small.tokens) > 1
    assert hub.explain(text, min_len=2, max_len_b=20)[0].document.words[:2] == ("Cells", "grew")


def test_released_folder_is_as_small_as_the_published_one_and_loads(tmp_path):
    """Release a checkpoint as training leaves it, in float32 with a path and an optimizer state."""
    state = load_checkpoint(FOLDER / "model.pt")
    trained = {name: value.float() if value.is_floating_point() else value for name, value in state["model"].items()}
    task = {**state["cfg"]["task"], "data": "/somewhere/data-bin"}
    cfg = {**state["cfg"], "task": task, "checkpoint": {"save_dir": "/somewhere"}}
    save_checkpoint({**state, "model": trained, "cfg": cfg, "last_optimizer_state": {"state": 1}}, tmp_path / "in.pt")
    (tmp_path / "data" / "data-bin").mkdir(parents=True)
    for side in ("source", "target"):
        shutil.copy(FOLDER / f"dict.{side}.txt", tmp_path / "data" / "data-bin")
    (tmp_path / "data" / "sentencepiece.model").write_bytes(as_trained((FOLDER / "sentencepiece.model").read_bytes()))
    release.release(tmp_path / "in.pt", tmp_path / "data", tmp_path / "out")
    found = load_checkpoint(tmp_path / "out" / "model.pt")
    assert "/somewhere" not in str(found["cfg"]) and "last_optimizer_state" not in found
    assert all(value.dtype in (torch.float16, torch.int64) for value in found["model"].values())
    assert (tmp_path / "out" / "model.pt").stat().st_size == (FOLDER / "model.pt").stat().st_size
    assert (tmp_path / "out" / "sentencepiece.model").read_bytes() == (FOLDER / "sentencepiece.model").read_bytes()
    ours, theirs = (PyramidionModel.from_pretrained(str(folder)) for folder in (tmp_path / "out", FOLDER))
    (summary,), (expected,) = (hub.summarize("a gene .", min_len=2, max_len_b=9) for hub in (ours, theirs))
    assert summary.tokens == expected.tokens


def test_demo_with_a_missing_file_ends_with_one_line(program, tmp_path):
    done = program("bash", "examples/quickstart/demo.sh", "articles.jsonl.gz", OUT=str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: there is no file articles.jsonl.gz\n" and not (tmp_path / "out").exists()
