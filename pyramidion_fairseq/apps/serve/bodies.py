"""Read the bodies of requests, with limits on size and time, and parse them."""

from __future__ import annotations

import asyncio
from email.message import Message
from typing import Any, Callable
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from ...text import Document
from .documents import load_json, parse_documents, parse_record, read_text
from .limits import Limits, Refusal
from .options import NAMES, read_options

#: A body that is too large is still read up to this many times the limit, so that the client receives the answer.
DRAINED = 4
MULTIPART = "multipart/form-data"
FORMS = (MULTIPART, "application/x-www-form-urlencoded")
#: Maximum fields of a form; it may have one file.
FIELDS = 8
#: Accepted names of the encoding; ASCII is a subset of UTF-8.
UTF8 = ("utf-8", "utf8", "us-ascii", "ascii")


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the whole body of a request.

    Raises:
        Refusal: the body is too large or takes too long.
        ClientDisconnect: the client disconnected.
    """
    try:
        return await asyncio.wait_for(_collect(request, limits.body_bytes), limits.upload_seconds)
    except asyncio.TimeoutError:
        raise Refusal(
            408, "slow", f"The request did not arrive within {limits.upload_seconds:g} s: try again."
        ) from None


async def read_form(request: Request, limits: Limits) -> tuple[list[Document], dict[str, int]]:
    """Return the documents and options of a form.

    The form has a field ``text`` and a file ``file``, which takes precedence. The text fields are stored in
    ``request.state.fields``, so that they can be shown again if the form is refused.

    Raises:
        Refusal: the request is not such a form, or has no document or invalid options.
    """
    if _kind(request) not in FORMS:
        raise Refusal(415, "no-form", "Send a form to this address; programs should send JSON to /api/summarize.")
    if _charset(request) not in UTF8:
        raise Refusal(415, "unknown-type", "Send the form in UTF-8.")
    body = await read_body(request, limits)
    try:
        form = await run_in_threadpool(_parse_form, request, body, limits)
    except (HTTPException, MultiPartException, ValueError, KeyError, ClientDisconnect):
        raise Refusal(
            400, "malformed", f"The form is malformed, or has more than one file or more than {FIELDS} fields."
        ) from None
    try:
        _refuse_twice(form)
        request.state.fields = {name: value for name, value in form.items() if isinstance(value, str)}
        options = read_options(request.state.fields, limits)
        file, text = form.get("file"), form.get("text")
        content = await file.read() if isinstance(file, UploadFile) else b""
        if content:
            text = await run_in_threadpool(read_text, content, "the file")
        return await run_in_threadpool(parse_documents, text if isinstance(text, str) else "", limits), options
    finally:
        await form.close()


async def read_record(request: Request, limits: Limits) -> tuple[Document, dict[str, int]]:
    """Return the document and options of a JSON object, or the document of a plain text.

    Raises:
        Refusal: the body is neither of them, or has no document or invalid options.
    """
    kind = _kind(request)
    if kind not in ("application/json", "text/plain") or _charset(request) not in UTF8:
        raise Refusal(415, "unknown-type", "Send application/json, or text/plain in UTF-8.")
    body = await read_body(request, limits)
    text = await run_in_threadpool(read_text, body, "the request's body")
    if kind == "text/plain":
        return await run_in_threadpool(parse_record, {"text": text}, limits), {}
    try:
        record = await run_in_threadpool(load_json, text)
    except ValueError:
        raise Refusal(400, "not-json", 'The request is not JSON; expected: {"text": "..."}.') from None
    document = await run_in_threadpool(parse_record, record, limits)
    return document, read_options(record, limits)


async def _collect(request: Request, most: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= most:
            chunks.append(chunk)
        else:
            chunks.clear()
        if size > DRAINED * most:
            break
    if size > most:
        raise Refusal(413, "too-large", f"The request is larger than {most / 2**20:.3g} MB: send less at a time.")
    return b"".join(chunks)


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _charset(request: Request) -> str:
    """Return the encoding that the request declares; UTF-8 by default."""
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    return message.get_content_charset() or "utf-8"


def _parse_form(request: Request, body: bytes, limits: Limits) -> FormData:
    """Parse a form; called in a thread and with its own event loop, so that the server stays responsive.

    Texts are UTF-8, even if they are not percent-encoded; invalid bytes become U+FFFD.
    """
    if _kind(request) != MULTIPART:
        text = body.decode("utf-8", errors="replace")
        pairs: list[tuple[str, str | UploadFile]] = []
        pairs.extend(parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS))
        return FormData(pairs)

    async def parse() -> FormData:
        # Starlette decodes a text with an invalid byte as Latin-1. So let it decode all as Latin-1, which is lossless.
        kind = request.headers["content-type"].encode("latin-1") + b"; charset=latin-1"
        again = Request({**request.scope, "headers": [(b"content-type", kind)]}, _replay(body))
        form = await again.form(max_files=1, max_fields=FIELDS, max_part_size=limits.body_bytes)
        return FormData([(name, _from_latin1(value)) for name, value in form.multi_items()])

    return asyncio.run(parse())


def _from_latin1(value: str | UploadFile) -> str | UploadFile:
    return value.encode("latin-1").decode("utf-8", errors="replace") if isinstance(value, str) else value


def _refuse_twice(form: FormData) -> None:
    """Raise Refusal if a field occurs more than once, as its value is ambiguous."""
    for name in ("text", "file", *NAMES):
        if len(form.getlist(name)) > 1:
            raise Refusal(422, "twice", f"The form has the field {name} more than once: send it once.")


def _replay(body: bytes) -> Callable[[], Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
