"""Tests of the server's answers: pages, JSON, refusals, timeouts, and clients that disconnect."""

import http.client
import json
import signal
import socket
import threading
import time

import pytest
from starlette.formparsers import MultiPartParser

from pyramidion_fairseq.apps.serve.protocol import ImpatientProtocol
from pyramidion_fairseq.text import Document
from tests.helpers.pages import HOSTILE, Structure, data_of
from tests.helpers.samples import explain_text
from tests.helpers.servers import GOOD, until

HEAD = (
    "POST /api/summarize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
)
ARXIV = {"article_id": "1234.5678", "article_text": ["first one .", "second one ."], "abstract_text": []}


def test_form_page_has_every_field_and_a_strict_policy(serve):
    status, headers, body = serve()("GET", "/")
    structure = Structure(body)
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    assert [attributes["name"] for tag, attributes, _ in structure.elements if "name" in attributes][2:] == [
        "text",
        "file",
        "min_len",
        "max_len_b",
        "beam",
    ]
    assert "test model" in body and "512 tokens" in body
    (policy,) = [a["content"] for _, a, _ in structure.all("meta") if a.get("http-equiv")]
    assert headers["content-security-policy"] == f"{policy}; frame-ancestors 'none'"
    assert "form-action 'self'" in policy and "default-src 'none'" in policy


def test_submitted_form_returns_the_report(serve):
    status, headers, body = serve().form(GOOD)
    (data,) = data_of(body)
    assert status == 200 and data["document"]["words"] == GOOD.split()
    assert ("a", {"href": "/"}) in [(tag, attributes) for tag, attributes, _ in Structure(body).elements]
    assert "script-src 'sha256-" in headers["content-security-policy"]


def test_urlencoded_form_without_a_file_is_accepted(serve):
    answer = serve()("POST", "/", "text=some+words", Content_Type="application/x-www-form-urlencoded")
    assert answer[0] == 200 and data_of(answer[2])[0]["document"]["words"] == ["some", "words"]


def test_uploads_of_text_json_lines_and_one_json_object_are_read(serve):
    client = serve()
    assert data_of(client.form("ignored", "\ufeffein Wört".encode())[2])[0]["document"]["words"] == ["ein", "Wört"]
    lines = f"{json.dumps(ARXIV)}\n\n{json.dumps({'text': 'another', 'title': 'B'})}\n"
    first, second = data_of(client.form("", lines.encode())[2])
    assert first["title"] == "1234.5678" and first["document"]["words"] == ["first", "one", ".", "second", "one", "."]
    assert second["title"] == "B" and second["document"]["words"] == ["another"]
    (pretty,) = data_of(client.form("", json.dumps(ARXIV, indent=2).encode())[2])
    assert pretty["title"] == "1234.5678"
    (code,) = data_of(client.form("{ this is } no JSON")[2])
    assert code["document"]["words"] == ["{", "this", "is", "}", "no", "JSON"]


def test_server_answers_while_a_large_form_is_parsed(serve, monkeypatch):
    stock, parsing, release, answers = MultiPartParser.parse, threading.Event(), threading.Event(), []

    async def slow(self):
        parsing.set()
        release.wait(20)
        return await stock(self)

    monkeypatch.setattr(MultiPartParser, "parse", slow)
    client = serve()
    thread = threading.Thread(target=lambda: answers.append(client.form("", b"word " * 800)))
    thread.start()
    assert parsing.wait(20)
    assert client("GET", "/health", timeout=10)[0] == 200 and not answers
    release.set()
    thread.join()
    assert answers[0][0] == 200 and len(data_of(answers[0][2])[0]["document"]["words"]) == 800


def test_api_returns_summary_score_and_explanation(serve):
    client = serve()
    expected = explain_text(GOOD, "the decoder reads", title="T")
    status, answer = client.json({"text": GOOD, "title": "T"})
    assert status == 200 and answer["summary"] == "the decoder reads" and answer["score"] == -1.25
    assert answer["explanation"] == json.loads(json.dumps(expected.to_dict()))
    status, _, body = client("POST", "/api/summarize", GOOD.encode(), Content_Type="text/plain; charset=utf-8")
    assert status == 200 and json.loads(body)["summary"] == "the decoder reads"
    assert client.json(ARXIV)[1]["explanation"]["title"] == "1234.5678"


@pytest.mark.parametrize("charset", ["latin-1", "ISO-8859-1", '"utf-16"', ""])
def test_api_refuses_charsets_other_than_utf8(serve, engine, charset):
    for kind in ("text/plain", "application/json"):
        stated = f"{kind}; charset={charset}" if charset else f"{kind}; charset"
        status, _, body = serve()("POST", "/api/summarize", b'{"text": "caf\xe9"}', Content_Type=stated)
        expected = (415, "unknown-type") if charset else (200, None)
        assert (status, json.loads(body).get("error", {}).get("code")) == expected
    for known in ("UTF-8", "utf8", '"utf-8"', "us-ascii"):
        kind = f"text/plain; format=flowed;charset={known}"
        assert serve()("POST", "/api/summarize", b"text", Content_Type=kind)[0] == 200


def test_health_counts_running_requests(serve, engine):
    client = serve()
    idle = {"status": "ok", "model": "test model", "running": 0, "waiting": 0}
    assert json.loads(client("GET", "/health")[2]) == idle
    thread = threading.Thread(target=client.json, args=({"text": "wait"},))
    thread.start()
    engine.wait_for("start")
    assert json.loads(client("GET", "/health")[2]) == {**idle, "running": 1}
    engine.release.set()
    thread.join()
    until(lambda: json.loads(client("GET", "/health")[2]) == idle)


@pytest.mark.parametrize(
    "value, status, code",
    [
        ("{", 400, "not-json"),
        ("", 400, "not-json"),
        ("[" * 19_000, 400, "not-json"),
        ('{"text": ' + "9" * 10_000 + "}", 400, "not-json"),
        ("[]", 422, "no-document"),
        ("null", 422, "no-document"),
        ("{}", 422, "no-document"),
        ('{"text": 7}', 422, "no-document"),
        ('{"text": ["a", 7]}', 422, "no-document"),
        ('{"text": "a", "text": "b"}', 422, "no-document"),
        ('{"text": ""}', 422, "empty"),
        ('{"text": " \\n\\u0000\\ud800"}', 422, "empty"),
        (b"%PDF-1.7 \x00\x01", 415, "not-text"),
        (bytes(range(256)) * 40, 415, "not-text"),
        ("text".encode("utf-16"), 415, "not-text"),
        ('{"text": "%s"}' % ("word " * 1001), 413, "too-long"),
        ('{"text": "%s"}' % ("\\u5b57" * 1001), 413, "too-long"),
        ('{"text": "%s"}' % ("x" * 30_000), 413, "too-large"),
        (b"x" * 3_000_000, 413, "too-large"),
    ],
)  # fmt: skip
def test_api_refuses_invalid_documents_with_a_code_and_a_message(serve, value, status, code):
    client = serve(words=1000, body_bytes=20_000)
    found, _, body = client("POST", "/api/summarize", value, Content_Type="application/json")
    error = json.loads(body)["error"]
    assert (found, error["code"]) == (status, code)
    assert error["message"].endswith(".") and "\n" not in error["message"] and len(error["message"]) < 300


@pytest.mark.parametrize(
    "text, file, status, reason",
    [
        ("", b"", 422, "no document"),
        (" \n ", b"", 422, "no document"),
        ("", b"%PDF-1.4", 415, "is not a text file"),
        ("", b"\xff\xfe\xfd" * 900, 415, "UTF-16"),
        ("", b"\xfd\xfc" * 900, 415, "is not UTF-8 text"),
        ('{"text": "a"}\nnonsense', b"", 422, "Line 2 is not JSON"),
        ('{"text": "a"}\n{"texts": "b"}', b"", 422, "Line 2: no field"),
        ('{"text": null}', b"", 422, "Line 1: field text is null"),
        ('{"text": "a", "text": "b"}', b"", 422, "Line 1: field text occurs more than once"),
        ('[{"text": "a"},\n {"text": "b"}]', b"", 422, "one JSON array: send one object per line"),
        ("", b"document,summary\na,b\n", 422, "a table (CSV or TSV): send each row as a JSON object on its own line"),
        ('{"text": "a"}\n' * 3, b"", 413, "There are more than 2 documents"),
        ("word " * 1001, b"", 413, "1,001 words"),
        ("", b"x" * 3_000_000, 413, "larger than 0.0191 MB"),
    ],
)  # fmt: skip
def test_form_refuses_invalid_documents_with_a_notice(serve, text, file, status, reason):
    found, headers, body = serve(words=1000, body_bytes=20_000, documents=2).form(text, file)
    assert found == status and headers["content-type"].startswith("text/html")
    (notice,) = [text for tag, attributes, text in Structure(body).elements if attributes.get("class") == "notice"]
    assert reason in notice and notice.endswith(".")


def test_markup_in_a_document_is_escaped(serve):
    shown = HOSTILE.replace("\ud800", "")
    status, _, body = serve().form(shown)
    assert status == 200 and len(Structure(body).all("script")) == 2 and not Structure(body).all("img")
    refused = serve(documents=1)("POST", "/", '{"<script>": 1}', Content_Type="application/x-www-form-urlencoded")
    own = Structure(serve()("GET", "/")[2]).all("script")
    assert refused[0] == 422 and Structure(refused[2]).all("script") == own
    page = serve().form('{"text": "a"}\n{"<script>x</script>": 1}')
    assert page[0] == 422 and Structure(page[2]).all("script") == own and "&lt;script&gt;" in page[2]
    assert "<script>x" not in page[2]


def test_every_answer_has_the_security_headers(serve):
    client = serve()
    answers = [client("GET", path) for path in ("/", "/health", "/nothing", "/api/nothing", "/health/")]
    answers += [client("POST", "/"), client("PUT", "/"), client("GET", "/", Host="evil.example"), client.form("crash")]
    assert [answer[0] for answer in answers] == [200, 200, 404, 404, 307, 415, 405, 421, 500]
    for _, headers, _ in answers:
        headers = {name.lower(): value for name, value in headers.items()}
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "same-origin" and "server" not in headers
        assert not any(name.startswith("access-control") for name in headers)


def test_wrong_method_gets_405_with_the_allowed_methods(serve):
    client = serve()
    for path, methods in [("/", "GET HEAD POST"), ("/api/summarize", "POST"), ("/health", "GET HEAD")]:
        status, headers, _ = client("PUT", path)
        assert status == 405 and sorted(headers["allow"].split(", ")) == methods.split(), path


def test_unknown_host_names_are_refused(serve):
    client = serve(hosts=["Box.example"])
    port = client.port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "[::1]:8080", "10.0.0.7", "box.EXAMPLE:80"):
        assert client("GET", "/health", Host=host)[0] == 200, host
    for host in ("evil.example", f"127.0.0.1.evil.example:{port}", "", "[::1", "localhost.evil.example"):
        status, _, body = client("GET", "/health", Host=host)
        assert (status, json.loads(body)["error"]["code"]) == (421, "unknown-host"), host


def test_posts_from_other_origins_are_refused(serve):
    client = serve()
    own = f"http://127.0.0.1:{client.port}"
    assert client.form(GOOD, Origin=own)[0] == 200
    assert client.form(GOOD, Origin=own, Sec_Fetch_Site="same-origin")[0] == 200
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://[bad"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ):
        assert client.form(GOOD, **headers)[0] == 403, headers


def test_error_of_the_model_is_logged_and_not_sent_to_the_client(serve, caplog):
    client = serve()
    status, _, body = client.form("crash")
    assert status == 500 and "secret" not in body and "Traceback" not in body
    until(lambda: "secret internals" in caplog.text)  # it is in the log
    assert client.json({"text": "crash"})[1]["error"]["code"] == "failed"
    assert client.form(GOOD)[0] == 200


def jobs(client):
    health = json.loads(client("GET", "/health")[2])
    return health["running"] + health["waiting"]


def test_requests_beyond_the_queue_get_503(serve, engine, recwarn):
    client = serve(waiting=1)
    answers = []
    threads = []
    for number in (1, 2):
        threads.append(threading.Thread(target=lambda: answers.append(client.json({"text": "wait"})[0])))
        threads[-1].start()
        until(lambda number=number: jobs(client) == number)
    status, headers, body = client("POST", "/api/summarize", '{"text": "a"}', Content_Type="application/json")
    assert (status, json.loads(body)["error"]["code"]) == (503, "busy") and int(headers["retry-after"]) >= 1
    assert client.form(GOOD)[0] == 503
    assert engine.events == ["start"]  # one at a time
    engine.release.set()
    for thread in threads:
        thread.join()
    assert answers == [200, 200]
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


def test_shutdown_answers_unfinished_requests_with_stopping(serve, engine, caplog):
    client = serve()
    client.server.config.timeout_graceful_shutdown = 0.1
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.json({"text": "wait"})[1]["error"]["code"])),
        threading.Thread(target=lambda: answers.append(client.form("wait")[0])),
    ]
    for number, thread in enumerate(threads, start=1):
        thread.start()
        until(lambda number=number: jobs(client) == number)
    client.server.should_exit = True
    for thread in threads:
        thread.join(30)
    assert answers.count("stopping") == answers.count(503) == 1
    assert not any(record.exc_info for record in caplog.records)
    engine.wait_for("stopped")


def test_repeated_sigint_lets_the_running_request_finish(serve, engine, caplog):
    client = serve()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.json({"text": "wait"})[0]))
    thread.start()
    engine.wait_for("start")
    for _ in range(3):
        client.server.handle_exit(signal.SIGINT, None)
    time.sleep(0.5)  # the server looks every tenth of a second
    engine.release.set()
    thread.join(30)
    assert answers == [200]
    assert not any(record.exc_info for record in caplog.records)


def test_request_over_the_time_limit_gets_503_and_stops_the_model(serve, engine):
    client = serve(seconds=0.2)
    status, answer = client.json({"text": "wait"})
    assert (status, answer["error"]["code"]) == (503, "timeout")
    engine.wait_for("stopped")
    assert client.json({"text": GOOD})[0] == 200


def test_timeout_message_names_the_limit_and_not_the_remaining_time(serve):
    body = b'{"text": "wait"}'
    with socket.create_connection(("127.0.0.1", serve(seconds=1.0).port), timeout=20) as connection:
        connection.sendall(HEAD.format(len(body)).encode())
        time.sleep(0.3)  # uses up part of the second before the document has arrived
        connection.sendall(body)
        answer = b""
        while b"}}" not in answer and (more := connection.recv(2000)):
            answer += more
    assert b'{"code": "timeout", "message": "The summary was not finished in 1 s: ' in answer


def test_request_that_times_out_in_the_queue_never_starts(serve, engine):
    client = serve(seconds=0.3, waiting=1)
    assert client.json({"text": "stubborn"})[0] == 503  # answered, although its thread still runs
    assert client.json({"text": "wait"})[0] == 503
    until(lambda: jobs(client) == 1)
    engine.release.set()
    until(lambda: jobs(client) == 0)
    assert client.json({"text": GOOD})[0] == 200
    assert engine.events == ["start", "end", "start", "end"]


def test_disconnect_of_the_client_stops_the_model(serve, engine):
    client = serve()
    body = b'{"text": "wait"}'
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(HEAD.format(len(body)).encode() + body)
        engine.wait_for("start")
    engine.wait_for("stopped")
    assert client.json({"text": GOOD})[0] == 200


def test_slow_request_body_gets_408(serve):
    client = serve(upload_seconds=0.2)
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        connection.sendall(HEAD.format(99).encode() + b"{")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert client.json({"text": GOOD})[0] == 200


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "])
def test_connection_with_a_slow_request_head_is_closed(serve, monkeypatch, start):
    monkeypatch.setattr(ImpatientProtocol, "head_seconds", 0.2)
    client = serve()
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        try:
            for _ in range(200):  # a byte from time to time does not keep the connection
                connection.sendall(start[:1])
                start = start[1:] or b"a"
                time.sleep(0.02)
            pytest.fail("the connection was kept")
        except ConnectionError:
            pass
    assert client.json({"text": GOOD})[0] == 200


def unread(port, body):
    """Return a connection on which a request was sent and whose answer is not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", port))
    connection.sendall(HEAD.format(len(body)).encode() + body)
    return connection


def test_clients_that_do_not_read_the_answer_are_disconnected(serve, monkeypatch):
    """Check that clients that do not read cannot occupy all connections."""
    monkeypatch.setattr(ImpatientProtocol, "write_seconds", 1.0)
    monkeypatch.setattr("pyramidion_fairseq.apps.serve.limits.CONNECTIONS", 2)
    client = serve()
    body = json.dumps({"text": ("w" * 63 + " ") * 75_000}).encode()  # its answer is larger than the system's buffers
    greedy = [unread(client.port, body) for _ in range(2)]
    until(lambda: client("GET", "/health")[0] == 503)
    until(lambda: client("GET", "/health")[0] == 200)
    assert client.json({"text": GOOD})[0] == 200
    for connection in greedy:
        connection.close()


def test_connection_is_closed_if_the_body_goes_on_after_an_early_answer(serve, monkeypatch):
    monkeypatch.setattr(ImpatientProtocol, "head_seconds", 0.3)
    head = HEAD.replace("application/json", "text/xml").format(10**6).encode()
    with socket.create_connection(("127.0.0.1", serve().port), timeout=20) as connection:
        connection.sendall(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 415 ")
        try:
            for _ in range(200):
                connection.sendall(b"a")
                time.sleep(0.02)
            pytest.fail("the connection was kept")
        except ConnectionError:
            pass


def test_long_titles_and_section_names_are_cut(serve):
    sections = {"sections": [[sentence] for sentence in ARXIV["article_text"]], "section_names": ["n" * 10_000] * 2}
    record = {**ARXIV, **sections, "title": "t\u202e" * 1_000_000}
    status, answer = serve().json(record)
    assert status == 200 and answer["explanation"]["title"] == "t " * 150 + " ..."
    document = Document.from_record(record)
    assert {name for name, _ in document.sections} == {"n" * 300 + " ..."}


def test_connection_without_a_request_is_closed(serve, monkeypatch):
    monkeypatch.setattr(ImpatientProtocol, "head_seconds", 0.2)
    with socket.create_connection(("127.0.0.1", serve().port), timeout=20) as connection:
        assert connection.recv(1) == b""


def test_connection_is_kept_alive_for_several_requests(serve, monkeypatch):
    monkeypatch.setattr(ImpatientProtocol, "head_seconds", 0.2)
    client = serve()
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    connection.connect()
    sock = connection.sock
    for _ in range(3):
        connection.request("GET", "/health")
        assert json.loads(connection.getresponse().read())["status"] == "ok" and connection.sock is sock
        time.sleep(0.3)  # longer than the limit for a head, but no head has started
    connection.close()
