"""Send requests to a server in a thread of the test."""

import http.client
import json
import socket
import time
import uuid

GOOD = "Pooling keeps the best tokens. The decoder reads what is left of them."


def until(condition, seconds=60):
    """Wait for a condition; fail if it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


class Client:
    """A client of a server; answers are (status, headers, body)."""

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
        """Send bytes as they are and return what comes back until the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            try:
                connection.sendall(data)
                received = b""
                while read and (more := connection.recv(65536)):
                    received += more
                return received
            except ConnectionError:
                return received if read else b""
