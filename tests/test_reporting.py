"""What a run of the tests says at its end: what was skipped and how to have it, and then the result."""

import os
import re
import subprocess
import sys

from tests.helpers import forked, needs
from tests.helpers.paths import ROOT

BROWSER = "tests/apps/serve/test_in_browser.py"


def run(*tests, **environment):
    """(exit status, lines written) of a run of some tests, on a machine without a browser."""
    hidden = {"PATH": "/nowhere", "CHROMIUM": "", "PYRAMIDION_REQUIRE": "", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    env = {**os.environ, **hidden, **environment}
    done = forked.run_command(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout.splitlines()


def test_what_was_skipped_is_a_line_for_each_reason_and_the_result_is_the_last_line():
    skipped_without_a_gpu = "tests/test_no_waiting.py::test_a_real_gpu_does_not_wait"
    status, lines = run("tests/test_registry.py", BROWSER, skipped_without_a_gpu)
    assert status == 0
    result = re.fullmatch(r"\d+ passed, (\d+) skipped(, \d+ warnings)? in .*s", lines[-1])
    assert result, lines
    skipped = dict(re.findall(r"^skipped (\d+): (.*)$", "\n".join(lines), re.M))
    assert sum(map(int, skipped)) == int(result[1])
    gpu, browser = sorted(skipped.values())
    assert gpu == "needs a GPU, some of them two: make gpu on a machine with them"
    assert browser.startswith("needs a browser, and there is no Chromium: apt-get install chromium")


def test_what_is_required_fails_where_it_is_missing():
    script = "tests/scoring/test_rouge.py::test_the_script_itself_gives_the_recorded_numbers"
    status, lines = run(BROWSER, script, PYRAMIDION_REQUIRE="browser, rouge155")
    assert status == 1
    assert "skipped" not in lines[-1] and not any(line.startswith("skipped") for line in lines)
    text = "\n".join(lines)
    assert "PYRAMIDION_REQUIRE has browser: needs a browser, and there is no Chromium: apt-get install" in text
    assert "PYRAMIDION_REQUIRE has rouge155: needs ROUGE-1.5.5" in text


def test_a_requirement_that_no_test_knows_is_refused():
    status, lines = run("tests/test_registry.py", PYRAMIDION_REQUIRE="browser,rouge")
    assert status == 4
    assert [line for line in lines if line] == ["ERROR: PYRAMIDION_REQUIRE has rouge; it can have browser, rouge155"]


def test_ci_requires_everything_that_can_be_required():
    (names,) = re.findall(rf"^export {needs.VARIABLE}=(\S+)$", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.M)
    assert names.split(",") == list(needs.NAMES)
