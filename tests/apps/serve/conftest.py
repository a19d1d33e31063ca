"""The server in a thread of the test, around an engine that needs no model."""

import http.client
import json
import socket
import threading
import time
import uuid

import pytest

uvicorn = pytest.importorskip("uvicorn", reason='needs pip install "pyramidion_fairseq[serve]"')
pytest.importorskip("starlette", reason='needs pip install "pyramidion_fairseq[serve]"')
pytest.importorskip("python_multipart", reason='needs pip install "pyramidion_fairseq[serve]"')

from pyramidion_fairseq.apps.serve.app import build_app  # noqa: E402
from pyramidion_fairseq.apps.serve.limits import Limits  # noqa: E402
from pyramidion_fairseq.cli.serve import configure  # noqa: E402
from tests.apps.explain.conftest import summarizers, trained_folder  # noqa: E402, F401 -- fixtures
from tests.apps.explain.samples import explain_text  # noqa: E402

GOOD = "Pooling keeps the best tokens. The decoder reads what is left of them."


class FakeEngine:
    """Explains at once, or does as the document's first word says; notes what it did."""

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
        """Until something was noted that often."""
        until(lambda: self.events.count(event) >= times)


def until(condition, seconds=60):
    """Wait for a condition; fail where it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


class Client:
    """Requests to a server; answers as (status, headers, body)."""

    def __init__(self, port):
        self.port = port

    def __call__(self, method, path, body=None, timeout=60, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read().decode("utf-8")
        finally:
            connection.close()

    def json(self, value, **headers):
        status, _, body = self("POST", "/api/summarize", json.dumps(value), Content_Type="application/json", **headers)
        return status, json.loads(body)

    def form(self, text="", file=b"", **headers):
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="text"\r\n\r\n{text}\r\n'.encode(),
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'.encode(),
            file,
            f"\r\n--{boundary}--\r\n".encode(),
        ]
        return self("POST", "/", b"".join(parts), Content_Type=f"multipart/form-data; boundary={boundary}", **headers)

    def raw(self, data, timeout=60, read=True):
        """Send bytes as they are; what comes back until the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            try:
                connection.sendall(data)
                received = b""
                while read and (more := connection.recv(65536)):
                    received += more
                return received
            except ConnectionError:
                return received if read else b""


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def serve(engine):
    """Factory: serve(**limits) is a Client of a server with these limits."""
    running = []

    def start(hosts=(), using=engine, **limits):
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(configure(build_app(using, Limits(**limits), "test model", 512, hosts)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread))
        until(lambda: server.started)
        return Client(listener.getsockname()[1])

    yield start
    engine.release.set()
    for server, thread in running:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
