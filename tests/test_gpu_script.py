"""Tests of ``make gpu``: it runs all steps, whether earlier ones fail or not, and none twice."""

import importlib
import importlib.util
import os
import re
import sys
import time
import zipfile
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
def test_failed_step_does_not_stop_the_others_and_done_steps_are_kept(script, tmp_path, monkeypatch, caplog):
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


def test_every_step_is_an_existing_benchmark_or_test(script, monkeypatch, tmp_path):
    """Check that benchmarks exist and accept their options, and that files of tests exist."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import measure

    class ParsedError(Exception):
        pass

    def parse(arguments):
        arguments.parse_args()
        raise ParsedError

    monkeypatch.setattr(measure, "parse", parse)
    benchmarks = [step.arguments for step in script.STEPS.values() if step.arguments[0] != "-m"]
    assert len(benchmarks) > 10
    for first, *options in benchmarks:
        monkeypatch.setattr(sys, "argv", [first, *(option.format(output=tmp_path) for option in options)])
        with pytest.raises(ParsedError):
            importlib.import_module(Path(first).stem).main()
    assert all((ROOT / path).is_file() for path in script.TESTS)


def test_gpu_tests_do_not_share_a_process_with_forked_training(script):
    """Check it because after a backward pass on a GPU autograd refuses to work in forked processes, also on CPUs."""
    for path in script.TESTS:
        text = (ROOT / path).read_text(encoding="utf-8")
        forks = re.search(r"helpers\.(forked|ranks)\b", text) is not None
        arguments = script.STEPS[Path(path).stem].arguments
        assert forks == ("-k" in arguments), path
        if forks:
            (tests,) = re.findall(r"^@pytest\.mark\.skipif\(torch\.cuda.*\n(?:@.*\n)*def (\w+)", text, re.M)
            assert arguments[-1] in tests and len(re.findall(rf"def test_\w*{arguments[-1]}", text)) == 1


def test_children_of_a_stopped_step_are_ended(script, tmp_path, monkeypatch):
    """Check it because they would keep the GPU's memory."""
    code = "import subprocess; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    code += f"; pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid)); time.sleep(60)"
    monkeypatch.setattr(script, "STEPS", {"hangs": script.Step(*python(code, minutes=0.05))})
    assert script.main(["--output", str(tmp_path / "results")]) == 1
    child = Path("/proc") / (tmp_path / "pid").read_text()
    for _ in range(100):
        if not child.exists() or "zombie" in (child / "status").read_text():
            return
        time.sleep(0.05)
    pytest.fail("the child goes on")


def test_steps_are_in_order_of_importance_and_stop_at_the_time_limit(script, tmp_path, monkeypatch, caplog):
    order = list(script.STEPS)
    first = [Path(path).stem for path in script.TESTS]
    assert order[: len(first)] == first
    rest = ["operator", "training-bf16", "generation", "training-tf32", "training-float32", "memory", "peers"]
    assert order[len(first) :][: len(rest)] == rest
    caplog.set_level("INFO")
    code = "print('measured')"
    steps = {"first": python(code), "second": python("time.sleep(60)", minutes=5), "third": python(code)}
    monkeypatch.setattr(script, "STEPS", {name: script.Step(*step) for name, step in steps.items()})
    assert script.main(["--output", str(tmp_path), "--minutes", "0.05"]) == 1
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("first: done") and said[1].startswith("second: FAILED: stopped after 0.0")
    assert said[2].startswith("third: not begun: no time is left")
    assert sorted(path.name for path in tmp_path.glob("*.log")) == ["first.log", "second.failed.log"]


def wheel(folder, name):
    """Write a wheel with one module of that name."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "said = 'from the wheel'\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


def test_steps_run_with_packages_from_a_folder_of_wheels(script, tmp_path, monkeypatch, caplog, capsys):
    """Check also that nothing is installed into this Python, and that broken wheels are refused."""
    caplog.set_level("INFO")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("PYTHONUNBUFFERED", "0")
    built, call = [], script.call

    def without_compiling(command, log, *minutes):
        built.append(command[1]) if command[1] == "setup.py" else call(command, log, *minutes)

    monkeypatch.setattr(script, "call", without_compiling)
    code = "from importlib.util import find_spec as find; import of_a_wheel"
    code += "; print(of_a_wheel.said, find('pyramidion_fairseq').origin, all(map(find, ('fairseq', 'torch'))))"
    monkeypatch.setattr(script, "STEPS", {"imports": script.Step(*python(code))})
    wheels, results = tmp_path / "wheels", tmp_path / "results"
    wheels.mkdir()
    with pytest.raises(SystemExit):
        script.main(["--wheels", str(wheels), "--output", str(results)])
    assert f"--wheels {wheels}: there are no wheels" in capsys.readouterr().err and not results.exists()
    wheel(wheels, "of_a_wheel")
    assert script.main(["--wheels", str(wheels), "--output", str(results)]) == 0, caplog.text
    said = (results / "imports.log").read_text().splitlines()[-1]
    assert said == f"from the wheel {ROOT / 'pyramidion_fairseq' / '__init__.py'} True"
    assert built == ["setup.py"] and os.environ["PYTHONPATH"].endswith(f"{os.pathsep}/somewhere")
    with pytest.raises(ImportError):
        importlib.import_module("of_a_wheel")

    (wheels / "broken-1.0-py3-none-any.whl").write_text("no wheel")
    with pytest.raises(SystemExit):
        script.main(["--wheels", str(wheels), "--output", str(tmp_path / "others")])
    assert "broken" in capsys.readouterr().err


def test_missing_gpu_and_unknown_step_are_reported(script, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        script.main(["--output", str(tmp_path / "results")])
    assert stopped.value.code == 2 and "no GPU is there" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
    with pytest.raises(SystemExit):
        script.main(["everything"])
    assert "no such step: everything" in capsys.readouterr().err
