"""Tests of the ``pyramidion-serve`` command: start, shutdown by a signal, and errors in one line."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from pyramidion_fairseq.apps.serve.engine import ModelEngine
from pyramidion_fairseq.cli import serve as command
from pyramidion_fairseq.errors import PyramidionError
from tests.helpers import forked
from tests.helpers.paths import ROOT
from tests.helpers.servers import Client, until
from tests.helpers.summaries import article

COMMAND = (sys.executable, "-m", "pyramidion_fairseq.cli.serve")
PATIENCE = 240  # seconds that a process may take on a busy machine


class Running:
    """A process of the server, with its log so far and a client of it."""

    def __init__(self, *options):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = forked.Popen(
            [*COMMAND, "--port", "0", "--device", "cpu", *options],
            cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.log = []
        self.reader = threading.Thread(target=lambda: self.log.extend(iter(self.process.stderr.readline, "")))
        self.reader.start()
        until(lambda: self.process.poll() is not None or self.port(), PATIENCE)
        assert self.port(), "".join(self.log)
        self.client = Client(int(self.port().group(1)))

    def port(self):
        return re.search(r"^INFO \| serving at http://[^ ]*:(\d+) ", "".join(self.log), re.MULTILINE)

    def ends_well(self):
        """Return whether the process ends by itself with status 0 and without a traceback."""
        status = self.process.wait(PATIENCE)
        self.reader.join()
        return status == 0 and "Traceback" not in "".join(self.log)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stderr.close()


@pytest.fixture
def start(trained_folder):
    """Return a function that starts a server with the given options."""
    servers = []

    def run(*options):
        servers.append(Running("--checkpoint", str(trained_folder), *options))
        return servers[-1]

    yield run
    for server in servers:
        server.close()


def is_closed(server):
    """Return whether a server takes no more connections."""
    try:
        server.client("GET", "/health")
    except ConnectionError:
        return True
    return False


def test_sigterm_stops_the_server_after_the_running_request(start, monkeypatch, tmp_path):
    begun, may_end, summarise = tmp_path / "begun", tmp_path / "may_end", ModelEngine.__call__

    def hold(*args, **generation):
        begun.touch()
        until(may_end.exists, PATIENCE)
        return summarise(*args, **generation)

    monkeypatch.setattr(ModelEngine, "__call__", hold)  # also in the server, which is forked from this process
    server, answers = start(), []
    thread = threading.Thread(
        target=lambda: answers.append(server.client.json({"text": article(8)}, timeout=PATIENCE))
    )
    thread.start()
    until(begun.exists, PATIENCE)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: is_closed(server), PATIENCE)
    assert not answers
    may_end.touch()
    thread.join()
    assert answers[0][0] == 200 and server.ends_well()
    assert "other computers" not in "".join(server.log)


def test_public_host_logs_a_warning_and_checks_the_host_header(start):
    server = start("--host", "0.0.0.0", "--allow-host", "box.example")  # noqa: S104 - on purpose
    assert server.client("GET", "/health", Host="box.example")[0] == 200
    assert server.client("GET", "/health", Host="evil.example")[0] == 421
    assert "WARNING | other computers may connect to 0.0.0.0" in "".join(server.log)
    server.process.send_signal(signal.SIGINT)
    assert server.ends_well()


@pytest.mark.parametrize(
    "options, reason",
    [
        (["--checkpoint", "missing.pt"], "there is no checkpoint missing.pt"),
        (["--port", "99999"], "cannot listen on 127.0.0.1, port 99999"),
        (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        (["--host", "a..b"], "cannot listen on a..b, port 0: invalid host name"),
        (["--max-mb", "inf"], "--max-mb must be at most 1,048,576, got inf"),
        (
            ["--allow-host", "http://box.example"],
            "--allow-host must be a host name such as box.example, without http://",
        ),
        (["--allow-host", "box.example", "--allow-host", "box.example:8080"], "--allow-host must be a host name"),
        (["--allow-host", "*.example"], "--allow-host must be a host name such as box.example"),
        (["--max-mb", "nan"], "--max-mb must be at least 0.001, got nan"),
        (["--queue", "-1"], "--queue must be at least 0, got -1"),
        (["--timeout", "0"], "--timeout must be at least 1, got 0.0"),
    ],
)
def test_invalid_arguments_are_one_line_errors(options, reason):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--checkpoint", "x.pt", "--port", "0", *options])
    assert stopped.value.code.startswith(f"pyramidion-serve: error: {reason}") and "\n" not in stopped.value.code


def test_invalid_argument_prints_nothing_but_the_error_line():
    """Check that neither messages of imported packages nor anything on standard output is printed."""
    done = subprocess.run(
        [*COMMAND, "--checkpoint", "x.pt", "--queue", "-1"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pyramidion-serve: error: --queue must be at least 0, got -1\n"


def test_port_in_use_is_refused():
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(PyramidionError, match="choose another --port"),
    ):
        command._listen("127.0.0.1", taken.getsockname()[1])


def test_missing_serve_extra_names_the_pip_command(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyramidion_fairseq.apps.serve.app", None)
    monkeypatch.delitem(sys.modules, "pyramidion_fairseq.apps.serve.app")
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(
        SystemExit, match=r'starlette.applications is not installed: pip install "pyramidion_fairseq\[serve'
    ):
        command.main(["--checkpoint", "x.pt"])
