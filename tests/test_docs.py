"""The documentation is kept by tests: written pages are fresh, links lead somewhere, pages work as they say."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def run(folder, *command):
    env = dict(os.environ, PYTHONPATH=str(folder), OMP_NUM_THREADS="1")  # the package in this folder, not another
    done = subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("script", ["write_options", "write_api"])
def test_written_pages_are_fresh(script):
    code, output = run(ROOT, f"scripts/{script}.py", "--check")
    assert code == 0, output


def test_python_reference_shows_signatures_fields_and_errors():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    pooling = page[page.index("### successive_halving_topk") : page.index("### hard_topk")]
    assert "    base: float | None = 20.0,\n" in pooling and "* `ValueError`: shapes do not fit" in pooling
    assert "* `slots: Tensor`: (B, n) int64, the slot that every input token went to" in pooling
    assert not re.findall(r":\w+:`|(?<!`)``(?!`)|\*Arguments\*\n\n(?!\*)", page)


def test_adding_a_scorer_works_as_written(tmp_path):
    page = (ROOT / "docs" / "adding-a-scorer.md").read_text(encoding="utf-8")
    (file,) = re.findall(r"Write `(pyramidion_fairseq/scorers/\w+\.py)`", page)
    (source,) = re.findall(r"```python\n(.*?)```", page, re.S)
    commands = [command.replace("\\\n", " ").split() for command in re.findall(r"```bash\n(.*?)\n```", page, re.S)]
    for name in ("pyramidion_fairseq", "tests", "scripts", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "preprocess"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    code, output = run(tmp_path, "scripts/write_options.py", "--check")
    assert code == 0, output  # the copy is used, and nothing has changed yet
    (tmp_path / file).write_text(source, encoding="utf-8")
    contract, train, renew = commands
    assert contract[:3] == ["python", "-m", "pytest"]
    code, output = run(tmp_path, "-m", "pytest", *contract[3:])
    assert code == 0 and int(re.search(r"(\d+) passed", output).group(1)) >= 8, output

    assert train[0] == "fairseq-train" and train[-2:] == ["--scorer", "magnitude"]
    code, output = run(tmp_path, "-m", "fairseq_cli.train", *train[1:])
    assert "there is no data folder 'data-bin'" in output  # it wants data, and knows the scorer
    code, output = run(tmp_path, *renew[1:])
    assert code == 0, output
    assert "| `magnitude` | S(e) = mean absolute value of e" in (tmp_path / "docs" / "options.md").read_text(
        encoding="utf-8"
    )
