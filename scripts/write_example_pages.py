"""Write examples/WHERE/README.md from the recipes, one page per table or corpus; ``--check`` only compares."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Iterable

from pyramidion_fairseq.models.architectures import PUBLISHED

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))
from recipe import beside  # noqa: E402
from recipes import command, memory, paper  # noqa: E402

TITLES = {
    "table2": "Table 2: lengths and sparsification, 2+2 layers, arXiv",
    "table3": "Table 3: DeepPyramidion and the deep block-wise baseline, 6+6 layers, arXiv and PubMed",
    "table4": "Table 4: what rates the tokens, 2048 of them pooled to 512, arXiv",
    "table7": "Table 7: encoder depth and bottleneck, arXiv",
    "table8": "Table 8: block size and pooling, 2048 tokens, arXiv",
    "arxiv": "Any architecture on arXiv",
    "pubmed": "Any architecture on PubMed",
}
EXAMPLES = {"table2": "8", "table3": "deeppyramidion", "table4": "linear", "table7": "24", "table8": "31"}
TIMES = {
    True: "The paper: 3 days on 8 A100 of a DGX, full precision; {train_s} s a batch of 64 documents.",
    False: "The paper: about 2 days on 8 A100 of a DGX, said of all shallow models with trainable pooling; full\n"
    "precision; {train_s} s a batch of 64 documents.",
}
TUNED = """; PoWER's rows go on
from their block-wise model, which is trained before (`INIT=checkpoint` for another), for 10 epochs"""
VALIDATED = """\
The paper stops and chooses by scores, and does not say by which: here by ROUGE-2 of 512 documents of the validation
split, the same ones every time, with the row's own beam (`METRIC=rouge1`, `rougeL`, or `loss`, which costs nothing;
`SAMPLES=0` for the whole split). By the paper's times this takes {few} of the training between two validations,
the whole split {whole}."""
PAGE = """\
# {title}

Written by `python scripts/write_example_pages.py` from `examples/recipes/`. Settings, several nodes, precision and
memory: [examples/README.md](../README.md). From the repository's root, with the environment active:

**1. Data**

```bash
python preprocess/prepare.py data/{corpus} --input {corpus}-dataset.zip --workers 16
```

It ends with the table of lengths, and a command that trains the paper's model.

**2. Training** until ROUGE-2 has not risen for 7 validations, one every 3 epochs{tuned}

```bash
bash examples/{where}/train.sh {row} data/{corpus} GPUS=8
```

which runs (`DRY_RUN=1` shows it for any row and machine)

```bash
{train}
```

{time}
{validated}
Not run here at full size; how each step ends is in [examples/README.md](../README.md#what-each-step-ends-with), of a
small run.

**3. Summaries** of the {subset} split, beam {beam}, length penalty 1, 72 to 966 tokens{beams}

```bash
bash examples/{where}/generate.sh {row} data/{corpus}
```

The log, `checkpoints/{corpus}/{arch}/generate-{subset}.log`, ends with
`Generate {subset} with beam={beam}: BLEU = ...`: fairseq's own score, which is not the paper's.

**4. ROUGE** with 95% intervals, the paper's row below

```bash
bash examples/{where}/evaluate.sh {row} data/{corpus}
```

It ends with

```
{published}
```

{rows}
"""


def rows(where: str) -> str:
    """Return the table of a page's rows with the paper's numbers."""
    lines = [
        "| ROW | `--arch` | ROUGE-1 | ROUGE-2 | s a batch of 64 | documents a GPU, 40 / 80 GB |",
        "|---|---|---|---|---|---|",
    ]
    for name, recipe in recipes(where).items():
        row = recipe.published or {}
        scores = [row.get(key, "") + (f" [{row[key + '_lo']}, {row[key + '_hi']}]" if row.get(key + "_lo") else "")
                  for key in ("R1", "R2")]  # fmt: skip
        fits = " / ".join(str(memory.documents(recipe.arch, gigabytes)) for gigabytes in (40, 80))
        lines.append(f"| {name} | `{recipe.arch}` | {' | '.join(scores)} | {row.get('train_s', '')} | {fits} |")
    return "The paper's numbers; documents a GPU by calculation, not measured:\n\n" + "\n".join(lines)


def recipes(where: str) -> dict[str, paper.Recipe]:
    """Return the rows of a page."""
    if where in paper.CORPORA:
        return {arch: paper.Recipe(arch, where) for arch in dict.fromkeys(PUBLISHED.values())}
    out = {}
    for table, row in PUBLISHED:
        if f"table{table}" == where:
            name, _, corpus = row.partition("/")
            label = f"{name.lower()}, CORPUS=pubmed" if corpus == "PubMed" else name.lower()
            out[label] = paper.Recipe(PUBLISHED[table, row], corpus.lower() or "arxiv")
    return out


def wrapped(line: list[str], width: int = 110) -> str:
    """Return a command over several lines."""
    lines = [""]
    for option in shlex.join(line).split(" --"):
        word = option if lines == [""] else f" --{option}"
        if len(lines[-1] + word) > width:
            lines.append("   ")
        lines[-1] += word
    return " \\\n".join(lines)


def page(where: str) -> str:
    """Return a page's text."""
    corpus = where if where in paper.CORPORA else "arxiv"
    row = EXAMPLES.get(where, "deeppyramidion")
    recipe = paper.find(where, row)
    (line,) = command.train(recipe, command.Settings(gpus=8), [])
    line[line.index("--user-dir") + 1] = "pyramidion_fairseq"
    power = any(name.arch in paper.FINE_TUNED for name in recipes(where).values())
    return PAGE.format(
        title=TITLES[where],
        where=where,
        corpus=corpus,
        row=row,
        arch=recipe.arch,
        tuned=TUNED if power else "",
        train=wrapped(line),
        validated=validated(recipes(where).values()),
        time=TIMES[recipe.deep].format(**(recipe.published or {})),
        subset=recipe.subset,
        beam=recipe.generation["beam"],
        beams=" (Table 3's models; the others: beam 8, on the validation split)" if where in paper.CORPORA else "",
        rows=rows(where),
        published=beside(recipe),
    )


def validated(rows_: Iterable[paper.Recipe]) -> str:
    """Return the cost of validation by summaries, from the page's cheapest row to the most expensive one."""

    def span(samples: int) -> str:
        shares = sorted(s for s in (recipe.validation_share(samples) for recipe in rows_) if s is not None)
        ends = dict.fromkeys(f"{share:.0%}" for share in (shares[0], shares[-1]))
        return " to ".join(ends)

    rows_ = list(rows_)
    return VALIDATED.format(few=span(command.Settings.samples), whole=span(0))


def main() -> None:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 where a page is not up to date")
    check = parser.parse_args().check
    for where in TITLES:
        path, text = ROOT / "examples" / where / "README.md", page(where)
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            sys.exit(f"error: {path} is out of date: run python scripts/write_example_pages.py")


if __name__ == "__main__":
    main()
