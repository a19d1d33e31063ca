"""Tests of the end of a test run: reasons for skipped tests, how to install what is missing, and the result."""

import os
import re
import subprocess
import sys

from tests.helpers import forked, needs
from tests.helpers.paths import ROOT

BROWSER = "tests/apps/serve/test_in_browser.py"


def run(*tests, **environment):
    """Run some tests as on a machine without a browser; return the exit status and the printed lines."""
    hidden = {"PATH": "/nowhere", "CHROMIUM": "", "PYRAMIDION_REQUIRE": "", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    env = {**os.environ, **hidden, **environment}
    done = forked.run_command(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout.splitlines()


def test_run_ends_with_a_line_for_each_skip_reason_and_the_result():
    skipped_without_a_gpu = "tests/test_no_waiting.py::test_training_step_does_not_wait_for_a_real_gpu"
    status, lines = run("tests/test_registry.py", BROWSER, skipped_without_a_gpu)
    assert status == 0
    result = re.fullmatch(r"\d+ passed, (\d+) skipped(, \d+ warnings)? in .*s", lines[-1])
    assert result, lines
    skipped = dict(re.findall(r"^skipped (\d+): (.*)$", "\n".join(lines), re.M))
    assert sum(map(int, skipped)) == int(result[1])
    gpu, browser = sorted(skipped.values())
    assert gpu == "needs a GPU, some of them two: make gpu on a machine with them"
    assert browser.startswith("needs a browser, and there is no Chromium: apt-get install chromium")


def test_tests_without_what_pyramidion_require_names_fail():
    script = "tests/scoring/test_rouge.py::test_files2rouge_backend_gives_the_recorded_scores"
    status, lines = run(BROWSER, script, PYRAMIDION_REQUIRE="browser, rouge155")
    assert status == 1
    assert "skipped" not in lines[-1] and not any(line.startswith("skipped") for line in lines)
    text = "\n".join(lines)
    assert "PYRAMIDION_REQUIRE has browser: needs a browser, and there is no Chromium: apt-get install" in text
    assert "PYRAMIDION_REQUIRE has rouge155: needs ROUGE-1.5.5" in text


def test_unknown_name_in_pyramidion_require_is_refused():
    status, lines = run("tests/test_registry.py", PYRAMIDION_REQUIRE="browser,rouge")
    assert status == 4
    assert [line for line in lines if line] == ["ERROR: PYRAMIDION_REQUIRE has rouge; it can have browser, rouge155"]


def test_ci_requires_everything_that_pyramidion_require_can_name():
    (names,) = re.findall(rf"^export {needs.VARIABLE}=(\S+)$", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.M)
    assert names.split(",") == list(needs.NAMES)
