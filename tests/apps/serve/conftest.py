"""Fixtures that start the server in a thread, with an engine that needs no model."""

import socket
import threading
import time

import pytest

pytest.importorskip("uvicorn", reason='needs pip install "pyramidion_fairseq[serve]"')
pytest.importorskip("starlette", reason='needs pip install "pyramidion_fairseq[serve]"')
pytest.importorskip("python_multipart", reason='needs pip install "pyramidion_fairseq[serve]"')

from pyramidion_fairseq.apps.serve.app import build_app  # noqa: E402
from pyramidion_fairseq.apps.serve.limits import Limits  # noqa: E402
from pyramidion_fairseq.apps.serve.protocol import PatientServer  # noqa: E402
from pyramidion_fairseq.cli.serve import configure  # noqa: E402
from tests.helpers.hub import summarizers, trained_folder  # noqa: E402, F401 -- fixtures
from tests.helpers.samples import explain_text  # noqa: E402
from tests.helpers.servers import Client, until  # noqa: E402


class FakeEngine:
    """Return an explanation at once, or behave as the document's first word says; record the events."""

    def __init__(self):
        self.events = []
        self.release = threading.Event()

    def __call__(self, document, stop, **generation):
        self.generation = generation
        text = " ".join(document.sentences)
        self.events.append("start")
        if text.startswith("crash"):
            raise RuntimeError("secret internals")
        if text.startswith("stubborn"):
            self.release.wait(60)
        if text.startswith("wait"):
            while not self.release.is_set():
                try:
                    stop()
                except BaseException:
                    self.events.append("stopped")
                    raise
                time.sleep(0.005)
        self.events.append("end")
        return explain_text(text, "the decoder reads", title=document.title)

    def wait_for(self, event, times=1):
        """Wait until an event was recorded that many times."""
        until(lambda: self.events.count(event) >= times)


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def serve(engine):
    """Return a function that starts a server with the given limits and returns a Client of it."""
    running = []

    def start(hosts=(), using=engine, **limits):
        listener = socket.create_server(("127.0.0.1", 0))
        server = PatientServer(configure(build_app(using, Limits(**limits), "test model", 512, hosts)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread))
        until(lambda: server.started)
        client = Client(listener.getsockname()[1])
        client.server = server
        return client

    yield start
    engine.release.set()
    for server, thread in running:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
