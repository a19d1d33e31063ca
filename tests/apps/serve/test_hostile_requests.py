"""Tests of the server with 200 hostile requests in a row, followed by a valid one."""

import json
import random
import re
import socket
import struct

from pyramidion_fairseq.apps.serve.protocol import ImpatientProtocol
from tests.helpers.pages import HOSTILE
from tests.helpers.servers import GOOD

HOST = b"Host: 127.0.0.1\r\n"
API = b"POST /api/summarize HTTP/1.1\r\n" + HOST
JSON = b"Content-Type: application/json\r\n"
FORM = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Type: multipart/form-data; boundary=x\r\n"


def with_length(head, body):
    return head + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def raw_requests(draw):
    """Yield invalid or hostile requests without end."""
    noise = draw.randbytes
    while True:
        yield noise(draw.randrange(1, 5000)) + b"\r\n\r\n"
        yield b"\x16\x03\x01\x02\x00\x01" + noise(300)  # TLS
        yield b"GET / HTTP/9.9\r\nConnection: close\r\n\r\n"
        yield b"GET /\r\n\r\n"
        yield b"GET / HTTP/1.1\r\n\r\n"  # no host
        yield b"GET / HTTP/1.1\r\n" + HOST * 2 + b"\r\n"
        yield b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
        yield b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 20_000 + b"Connection: close\r\n\r\n"
        yield b"GET /../../etc/passwd HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
        yield b"GET /%00%ff%2e%2e/<script>?a=%zz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
        yield b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        yield b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
        yield b"WHATEVER /health HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
        yield b"GET / HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n"
        yield API + JSON + b"Content-Length: -5\r\n\r\n{}"
        yield API + JSON + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"
        yield API + JSON + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}"
        yield with_length(API + JSON, noise(draw.randrange(3000)))
        yield with_length(API + JSON, b"[" * 50_000)
        yield with_length(API + JSON, b'{"text": "' + b"\xff" * 3000 + b'"}')
        yield with_length(API + JSON, json.dumps({"text": [HOSTILE, None]}).encode())
        yield with_length(API + JSON, b'{"text": "' + b"word " * 300_000 + b'"}')
        yield with_length(API + b"Content-Type: application/xml\r\n", b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///'>]>")
        yield with_length(API + b"Content-Type: \xff\xfe\r\n", b"{}")
        yield with_length(API + JSON + b"Content-Encoding: gzip\r\n", b"\x1f\x8b" + noise(100))
        yield with_length(FORM, noise(2000))
        yield with_length(FORM, b"--x\r\n" * 3000)
        yield with_length(FORM, b"--x\r\nContent-Disposition: form-data; name=text\r\n\r\n" + b"y" * 1000)  # no end
        yield with_length(FORM, b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 99 + b"--x--\r\n")
        yield with_length(FORM, b"--x\r\nX: " + b"z" * 50_000 + b"\r\n\r\n\r\n--x--\r\n")
        yield with_length(FORM.replace(b"; boundary=x", b""), b"--x--")
        yield with_length(FORM.replace(b"=x", b"=" + b"x" * 3000), b"--x--")
        yield with_length(
            FORM.replace(b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded"), b"&=%%"
        )
        yield with_length(FORM + b"Origin: http://evil.example\r\n", b"--x--")
        yield with_length(API + JSON, b'{"text": "crash"}')


def leave_early(client, draw):
    """Announce a body, send part of it and close the connection, half of the time with a reset."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        if draw.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(API + JSON + b"Content-Length: 1000000\r\n\r\n" + draw.randbytes(draw.randrange(2000)))


def test_server_survives_200_hostile_requests_and_answers_a_valid_one(serve, monkeypatch):
    monkeypatch.setattr(ImpatientProtocol, "head_seconds", 0.3)
    draw = random.Random(0)
    client = serve(body_bytes=1_000_000, words=10_000, upload_seconds=0.5)
    requests = raw_requests(draw)
    statuses = []
    for number in range(200):
        if number % 8 == 7:
            leave_early(client, draw)
            continue
        answer = client.raw(next(requests))
        assert b"Traceback" not in answer and b"secret" not in answer
        status = re.match(rb"HTTP/1\.1 (\d+) ", answer)
        if status:
            statuses.append(int(status.group(1)))
    assert len(statuses) == 175 and set(statuses) == {200, 400, 403, 404, 405, 408, 413, 415, 421, 422, 500}
    status, answer = client.json({"text": GOOD})
    assert status == 200 and answer["explanation"]["document"]["words"] == GOOD.split()
    assert json.loads(client("GET", "/health")[2])["waiting"] == 0
