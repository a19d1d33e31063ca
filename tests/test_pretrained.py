"""Tests of the models that come with the package: names, size, summaries and options of generation."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import pyramidion_fairseq
from pyramidion_fairseq import PyramidionModel, pretrained
from pyramidion_fairseq.checkpoints import load_checkpoint
from pyramidion_fairseq.cli import summarize
from pyramidion_fairseq.errors import PyramidionError
from tests.helpers.paths import ROOT

FOLDER = Path(pretrained.__file__).parent / "pubmed_small"
ARTICLES = ROOT / "examples" / "pubmed_small" / "articles.jsonl"


@pytest.fixture(scope="module")
def hub():
    return PyramidionModel.from_pretrained("pubmed-small")


@pytest.fixture(scope="module")
def alone(hub):
    """Return the first article's summary and the log of making it."""
    logger, records, handler = logging.getLogger("pyramidion_fairseq"), [], logging.Handler()
    level, handler.emit = logger.level, records.append
    logger.addHandler(handler)
    logger.setLevel("INFO")
    (summary,) = hub.summarize(texts()[0])
    logger.removeHandler(handler)
    logger.setLevel(level)
    return summary, [record.getMessage() for record in records]


def texts():
    rows = [json.loads(line) for line in ARTICLES.read_text("utf-8").splitlines()]
    return [" ".join(row["article_text"]) for row in rows]


def test_default_pretrained_model_is_small_and_has_no_private_paths():
    assert pretrained.names() == ["pubmed-small"] and pretrained.DEFAULT == "pubmed-small"
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 20_000_000
    state = load_checkpoint(FOLDER / "model.pt")
    strings = [value for part in state["cfg"].values() if isinstance(part, dict) for value in part.values()]
    assert not [value for value in strings if isinstance(value, str) and value.startswith(("/work", "/root", "/home"))]
    assert state.get("last_optimizer_state") is None


def test_translate_of_fairseq_writes_the_same_as_summarize(hub):
    chosen = {**hub.generation_settings, "min_len": 3, "max_len_b": 12}
    documents = ["cells were treated with a drug . " * 5, "the genes"]
    assert hub.translate(documents, **chosen) == [summary.text for summary in hub.summarize(documents, **chosen)]


def test_folder_with_the_name_of_a_pretrained_model_is_preferred(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pretrained.find("pubmed-small") == str(FOLDER)
    (tmp_path / "pubmed-small").mkdir()
    assert pretrained.find("pubmed-small") == "pubmed-small"
    assert pretrained.find("other") == "other"


def test_summary_has_words_of_the_article_and_no_repeated_passages(alone):
    """Check also that its length is within the limits of generation.json."""
    text, summary = texts()[0], alone[0]
    settings = json.loads((FOLDER / "generation.json").read_text("utf-8"))
    assert settings["min_len"] <= len(summary.tokens) + 1 <= settings["max_len_b"] + 1
    words, known = summary.text.split(), set(text.split())
    assert sum(word in known for word in words) / len(words) > 0.8
    size = settings["no_repeat_ngram_size"]
    passages = [summary.tokens[i : i + size] for i in range(len(summary.tokens) - size + 1)]
    assert len(set(passages)) == len(passages)


@pytest.mark.parametrize("name", ["pubmed-small", str(FOLDER)])
def test_from_pretrained_accepts_the_name_of_the_checkpoint_file(name):
    hub = PyramidionModel.from_pretrained(name, "model.pt")
    assert hub.generation_settings == json.loads((FOLDER / "generation.json").read_text("utf-8"))


def test_from_pretrained_accepts_data_name_or_path_as_in_fairseq(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub = PyramidionModel.from_pretrained("pubmed-small", checkpoint_file="model.pt", data_name_or_path=".")
    assert Path(hub.task.cfg.data) == FOLDER
    (tmp_path / "data").mkdir()
    with pytest.raises(PyramidionError, match=r"no dict\.source\.txt and dict\.target\.txt in \./data"):
        PyramidionModel.from_pretrained("pubmed-small", "model.pt", "./data")


def test_short_documents_have_short_summaries(hub, alone, caplog):
    """Check that summaries may be as short as their documents, without making others in the batch shorter."""
    caplog.set_level("INFO", "pyramidion_fairseq")
    long = texts()[0]
    short, found, empty = hub.summarize(["gene expression in mice .", long, "x"])
    assert len(short.tokens) < 200 and len(empty.tokens) < 200
    line = "summaries of documents with fewer than 200 tokens may be as short as they are"
    assert [record.message for record in caplog.records].count(line) == 1
    caplog.clear()
    assert found.tokens == alone[0].tokens and len(found.tokens) >= 199 and line not in alone[1]
    hub.summarize("x", min_len=3, max_len_b=9)
    assert line not in caplog.text


def test_options_of_a_call_override_those_of_the_model(hub):
    (summary,) = hub.summarize(texts()[0], max_len_b=20, min_len=5)
    assert len(summary.tokens) <= 20


def test_summarize_without_a_checkpoint_uses_the_default_model(tmp_path, capsys):
    document = tmp_path / "article.txt"
    document.write_text(texts()[0] + "\n", "utf-8")
    summarize.main([str(document), "--max-len-b", "30", "--min-len", "5"])
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 and "no --checkpoint given: using pubmed-small" in err
    with pytest.raises(SystemExit, match=r"two inputs are given, a\.txt and --input b\.txt"):
        summarize.main(["a.txt", "--input", "b.txt"])


def test_torch_hub_loads_the_pretrained_model():
    """Check three ways of loading in one new process."""
    calls = [
        "hubconf.pubmed_small()",
        "torch.hub.load('.', 'pubmed_small', source='local')",
        "torch.hub.load('.', 'summarizer', 'pubmed-small', source='local', checkpoint_file='model.pt')",
    ]
    summarise = [f"print(len({call}.summarize('a gene .', max_len_b=9, min_len=2)))" for call in calls]
    code = "; ".join(["import hubconf, torch", *summarise])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "1"]


@pytest.mark.parametrize(
    "content, line",
    [
        ("[1]", "must contain a JSON object"),
        ('{"beam": 0}', "sets 'beam' to 0; it may set beam (1 to 100)"),
        ('{"beam": true}', "sets 'beam' to True"),
        ('{"beam": 2.0}', "sets 'beam' to 2.0"),
        ('{"beam": 1000000000}', "sets 'beam' to 1000000000"),
        ('{"lm_path": "/etc/passwd"}', "sets 'lm_path' to '/etc/passwd'"),
        ("{", "cannot be read: JSONDecodeError"),
    ],
)
def test_invalid_generation_settings_are_refused(tmp_path, content, line):
    (tmp_path / "generation.json").write_text(content, "utf-8")
    with pytest.raises(PyramidionError) as error:
        pretrained.generation_settings(str(tmp_path))
    assert line in str(error.value) and "\n" not in str(error.value)


def test_generation_settings_are_read(tmp_path):
    assert pretrained.generation_settings(str(tmp_path)) == {}
    (tmp_path / "generation.json").write_text('{"beam": 3, "lenpen": 2}', "utf-8")
    assert pretrained.generation_settings(str(tmp_path)) == {"beam": 3, "lenpen": 2}


def test_setup_puts_the_pretrained_models_into_the_wheel():
    assert '"pyramidion_fairseq.pretrained": ["*/*"]' in (ROOT / "setup.py").read_text("utf-8")
    assert Path(pyramidion_fairseq.__file__).parent / "pretrained" / "pubmed_small" == FOLDER
