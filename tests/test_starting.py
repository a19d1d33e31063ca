"""Tests of what console commands import, so that they start quickly, run as by the installed script."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.summaries import article, write_model

#: {name: (module, function)} of the scripts that setup.py installs.
SCRIPTS = {
    name: (module, function)
    for name, module, function in re.findall(r'"(pyramidion-\w+)=([\w.]+):(\w+)"', (ROOT / "setup.py").read_text())
}
#: Packages that take more than a tenth of a second to import.
HEAVY = {"torch", "fairseq", "transformers", "hydra", "omegaconf", "scipy", "matplotlib", "sentencepiece", "starlette"}
END = "; sys.stdout.flush(); sys.stderr.write(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"


def start(name, *arguments, then="", **environment):
    """Run a command to its end; return the finished process and the names of the packages that it imported."""
    module, function = SCRIPTS[name]
    code = (
        f"import json, sys; sys.argv = {[name, *map(str, arguments)]!r}\nfrom {module} import {function} as main\n"
        f"try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n{then}\n0{END}"
    )
    env = dict(os.environ, PYTHONPATH=str(ROOT), CUDA_VISIBLE_DEVICES="", **environment)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done, set(json.loads(done.stderr.splitlines()[-1][done.stderr.splitlines()[-1].index('["') :]))


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_imports_no_slow_package(name):
    done, imported = start(name, "--help")
    assert done.stdout.startswith(f"usage: {name} ") and "argparse" in imported
    assert not imported & HEAVY


@pytest.mark.parametrize("kind", ["published", "bart", "huggingface"])
def test_help_of_convert_subcommands_imports_no_slow_package(kind):
    done, imported = start("pyramidion-convert", kind, "--help")
    assert done.stdout.startswith(f"usage: pyramidion-convert {kind} ") and not imported & (HEAVY | {"numpy"})


def test_every_command_module_has_an_installed_script():
    assert {name.partition("-")[2] for name in SCRIPTS} == {
        path.stem for path in (ROOT / "pyramidion_fairseq" / "cli").glob("*.py")
    } - {"__init__", "common", "roberta"}  # roberta is a part of pyramidion-convert


def test_rouge_and_summaries_work_without_fairseq_and_torch(tmp_path):
    (tmp_path / "a").write_text("the decoder reads\n" * 3)
    (tmp_path / "log").write_text("".join(f"S-{n}\ta\nH-{n}\t-1\tb\nD-{n}\t-1\tthe decoder\n" for n in range(3)))
    _, imported = start("pyramidion-summaries", tmp_path / "log", "--output", tmp_path / "b")
    assert not imported & (HEAVY | {"numpy"}) and (tmp_path / "b").read_text() == "the decoder\n" * 3
    done, imported = start("pyramidion-rouge", tmp_path / "a", tmp_path / "b", "--samples", 10, "--workers", 1)
    assert "80.00" in done.stdout  # 2 of 2 and 2 of 3 words
    assert not imported & {"torch", "fairseq"}


def test_summarize_script_registers_everything_and_loads_safely(tmp_path):
    """Summarise as the installed script does, and check safe loading and all public names."""
    checkpoint = write_model(tmp_path)
    (tmp_path / "in").write_text(article(3) + "\n")
    then = (
        "import pyramidion_fairseq, fairseq.models as m, fairseq.tasks as t\n"
        "assert all(getattr(pyramidion_fairseq, name) for name in pyramidion_fairseq.__all__)\n"
        "assert 'deeppyramidion' in m.ARCH_MODEL_REGISTRY and 'long_document_summarization' in t.TASK_REGISTRY\n"
        "from fairseq import checkpoint_utils; assert type(checkpoint_utils.torch).__name__ == '_SafeTorch'"
    )
    files = ["--checkpoint", checkpoint, "--input", tmp_path / "in", "--output", tmp_path / "out", "--max-len-b", 6]
    _, imported = start("pyramidion-summarize", *files, "--min-len", 3, "--device", "cpu", then=then)
    assert {"torch", "fairseq"} <= imported and len((tmp_path / "out").read_text().splitlines()) == 1


def test_load_summarizer_from_python_registers_and_loads_safely(tmp_path):
    """Check that after the import of the console commands nothing is registered until it is needed."""
    code = (
        "import pyramidion_commands, sys\n"
        "from pyramidion_fairseq.inference.loading import load_summarizer\n"
        "assert 'pyramidion_fairseq.registered' not in sys.modules\n"
        "from pyramidion_fairseq.errors import PyramidionError\n"
        "try: load_summarizer('missing.pt')\nexcept PyramidionError: pass\n"
        "from fairseq import checkpoint_utils; assert type(checkpoint_utils.torch).__name__ == '_SafeTorch'\n"
        "from pyramidion_fairseq import PyramidionModel; assert PyramidionModel.load_summarizer is load_summarizer"
    )
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unsupported_version_ends_a_command_in_one_line(tmp_path):
    code = (
        "import importlib.metadata as m, sys; m.version = lambda name: '0.1'\n"
        "sys.argv = ['pyramidion-convert', 'published', 'a', 'b']\n"
        "from pyramidion_commands import convert; convert()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "pyramidion-convert: error: pyramidion_fairseq needs torch>=2.6, but torch 0.1 is installed: "
        "pip install 'torch>=2.6'\n"
    )
