"""``make gpu``: one step after the other, whatever becomes of them; none twice."""

import importlib.util
from pathlib import Path

import pytest
import torch

from tests.helpers.paths import ROOT


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    spec = importlib.util.spec_from_file_location("gpu_script", ROOT / "scripts" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return module


def python(code: str, minutes: float = 1):
    return [["-c", f"import sys, time, pathlib; {code}"], minutes]


@pytest.mark.paper("hours")
def test_a_step_that_fails_holds_up_no_other(script, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    steps = {
        "fails": python("print('first'); sys.exit('no such thing')"),
        "hangs": python("time.sleep(60)", minutes=0.005),
        "works": python("pathlib.Path(sys.argv[1], 'x.json').write_text('1'); print('measured')"),
    }
    monkeypatch.setattr(script, "STEPS", {name: script.Step(*step) for name, step in steps.items()})
    script.STEPS["works"].arguments.append("{output}")
    assert script.main(["--output", str(tmp_path)]) == 1
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("fails: FAILED: no such thing (") and "stopped after 0.005 minutes" in said[1]
    assert said[2].startswith("works: done")
    assert (tmp_path / "works" / "x.json").exists() and (tmp_path / "works.log").read_text() == "measured\n"
    assert sorted(path.name for path in tmp_path.glob("*.log")) == [
        "fails.failed.log",
        "hangs.failed.log",
        "works.log",
    ]

    caplog.clear()
    assert script.main(["works", "--output", str(tmp_path)]) == 0
    assert caplog.records[0].getMessage() == "works: done before"


def test_every_step_is_a_command_that_there_is(script):
    """Benchmarks take their options; tests are where they are said to be."""
    for name, step in script.STEPS.items():
        first = Path(step.arguments[0])
        if first.name == "-m":
            continue
        assert (ROOT / first).is_file(), name
    assert all((ROOT / path).is_file() for path in script.TESTS)


def test_without_a_gpu_one_line_says_so(script, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        script.main(["--output", str(tmp_path / "results")])
    assert stopped.value.code == 2 and "no GPU is there" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
    with pytest.raises(SystemExit):
        script.main(["everything"])
    assert "no such step: everything" in capsys.readouterr().err
