"""``pyramidion-serve`` in a process of its own: start, signals, and one line for what is wrong."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from pyramidion_fairseq.cli import serve as command
from pyramidion_fairseq.errors import PyramidionError
from tests.conftest import ROOT
from tests.serve.conftest import Client, until
from tests.summaries import article

COMMAND = (sys.executable, "-m", "pyramidion_fairseq.cli.serve")


@pytest.fixture
def start(trained_folder):
    """Factory: a running server as (process, Client, its log so far)."""
    processes = []

    def run(*options):
        process = subprocess.Popen(
            [*COMMAND, "--checkpoint", str(trained_folder), "--port", "0", "--device", "cpu", *options],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        processes.append(process)
        log = []
        for line in process.stderr:
            log.append(line)
            found = re.search(r"serving at http://[^ ]*:(\d+);", line)
            if found:
                return process, Client(int(found.group(1))), log
        pytest.fail("".join(log))

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_a_signal(start, number):
    process, client, log = start("--max-len-b", "12")
    assert client.json({"text": article(8)})[0] == 200
    assert "other computers" not in "".join(log)
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait(30) == 0 and "Traceback" not in rest
    with pytest.raises(ConnectionError):
        client("GET", "/health")


def test_what_runs_is_finished_first(start):
    process, client, _ = start("--max-len-b", "23", "--min-len", "23", "--beam", "16")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.json({"text": article(8)})))
    thread.start()
    until(lambda: '"running": 1' in client("GET", "/health")[2] or answers)
    process.send_signal(signal.SIGTERM)
    thread.join()
    assert answers[0][0] == 200 and process.wait(30) == 0


def test_other_computers_are_told_of(start):
    _, client, log = start("--host", "0.0.0.0", "--allow-host", "box.example")  # noqa: S104 - on purpose
    assert "can be reached from other computers" in "".join(log)
    assert client("GET", "/health", Host="box.example")[0] == 200
    assert client("GET", "/health", Host="evil.example")[0] == 421


@pytest.mark.parametrize(
    "options, reason",
    [
        (["--checkpoint", "missing.pt"], "there is no checkpoint missing.pt"),
        (["--port", "99999"], "cannot listen at 127.0.0.1, port 99999"),
        (["--host", "no.such.host.invalid"], "cannot listen at no.such.host.invalid"),
        (["--max-mb", "nan"], "--max-mb must be at least 0.001, got nan"),
        (["--queue", "-1"], "--queue must be at least 0, got -1"),
        (["--timeout", "0"], "--timeout must be at least 1, got 0.0"),
    ],
)
def test_mistakes_get_one_line(options, reason):
    done = subprocess.run(
        [*COMMAND, "--checkpoint", "x.pt", "--port", "0", *options], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"pyramidion-serve: error: {reason}")


def test_a_taken_port_is_told_before_loading():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(
        PyramidionError, match="choose another --port"
    ):
        command._listen("127.0.0.1", taken.getsockname()[1])


def test_without_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyramidion_fairseq.serve.app", None)
    monkeypatch.delitem(sys.modules, "pyramidion_fairseq.serve.app")
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(
        SystemExit, match=r'starlette.applications is not installed: pip install "pyramidion_fairseq\[serve'
    ):
        command.main(["--checkpoint", "x.pt"])
