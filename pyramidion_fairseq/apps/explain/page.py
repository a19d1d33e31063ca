"""Explanations as one HTML file that needs nothing else: no network, no server, no other file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any, Sequence

from .types import Explanation
from .unsupported import KINDS

ASSETS = Path(__file__).parent / "assets"
STYLES = ("base.css", "page.css", "print.css")
SCRIPTS = (
    "common.js",
    "saving.js",
    "figures.js",
    "document.js",
    "summary.js",
    "beside.js",
    "ranking.js",
    "describing.js",
    "lighting.js",
    "search.js",
    "main.js",
)
#: Words that the model did not read are listed up to this number; the page tells how many more there are.
UNREAD_LISTED = 2_000
#: Links of a page that a server sends.
HOME = (
    '<span class="server"> · <a id="edit" href="{home}?edit">edit this document</a>'
    ' · <a href="{home}">another document</a></span>'
)
#: What JSON leaves as it is and HTML or older JavaScript do not.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
#: Characters that are not seen and change the direction of those around them: a page shows U+FFFD in their places.
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"


def render(explanation: Explanation, home: str | None = None) -> str:
    """Return a page that shows an explanation; see :func:`render_many`."""
    return render_many([explanation], home)


def render_beside(explanations: Sequence[Explanation]) -> str:
    """Return a page that shows summaries of one document side by side, with the sources of one at a time.

    Args:
        explanations: of several models, or of one that keeps different numbers of vectors; at least two.

    Raises:
        ValueError: there are fewer, they are of different documents, or as of :func:`render_many`.
    """
    if len(explanations) < 2:
        raise ValueError("side by side are at least two explanations")
    texts = [explanation.document.words for explanation in explanations]
    read = min(map(len, texts))  # words beyond what a model reads are listed up to a limit
    if any(words[:read] != texts[0][:read] for words in texts):
        raise ValueError("side by side are explanations of the same document")
    return _page(explanations, explanations[0].title or "Untitled document", "", models=True)


def render_many(explanations: Sequence[Explanation], home: str | None = None) -> str:
    """Return a page that shows explanations, one at a time, with a choice of documents where there are several.

    The documents are data in it: nothing that they contain is run or loaded, by escaping, by how the page's script
    shows text, and by a content security policy that allows that one script and nothing else.

    Args:
        explanations: at least one.
        home: a link for "another document", for pages that a server sends.

    Raises:
        ValueError: there is none, or an explanation contradicts itself: numbers that do not match its words, a weight
            that is negative or no finite number.
    """
    if not explanations:
        raise ValueError("a page needs at least one explanation")
    titles = [explanation.title for explanation in explanations]
    title = (titles[0] or "Untitled document") if len(titles) == 1 else f"{len(titles)} documents"
    return _page(explanations, title, HOME.format(home=escape(home)) if home else "", models=False)


def _page(explanations: Sequence[Explanation], title: str, home: str, models: bool) -> str:
    """Return the page; ``models`` tells whether the explanations are of one document, by several models."""
    return fill(
        "page.html",
        policy=report_policy(),
        title=escape(f"{title} · summary with its sources"),
        style=read_assets(*STYLES),
        script=read_script(),
        home=home,
        models=str(models).lower(),
        data=to_script_data([_payload(explanation) for explanation in explanations]),
    )


def report_policy() -> str:
    """Return the content security policy of every report; it is in the page itself, for servers to send as well."""
    return content_policy(read_script(), read_assets(*STYLES))


def content_policy(script: str, style: str, form_action: str = "'none'") -> str:
    """Return a content security policy for a page with this inline script and style, and nothing from anywhere.

    ``require-trusted-types-for`` makes the browser refuse every way from text to markup, such as ``innerHTML``.
    """
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; base-uri 'none'; "
        f"form-action {form_action}; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def to_script_data(value: Any) -> str:
    """Return JSON that is safe inside a ``<script>`` element, lone surrogates included; raises ValueError on NaN.

    Characters that change the direction of text are U+FFFD in it.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = re.sub(f"[{_DIRECTIONS}]", "\ufffd", text)
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode("utf-8")


def escape(text: str) -> str:
    """Return text for HTML, in element or attribute.

    What no HTML file can hold, or changes directions, becomes U+FFFD.
    """
    return html.escape(re.sub(f"[\x00-\x08\x0b\x0e-\x1f\ud800-\udfff{_DIRECTIONS}]", "\ufffd", text))


def fill(template: str, **parts: str) -> str:
    """Return a file of ``assets/`` with its ``{{names}}`` replaced, once each.

    What is put in is not searched again.
    """
    return re.sub(r"{{(\w+)}}", lambda match: parts[match.group(1)], read_assets(template))


@cache
def read_assets(*names: str) -> str:
    """Return files of ``assets/``, joined."""
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names)


@cache
def read_script() -> str:
    """Return the page's script: one scope for all of its files."""
    return f'(() => {{\n"use strict";\n{read_assets(*SCRIPTS)}\n}})();\n'


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _payload(explanation: Explanation) -> dict[str, Any]:
    """Return what the page's script reads.

    The explanation with shorter numbers and without most of what was not read.
    """
    _check(explanation)
    data = explanation.to_dict()
    unlisted = max(0, explanation.truncated - UNREAD_LISTED)
    document, size = data["document"], len(explanation.document.words) - unlisted
    document["words"], document["space_after"] = document["words"][:size], document["space_after"][:size]
    document["sentences"] = [[start, min(end, size)] for start, end in document["sentences"] if start < size]
    for stage in data["stages"]:
        stage["weights"] = _shorten(stage["weights"][:size])
    summary = data["summary"]
    summary["copied"] = _shorten(summary["copied"])
    for row in (*summary["sources"], *summary["places"]):
        row[:] = [[word, weight] for (word, _), weight in zip(row, _shorten([weight for _, weight in row]))]
    data["ranking"] = [rank for rank in data["ranking"] if rank["sentence"] < len(document["sentences"])]
    return {**data, "truncated": explanation.truncated - unlisted, "unlisted": unlisted}


def _shorten(weights: Sequence[float]) -> list[float]:
    """Return four significant digits: no shade and no printed number needs more, and the page is a third smaller."""
    return [float(f"{weight:.4g}") for weight in weights]


def _check(explanation: Explanation) -> None:
    words, summary = len(explanation.document.words), explanation.summary
    spans = [*explanation.document.sentences, *((part.start, part.end) for part in explanation.document.sections)]
    weights = [weight for stage in explanation.stages for weight in stage.weights]
    weights += [weight for row in (*summary.sources, *summary.places) for _, weight in row]
    weights += [*summary.copied]
    weights += [rank.weight for rank in explanation.ranking]
    problems = {
        "document.space_after": len(explanation.document.space_after) == words,
        "document.sentences or sections": all(0 <= start <= end <= words for start, end in spans),
        "stages.weights": all(len(stage.weights) == words for stage in explanation.stages),
        "a weight that is negative or not finite": all(math.isfinite(weight) and weight >= 0 for weight in weights),
        "summary.space_after": len(summary.space_after) == len(summary.words),
        "summary.sources": len(summary.sources) == len(summary.words)
        and all(0 <= word < words for row in summary.sources for word, _ in row),
        "summary.copied or places": len(summary.copied) == len(summary.places) in (0, len(summary.words))
        and all(0 <= word < words for row in summary.places for word, _ in row),
        "summary.unsupported": len(summary.unsupported) in (0, len(summary.words))
        and set(summary.unsupported) <= set(KINDS),
        "ranking": all(0 <= rank.sentence < len(explanation.document.sentences) for rank in explanation.ranking),
        "truncated": 0 <= explanation.truncated <= words,
    }
    wrong = [name for name, holds in problems.items() if not holds]
    if wrong:
        raise ValueError(f"the explanation does not fit its {words} words: {', '.join(wrong)}")
