"""Write the tables of changes at import time in docs/architecture.md; ``--check`` only compares."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from pyramidion_fairseq.compat.changes import LibraryChange, Patch
from pyramidion_fairseq.compat.patches import PATCHES

TARGET = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"
#: The sentences before and after the tables.
BOUNDS = (
    "A test compares the table with what an import changes.",
    "Beside these attributes, some state is changed:",
    "A console command (`pyramidion-rouge --help`, ...) changes nothing",
)


def tables() -> tuple[str, str]:
    """Return the table of attributes, grouped by target, and the table of other state."""
    changes = [(change, patch) for patch in PATCHES for change in patch.changes]
    attributes = [pair for pair in changes if re.fullmatch(r"[\w.]+", pair[0].target)]
    targets = list(dict.fromkeys(change.target for change, _ in attributes))
    attributes.sort(key=lambda pair: targets.index(pair[0].target))
    state = [pair for pair in changes if pair not in attributes]
    return table("target", attributes), table("what", state)


def table(title: str, changes: list[tuple[LibraryChange, Patch]]) -> str:
    """Return a table of changes in Markdown. A target is omitted if it is that of the row before."""
    rows, last = [f"| {title} | by | without it | what is done | can go when |", "|---|---|---|---|---|"], ""
    for change, patch in changes:
        file = patch.install.__module__.partition(".")[2].replace(".", "/") + ".py"
        name = f"`{change.target}`" if re.fullmatch(r"[\w.]+", change.target) else change.target
        cells = [f"`{file}`", change.fault, change.change, change.until]
        rows.append(f"| {'' if change.target == last else name + ' '}| {' | '.join(cells)} |")
        last = change.target
    return "\n".join(rows)


def text() -> str:
    """Return the whole page with current tables."""
    page = TARGET.read_text(encoding="utf-8")
    for before, after, rows in zip(BOUNDS, BOUNDS[1:], tables()):
        start, end = page.index(before) + len(before), page.index(after)
        page = f"{page[:start]}\n\n{rows}\n\n{page[end:]}"
    return page


def main() -> None:
    """Write the tables, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 where the tables are not up to date")
    page = text()
    if not parser.parse_args().check:
        TARGET.write_text(page, encoding="utf-8")
    elif TARGET.read_text(encoding="utf-8") != page:
        sys.exit(f"error: {TARGET} is out of date: run python scripts/write_patches.py")


if __name__ == "__main__":
    main()
