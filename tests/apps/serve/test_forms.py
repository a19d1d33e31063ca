"""Tests of forms as programs send them: encodings, line ends, and repeated fields."""

import json

import pytest

from tests.helpers.pages import Structure, data_of

PART = 'Content-Disposition: form-data; name="text"\r\n'
CODED = "application/x-www-form-urlencoded"


def multipart(*parts):
    """Return the body of a form with these parts and the boundary x."""
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"


def notice(answer):
    (found,) = [text for _, attributes, text in Structure(answer[2]).elements if attributes.get("class") == "notice"]
    return found


@pytest.mark.parametrize(
    "kind, body",
    [
        (CODED, "text=Caf\u00e9+\u5b57".encode()),
        (CODED, b"text=Caf%C3%A9%20%E5%AD%97"),
        ("multipart/form-data; boundary=x", multipart((PART + "\r\nCaf\u00e9 \u5b57").encode())),
        ("multipart/form-data; charset=UTF-8; boundary=x", multipart((PART + "\r\nCaf\u00e9 \u5b57").encode())),
    ],
)
def test_form_fields_are_decoded_as_utf8(serve, kind, body):
    status, _, page = serve()("POST", "/", body, Content_Type=kind)
    assert status == 200 and data_of(page)[0]["document"]["words"] == ["Caf\u00e9", "\u5b57"]


@pytest.mark.parametrize(
    "kind, start, end", [(CODED, b"text=", b""), ("multipart/form-data; boundary=x", b"", b"\r\n--x--\r\n")]
)
def test_invalid_byte_is_replaced_and_changes_no_other(serve, kind, start, end):
    start = start or b"--x\r\n" + PART.encode() + b"\r\n"
    status, _, page = serve()("POST", "/", start + "Caf\u00e9 and".encode() + b" \xff" + end, Content_Type=kind)
    assert status == 200 and data_of(page)[0]["document"]["words"] == ["Caf\u00e9", "and", "\ufffd"]


@pytest.mark.parametrize("charset", ["punycode", "utf-7", "latin-1", "hex"])
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", CODED])
def test_form_with_a_charset_other_than_utf8_is_refused(serve, engine, kind, charset):
    """Check that other charsets get status 415: some of Python's decoders need hours for a body within the limit."""
    answer = serve()("POST", "/", b"text=a", Content_Type=f"{kind}; charset={charset}")
    assert answer[0] == 415 and notice(answer) == "Send the form in UTF-8." and engine.events == []


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["\u2028", "\x85"])
def test_json_lines_are_split_at_cr_and_lf_only(serve, mark, end):
    """Check that other line separators stay in the text; splitting at them would cut an object in two."""
    first, second = ({"text": f"{word}{mark}more"} for word in ("one", "two"))
    text = "".join(json.dumps(record, ensure_ascii=False) + end for record in (first, second))
    status, _, page = serve().form("", text.encode())
    assert status == 200
    assert [data["document"]["words"] for data in data_of(page)] == [["one", "more"], ["two", "more"]]


def test_repeated_fields_and_files_are_refused(serve, engine):
    """Check that no document is left out silently."""
    client = serve()
    for name, form in [("text", "text=first&text=second"), ("beam", "text=a&beam=1&beam=2")]:
        answer = client("POST", "/", form, Content_Type=CODED)
        assert answer[0] == 422 and notice(answer) == f"The form has the field {name} more than once: send it once."
    files = [b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\nwords'] * 2
    answer = client("POST", "/", multipart(*files), Content_Type="multipart/form-data; boundary=x")
    assert answer[0] == 400 and "more than one file" in notice(answer)
    assert engine.events == []
