"""Write docs/options.md from the config, the registries and the table of architectures; ``--check`` only compares."""

import argparse
import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path

from pyramidion_fairseq.attention import ATTENTIONS
from pyramidion_fairseq.config import PyramidionConfig
from pyramidion_fairseq.models.architectures import ARCHITECTURES
from pyramidion_fairseq.poolers import POOLERS
from pyramidion_fairseq.scorers import SCORERS

TARGET = Path(__file__).resolve().parent.parent / "docs" / "options.md"
HEAD = """# Options

Written by `python scripts/write_options.py` from the config, the registries and the table of architectures; a test
keeps it fresh. Every field is a flag of `fairseq-train --user-dir pyramidion_fairseq --arch ARCH`, and a key of
`model` in Hydra. Lengths are in tokens. Options of the task: `fairseq-train --user-dir pyramidion_fairseq --task
long_document_summarization --help`.
"""


def cell(text: str) -> str:
    """Return text for a cell of a Markdown table, with plain text for cross-references."""
    return re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", text).replace("|", "&#124;")


def described(what: str, text: "str | None") -> str:
    """Return the documentation of an object, and exit with one line if there is none."""
    if not text:
        sys.exit(f"error: {what} has no text that says what it does: an option's help, a class's docstring")
    return text


def options() -> str:
    """Return the table of flags."""
    rows = ["## Flags", "", "| flag | default | meaning |", "|---|---|---|"]
    for field in fields(PyramidionConfig):
        if field.name == "_name":
            continue
        switch = isinstance(field.default, bool)
        default = "off" if switch else f"`{field.default}`" if field.default != "" else "none"
        flag = "--" + field.name.replace("_", "-")
        rows.append(f"| `{flag}` | {default} | {cell(described(flag, field.metadata.get('help')))} |")
    return "\n".join(rows)


def registry(title: str, entries) -> str:
    """Return a registry's names with the first line of each class's documentation."""
    rows = [f"## {title}", "", "| name | what it is |", "|---|---|"]
    for name in entries.names():
        text = described(f"the class of {entries.kind} {name!r}", entries.get(name).__doc__)
        rows.append(f"| `{name}` | {cell(inspect.cleandoc(text).splitlines()[0])} |")
    return "\n".join(rows)


def architectures() -> str:
    """Return the table of named architectures."""
    rows = ["## Named architectures", "", "| `--arch` | starts from | changes |", "|---|---|---|"]
    for name, (base, changes) in ARCHITECTURES.items():
        changed = ", ".join(f"`{field}={value}`" for field, value in changes.items()) or "nothing"
        rows.append(f"| `{name}` | {f'`{base}`' if base else 'the defaults'} | {changed} |")
    return "\n".join(rows)


def text() -> str:
    """Return the whole page."""
    parts = [HEAD.strip(), architectures(), registry("Attention (`--attention`)", ATTENTIONS)]
    parts += [registry("Scorers (`--scorer`)", SCORERS), registry("Poolers (`--pooler`)", POOLERS), options()]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 where the page is not up to date")
    if not parser.parse_args().check:
        TARGET.write_text(text(), encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text():
        sys.exit(f"error: {TARGET} is out of date: run python scripts/write_options.py")


if __name__ == "__main__":
    main()
