"""Answers: pages for people, JSON for programs; the same refusals for both."""

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
    """Return the form for a document.

    Args:
        model: its name.
        tokens: of a document that the model reads.
        limits: what the server takes.
        refusal: why the form that was sent is not served.
        fields: what was in that form; a file is not in it.
    """
    reads = f" It reads {tokens:,} tokens of a document; the report shows where it stopped." if tokens else ""
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
    """Return an answer to a request that is not served: JSON below ``/api`` and for ``/health``, a page elsewhere."""
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
    """Return JSON in ASCII, which holds whatever a document contains."""
    return Response(json.dumps(value, allow_nan=False) + "\n", status, media_type="application/json")


def _headers(refusal: Refusal) -> dict[str, str]:
    headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else {}
    if refusal.status in (408, 413):  # the rest of the request may still be on its way
        headers["Connection"] = "close"
    return headers


def _page(text: str, status: int, policy: str) -> Response:
    return HTMLResponse(text, status, {"Content-Security-Policy": f"{policy}; frame-ancestors 'none'"})
