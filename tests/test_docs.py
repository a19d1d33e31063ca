"""Tests of the documentation: generated pages are up to date, links exist, and documented commands work."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

from pyramidion_fairseq import __version__
from tests.helpers import forked
from tests.helpers.commands import parse
from tests.helpers.paths import ROOT


def run(folder, *words):
    """Run a new Python with the package of this folder; return its exit status and output."""
    env = dict(os.environ, PYTHONPATH=str(folder), OMP_NUM_THREADS="1")
    done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("script", ["write_options", "write_api", "write_patches"])
def test_generated_pages_are_up_to_date(script):
    words = [sys.executable, f"scripts/{script}.py", "--check"]
    done = forked.run_command(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


def test_python_reference_shows_signatures_fields_and_errors():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    pooling = page[page.index("### successive_halving_topk") : page.index("### hard_topk")]
    assert "    base: float | None = 20.0,\n" in pooling and "* `ValueError`: shapes do not match" in pooling
    assert "* `slot_of_token: Tensor`: (B, n) int64, the slot of each input token" in pooling
    assert not re.findall(r":\w+:`|(?<!`)``(?!`)|\*Arguments\*\n\n(?!\*)", page)


def test_only_the_scores_page_sets_the_length_of_the_lead_baseline():
    """Check that other pages and scripts use the default, the length of the references."""
    files = [*ROOT.glob("examples/**/*.*"), *ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "Makefile"]
    texts = {path.name: path.read_text("utf-8") for path in files if path.suffix in (".sh", ".py", ".md", "")}
    assert [name for name, text in texts.items() if "--lead-words" in text] == ["scores.md"]
    assert '--lead "$text/test.source")' in texts["demo.sh"] and "--lead" in texts["README.md"]


PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "preprocess/*.md", "examples/*.md", "examples/*/*.md")
    for path in ROOT.glob(pattern)
)


def anchors(page):
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"\]\(.*?\)", "", text)).lower().replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if "://" not in link and (not target.exists() or (anchor and anchor not in anchors(target))):
            wrong.append(link)
    assert not wrong


def test_docs_index_lists_every_page():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages - set(re.findall(r"\]\(([\w-]+\.md)\)", index)) == set()


#: Pages that name other files: of fairseq, of a prepared corpus, or one that the reader writes.
FOREIGN = ("docs/security.md", "docs/reliability.md", "docs/adding-a-scorer.md", "preprocess/", "examples/bart_long/")


@pytest.mark.parametrize(
    "page",
    [path for path in PAGES if not str(path.relative_to(ROOT)).startswith(FOREIGN)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_files_named_in_pages_exist(page):
    """Check that every name in code with .py, .cpp, .sh or a slash at its end is the end of a repository's path."""
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/.*-])\w[\w/.-]*(?:\.py|\.cpp|\.sh|/)(?![\w.*])", " ".join(code(text))))
    named -= set(re.findall(r"^`([\w/.]+)`:\n\n```python", text, re.M))  # files that the reader writes
    folders = ("pyramidion_fairseq", "preprocess", "examples", "benchmarks", "scripts", "tests", "docs")
    paths = [path for folder in folders for path in (ROOT / folder, *(ROOT / folder).rglob("*"))]
    ends = {f"/{path.relative_to(ROOT)}" + "/" * path.is_dir() for path in (*ROOT.glob("*.*"), *paths)}
    assert page.name != "architecture.md" or len(named) >= 60
    assert not [path for path in sorted(named) if not any(end.endswith(f"/{path}") for end in ends)]


def code(text):
    """Return the text in backticks, and the tree of README.md."""
    return re.findall(r"```text\n(.*?)```", text, re.S) + re.findall(
        r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S)
    )


def commands(page):
    """Yield the words of each command line in a page's blocks for bash, without redirections."""
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if not line.startswith(("fairseq-", "pyramidion-", "python ")) or " ..." in line:
                continue
            words = shlex.split(line, comments=True)
            yield words[: words.index(">")] if ">" in words else words


@pytest.mark.parametrize(
    "name, least",
    [
        ("README.md", 7),
        ("docs/training.md", 5),
        ("docs/checkpoints.md", 3),
        ("docs/classification.md", 5),
        ("docs/explaining.md", 5),
        ("docs/scores.md", 3),
    ],
)
def test_documented_commands_are_parsed(name, least, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    found = [words for words in commands(ROOT / name) if parse(words)]
    assert len(found) >= least, capsys.readouterr().err


def test_readme_training_command_is_the_one_that_prepare_prints(monkeypatch):
    monkeypatch.chdir(ROOT)
    expected = importlib.import_module("pyramidion_fairseq.cli.prepare").training_command("data/mine")
    (found,) = [words for words in commands(ROOT / "README.md") if words[0] == "fairseq-train"]
    assert found == [word for word in expected if word != "--disable-validation"]  # prepare adds it without a corpus


def test_citation_file_and_readme_agree_and_name_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # fields that the format requires
    assert citation["version"] == __version__ == re.search(r'version = "(.+?)"', readme)[1]
    paper = citation["preferred-citation"]
    assert (paper["title"], paper["doi"]) == tuple(
        re.search(rf'{key} = "(.+?)"', readme)[1] for key in ("title", "doi")
    )
    assert f'pages = "{paper["start"]}--{paper["end"]}"' in readme
    assert f'publisher = "{paper["publisher"]["name"]}"' in readme and f'year = "{paper["year"]}"' in readme


def test_readme_is_short_and_names_trained_weights_early():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200
    assert any("Trained weights" in line for line in lines[:15])


CHANGES = """
import importlib, logging, sys, warnings
warnings.simplefilter("ignore")
logging.basicConfig(level=logging.CRITICAL)
for name in ("checkpoint_utils", "trainer", "options", "tasks.translation", "distributed.utils", "ngram_repeat_block",
             "models.distributed_fairseq_model", "scoring", "sequence_generator", "hub_utils", "file_io"):
    importlib.import_module(f"fairseq.{name}")
import fairseq_cli.train, fairseq_cli.generate, hydra.core.utils

def attributes():
    found = {}
    for name, module in list(sys.modules.items()):
        if module is None or name != getattr(module, "__name__", None):
            continue
        if not name.startswith(("fairseq", "hydra", "omegaconf", "torch")) or name.startswith("torch._dynamo"):
            continue
        for key, value in list(vars(module).items()):
            found[f"{name}.{key}"] = value
            if isinstance(value, type) and value.__module__ == name:
                found.update({f"{name}.{key}.{inner}": part for inner, part in list(vars(value).items())})
    return found

before = attributes()
sys.argv[0] = "fairseq-train"
import pyramidion_fairseq
after = attributes()
simple = (int, str, type(None))
for name, value in before.items():
    if name in after and after[name] is not value and not isinstance(value, simple) and "__" not in name:
        print(name)
    if name.endswith(("__init__", "__getattr__")) and after[name] is not value:
        print(name)
"""


def test_table_of_attributes_changed_by_the_import_is_complete():
    code_, output = run(ROOT, "-c", CHANGES)
    assert code_ == 0, output
    changed = set(re.findall(r"^(?:fairseq|hydra|torch|omegaconf)[\w.]+$", output, re.M))
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page[page.index("## What importing the package changes") : page.index("Beside these attributes")]
    assert len(changed) >= 15
    assert changed == set(re.findall(r"^\| `([\w.]+)` \|", table, re.M))


STEPS = """
import runpy, sys
import pytest
from fairseq_cli.train import cli_main
from pyramidion_fairseq import complexity, scorers

print(scorers.__file__)
print(complexity.count(complexity.build_on_meta(sys.argv[1]), 16384, 128))
write_options = lambda: runpy.run_path("scripts/write_options.py", run_name="__main__")
chosen, *steps = sys.argv[2:]
for words, main in zip(steps, (cli_main, write_options)):
    sys.argv = words.split()
    try:
        main()
    except Exception as error:
        print(error)
sys.exit(pytest.main(["-p", "no:cacheprovider", "-rp", "tests/contracts", "-k", chosen]))
"""


def test_documented_steps_add_working_variants(tmp_path):
    """Follow CONTRIBUTING.md and docs/adding-a-scorer.md in one process, as imports take seconds."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = re.findall(r"^`(pyramidion_fairseq/[\w/]+\.py)`:\n\n```python\n(.*?)```", page, re.S | re.M)
    names = re.findall(r'register\("(\w+)"\)', page)
    assert [path.rpartition("/")[2] for path, _ in files] == [f"{name}.py" for name in names]
    (entry,) = re.findall(r"```python\n(    \".*?)```", page, re.S)
    arch = re.search(r'"(\w+)": Architecture', entry).group(1)

    page = (ROOT / "docs" / "adding-a-scorer.md").read_text(encoding="utf-8")
    (file,) = re.findall(r"Write `(pyramidion_fairseq/scorers/\w+\.py)`", page)
    (source,) = re.findall(r"```python\n(.*?)```", page, re.S)
    contract, train, renew, own = (
        command.replace("\\\n", " ").split() for command in re.findall(r"```bash\n(.*?)\n```", page, re.S)
    )
    assert contract == ["python", "-m", "pytest", "tests/contracts", "-k", "magnitude"]
    assert train[0] == "fairseq-train" and train[-2:] == ["--scorer", "magnitude"]
    assert renew == ["python", "scripts/write_options.py"]
    # tests/test_user_dir.py tests a user's own package
    assert own[: len(train)] == ["my_plugin" if word == "pyramidion_fairseq" else word for word in train]

    for name in ("pyramidion_fairseq", "tests", "scripts", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path, text in [*files, (file, source)]:
        (tmp_path / path).write_text(text, encoding="utf-8")
    table = tmp_path / "pyramidion_fairseq" / "models" / "architectures.py"
    begin = "ARCHITECTURES: dict[str, Architecture] = {\n"
    table.write_text(table.read_text(encoding="utf-8").replace(begin, begin + entry), encoding="utf-8")

    chosen = " or ".join([*names, "magnitude"])
    status, output = run(tmp_path, "-c", STEPS, arch, chosen, " ".join(train), " ".join(renew[1:]))
    assert status == 0 and str(tmp_path / "pyramidion_fairseq") in output and "Cost(" in output, output
    passed = [line for line in output.splitlines() if line.startswith("PASSED")]
    assert sum("magnitude" in line for line in passed) >= 8 and len(passed) >= 20, output
    assert "there is no data folder 'data-bin'" in output  # the scorer is known, only data is missing
    options = (tmp_path / "docs" / "options.md").read_text(encoding="utf-8")
    assert "| `magnitude` | S(e) = mean absolute value of e" in options
