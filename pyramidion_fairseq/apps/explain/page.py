"""Render explanations as one self-contained HTML file, which needs no network, server or other file."""

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
#: Maximum number of unread words on the page, which shows how many more there are.
UNREAD_LISTED = 2_000
#: Links on a page that the server sends.
HOME = (
    '<span class="server"> · <a id="edit" href="{home}?edit">edit this document</a>'
    ' · <a href="{home}">another document</a></span>'
)
#: Escapes for characters that are valid in JSON but special in HTML or older JavaScript.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
#: Invisible characters that change the direction of text; a page shows U+FFFD instead.
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"


def render(explanation: Explanation, home: str | None = None) -> str:
    """Return the page of one explanation; see :func:`render_many`."""
    return render_many([explanation], home)


def render_beside(explanations: Sequence[Explanation]) -> str:
    """Return a page with several summaries of one document side by side, which shows the sources of one at a time.

    Args:
        explanations: at least two explanations, of several models or of one model with several schedules.

    Raises:
        ValueError: there are fewer than two, they are of different documents, or :func:`render_many` raises it.
    """
    if len(explanations) < 2:
        raise ValueError("render_beside needs at least two explanations")
    texts = [explanation.document.words for explanation in explanations]
    read = min(map(len, texts))  # the number of listed words differs between models
    if any(words[:read] != texts[0][:read] for words in texts):
        raise ValueError("render_beside needs explanations of the same document")
    return _page(explanations, explanations[0].title or "Untitled document", "", models=True)


def render_many(explanations: Sequence[Explanation], home: str | None = None) -> str:
    """Return a page that shows explanations one at a time, with a list to choose from if there are several.

    Documents cannot inject code: their text is escaped, the page's script inserts it only as text, and a content
    security policy allows only this script.

    Args:
        explanations: at least one explanation.
        home: link for "another document", for pages that a server sends.

    Raises:
        ValueError: there are no explanations, or one is inconsistent: its numbers do not match its words, or a weight
            is negative or not finite.
    """
    if not explanations:
        raise ValueError("a page needs at least one explanation")
    titles = [explanation.title for explanation in explanations]
    title = (titles[0] or "Untitled document") if len(titles) == 1 else f"{len(titles)} documents"
    return _page(explanations, title, HOME.format(home=escape(home)) if home else "", models=False)


def _page(explanations: Sequence[Explanation], title: str, home: str, models: bool) -> str:
    """Return the page; ``models`` is set if the explanations are of one document by several models."""
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
    """Return the content security policy of reports; the page contains it, and servers should send it as well."""
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
    """Return JSON that is safe inside a ``<script>`` element, even with lone surrogates; raise ValueError for NaN.

    Characters that change the direction of text are replaced by U+FFFD.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = re.sub(f"[{_DIRECTIONS}]", "\ufffd", text)
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode("utf-8")


def escape(text: str) -> str:
    """Escape text for an HTML element or attribute.

    Characters that are invalid in HTML or change the direction of text are replaced by U+FFFD.
    """
    return html.escape(re.sub(f"[\x00-\x08\x0b\x0e-\x1f\ud800-\udfff{_DIRECTIONS}]", "\ufffd", text))


def fill(template: str, **parts: str) -> str:
    """Return a file of ``assets/`` with its ``{{names}}`` replaced; the inserted parts are not searched again."""
    return re.sub(r"{{(\w+)}}", lambda match: parts[match.group(1)], read_assets(template))


@cache
def read_assets(*names: str) -> str:
    """Return the concatenated files of ``assets/``."""
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names)


@cache
def read_script() -> str:
    """Return the page's script, with all of its files in one scope."""
    return f'(() => {{\n"use strict";\n{read_assets(*SCRIPTS)}\n}})();\n'


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _payload(explanation: Explanation) -> dict[str, Any]:
    """Return the data for the page's script: the explanation with shorter numbers and fewer unread words."""
    _check_consistent(explanation)
    data = explanation.to_dict()
    unlisted = max(0, explanation.truncated - UNREAD_LISTED)
    document, size = data["document"], len(explanation.document.words) - unlisted
    document["words"], document["space_after"] = document["words"][:size], document["space_after"][:size]
    document["sentences"] = [[start, min(end, size)] for start, end in document["sentences"] if start < size]
    document["sections"] = [
        {**section, "end": min(section["end"], size)} for section in document["sections"] if section["start"] < size
    ]
    for stage in data["stages"]:
        stage["weights"] = _shorten(stage["weights"][:size])
    summary = data["summary"]
    summary["copied"] = _shorten(summary["copied"])
    for row in (*summary["sources"], *summary["places"]):
        row[:] = [[word, weight] for (word, _), weight in zip(row, _shorten([weight for _, weight in row]))]
    data["ranking"] = [rank for rank in data["ranking"] if rank["sentence"] < len(document["sentences"])]
    return {**data, "truncated": explanation.truncated - unlisted, "unlisted": unlisted}


def _shorten(weights: Sequence[float]) -> list[float]:
    """Round to four significant digits, enough for shades and printed numbers; the page is a third smaller."""
    return [float(f"{weight:.4g}") for weight in weights]


def _check_consistent(explanation: Explanation) -> None:
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
        raise ValueError(f"the explanation is inconsistent with its {words} words: {', '.join(wrong)}")
