"""Responses of the server: HTML pages for browsers, JSON for programs, and refusals for both."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any, Mapping, Sequence

from starlette.responses import HTMLResponse, Response

from ..explain.page import content_policy, escape, fill, read_assets, render_many, report_policy
from ..explain.types import Explanation
from .limits import Limits, Refusal
from .options import NAMES

FORM_STYLE = ("base.css", "form.css")


def report(explanations: Sequence[Explanation]) -> Response:
    """Return the page of explained summaries."""
    return _page(render_many(explanations, home="/"), 200, report_policy())


def form(
    model: str,
    tokens: int | None,
    limits: Limits,
    refusal: Refusal | None = None,
    fields: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    """Return the page with the form for a document.

    Args:
        model: name of the model.
        tokens: maximum tokens of a document that the model reads.
        limits: limits of the server.
        refusal: the reason if a sent form was refused.
        fields: text fields of the refused form, to fill in again.
    """
    reads = f" It reads up to {tokens:,} tokens of a document; the report shows where it stopped." if tokens else ""
    script, style = read_assets("form.js"), read_assets(*FORM_STYLE)
    policy = content_policy(script, style, form_action="'self'")
    page = fill(
        "form.html",
        policy=policy,
        style=style,
        script=script,
        model=escape(model),
        reads=reads,
        words=f"{limits.words:,}",
        size=f"{limits.body_bytes / 2**20:.3g}",
        documents=str(limits.documents),
        notice=f'<p class="notice" role="alert">{escape(refusal.message)}</p>' if refusal else "",
        text=escape(fields.get("text", "")),
        most_beam=str(limits.beam),
        most_tokens=str(limits.summary_tokens),
        **{name: escape(fields.get(name, "")) for name in NAMES},
    )
    response = _page(page, refusal.status if refusal else 200, policy)
    response.headers.update(_headers(refusal) if refusal else {})
    return response


def refuse(refusal: Refusal, path: str) -> Response:
    """Return the response to a refused request: JSON below ``/api`` and for ``/health``, otherwise a page."""
    if path.startswith(("/api", "/health")):
        response = as_json({"error": {"code": refusal.code, "message": refusal.message}}, refusal.status)
    else:
        style = read_assets(*FORM_STYLE)
        policy = content_policy("", style)
        page = fill("refusal.html", policy=policy, style=style, message=escape(refusal.message))
        response = _page(page, refusal.status, policy)
    response.headers.update(_headers(refusal))
    return response


def as_json(value: Any, status: int = 200) -> Response:
    """Return a JSON response in ASCII, so that any character of a document can be sent."""
    return Response(json.dumps(value, allow_nan=False) + "\n", status, media_type="application/json")


def _headers(refusal: Refusal) -> dict[str, str]:
    headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else {}
    if refusal.status in (408, 413):  # the client may still be sending the request
        headers["Connection"] = "close"
    return headers


def _page(text: str, status: int, policy: str) -> Response:
    return HTMLResponse(text, status, {"Content-Security-Policy": f"{policy}; frame-ancestors 'none'"})
