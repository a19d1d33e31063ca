"""Write docs/api.md from the docstrings of the public Python interface; ``--check`` only compares."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import Any, Iterator, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "api.md"
WIDTH = 119
HEAD = """# Python reference

Written by `python scripts/write_api.py` from the docstrings; a test keeps it fresh. B is the number of documents, n or
T their padded length in tokens, k the number of vectors kept, C or d a width, V the vocabulary, t the length of a
summary. `padding_mask` is True on padding. Terms: [glossary.md](glossary.md). Options: [options.md](options.md).

```python
from pyramidion_fairseq import PyramidionModel, successive_halving_topk

model = PyramidionModel.from_pretrained("checkpoints/arxiv", data_name_or_path="data/arxiv/data-bin")
summary, other = model.summarize(["The first document ...", "The second ..."], with_provenance=True)
summary.text, summary.score
summary.provenance.models[0].source_weights()  # (t, n): how much each summary token read of each document token
summary.explain().to_dict()  # the same in words and sentences, as the page shows it

pooled = successive_halving_topk(embeddings, scores, k=512)  # (B, n, d), (B, n)
pooled.embeddings, pooled.slot_of_token, pooled.weights  # (B, k, d); the slot and the weight of every token
```

`import pyramidion_fairseq` registers the task, the architectures, the criterion, the optimizer and the scorer with
fairseq, and changes fairseq where [architecture.md](architecture.md#what-importing-the-package-changes) lists it."""


class Section(NamedTuple):
    """A section of the page."""

    title: str
    intro: str
    module: str
    """Where the names are imported from."""
    names: dict[str, tuple[str, ...]]
    """{class or function: the methods that are shown}."""


SECTIONS = (
    Section(
        "Loading and summarising",
        "`from_pretrained` returns a `PyramidionHubInterface`: fairseq's `GeneratorHubInterface`, and with it an "
        "`nn.Module` (`to`, `half`, `eval`), with the methods below. It can be copied, pickled and saved by "
        "`torch.save`, for other processes of multiprocessing or Ray; who reads the pickle needs this package, and "
        "trusts who wrote it. It cannot train. `torch.compile` takes the `encoder` of its `models`; `torch.export` "
        "does not: fairseq's positions are no buffer, and how far documents are cut depends on what they hold.",
        "pyramidion_fairseq",
        {"PyramidionModel": ("from_pretrained", "forward")},
    ),
    Section(
        "",
        "",
        "pyramidion_fairseq.inference.summarizer",
        {
            "PyramidionHubInterface": ("summarize", "summarize_stream", "explain", "max_source_length"),
            "Summary": ("explain",),
        },
    ),
    Section("", "", "pyramidion_fairseq.text", {"Document": ("from_text", "from_record")}),
    Section(
        "Where a summary came from",
        "In tokens, then in words. What the numbers mean: [explaining.md](explaining.md).",
        "pyramidion_fairseq.apps.explain.record",
        {"Provenance": (), "ModelRecord": ("source_weights",)},
    ),
    Section(
        "",
        "",
        "pyramidion_fairseq.apps.explain",
        {
            "Explanation": ("to_dict", "from_dict"),
            "DocumentWords": (),
            "SummaryWords": (),
            "Stage": (),
            "RankedSentence": (),
            "ModelFacts": (),
        },
    ),
    Section("", "", "pyramidion_fairseq.apps.explain.page", {"render": (), "render_many": (), "render_beside": ()}),
    Section(
        "torch.hub",
        'Entry points of `hubconf.py`: `torch.hub.load("PATH/TO/THE/REPOSITORY", "pubmed_small", source="local")`.',
        "hubconf",
        {"summarizer": (), "pubmed_small": ()},
    ),
    Section(
        "Pooling operators",
        "Pure functions, also importable from `pyramidion_fairseq.functional`. An infinite score is the highest or "
        "the lowest. NaN stays NaN; where only the order of scores counts, NaN is the highest. `torch.compile`, "
        "`torch.export` and `torch.func.vmap` take all of them. Operators with an exact record, `merge_similar` and "
        "`boundary_chunks` excepted, have first derivatives alone, by `backward` or `torch.autograd.grad`: second "
        "ones, `torch.func.grad` and `torch.func.jvp` are refused. torch refuses `torch.func.grad` of "
        "`sinkhorn_topk`, too.",
        "pyramidion_fairseq.functional",
        {
            "successive_halving_topk": (),
            "Pooled": (),
            "hard_topk": (),
            "iterative_topk": (),
            "gumbel_topk": (),
            "sinkhorn_topk": (),
            "perturbed_topk": (),
            "threshold_topk": (),
            "mean_windows": (),
            "max_windows": (),
            "boundary_chunks": (),
            "merge_similar": (),
            "compose_poolings": (),
            "TokenRecord": (),
            "attention_to_tokens": (),
        },
    ),
    Section(
        "Registries and their contracts",
        "`SCORERS`, `POOLERS` and `ATTENTIONS` (in `pyramidion_fairseq.scorers`, `.poolers`, `.attention`) are "
        "registries. How to add to one: [CONTRIBUTING.md](../CONTRIBUTING.md).",
        "pyramidion_fairseq.registry",
        {"Registry": ("register", "get", "build", "names")},
    ),
    Section("", "", "pyramidion_fairseq.scorers", {"TokenScorer": ("from_config", "rate", "forward")}),
    Section("", "", "pyramidion_fairseq.poolers", {"Pooler": ("from_config", "forward", "output_length")}),
    Section(
        "",
        "",
        "pyramidion_fairseq.attention",
        {"EncoderAttention": ("from_config", "num_globals", "attend", "column_sums", "multiplications")},
    ),
    Section("", "", "pyramidion_fairseq.schedule", {"PoolingSchedule": ("parse", "input_lengths", "output_length")}),
    Section(
        "Parts of fairseq",
        "Used through fairseq's options: `--task long_document_summarization`, `--criterion chunked_cross_entropy`, "
        "`--optimizer fused_adamw`, `--scoring rouge`.",
        "pyramidion_fairseq",
        {
            "LongDocumentSummarizationTask": (),
            "ChunkedCrossEntropyCriterion": (),
            "FusedAdamW": (),
            "RougeScorer": ("scores", "score", "result_string"),
        },
    ),
    Section(
        "Scores",
        "Neither fairseq nor torch is needed. What the figures mean: [scores.md](scores.md).",
        "pyramidion_fairseq.scoring",
        {
            "rouge_scores": (),
            "RougeSettings": ("signature",),
            "RougeScores": ("get", "as_dict"),
            "compare": (),
            "measure_scores": (),
            "MeasureScores": ("get", "as_dict"),
            "compare_measures": (),
            "lead_baseline": (),
        },
    ),
    Section(
        "Generation",
        "",
        "pyramidion_fairseq.generation",
        {"plain_generation": (), "set_plain_generation": (), "cuda_graphs": (), "set_cuda_graphs": ()},
    ),
    Section(
        "Checkpoints",
        "What loading refuses: [security.md](security.md).",
        "pyramidion_fairseq.checkpoints",
        {
            "load_checkpoint": (),
            "save_checkpoint": (),
            "UnsafeCheckpointError": (),
            "DamagedCheckpointError": (),
        },
    ),
    Section("Errors", "", "pyramidion_fairseq.errors", {"PyramidionError": ()}),
)


def plain(text: str) -> str:
    """Return markdown of a docstring's text: cross-references and literals as code, powers kept from being bold."""
    text = re.sub(r":\w+:`~?\.*(?:\w+\.)*(\w+)`", r"`\1`", text)
    text = re.sub(r"``(.+?)``", r"`\1`", text)
    return re.sub(r"(?<=\w)\*\*(?=\w)", r"\*\*", text)


def paragraphs(text: str) -> str:
    """Return text with filled paragraphs, and doctest examples as code blocks."""
    found = []
    for part in re.split(r"\n\s*\n", plain(text.strip())):
        found.append(f"```python\n{part}\n```" if part.startswith(">>>") else filled(" ".join(part.split())))
    return "\n\n".join(found)


def filled(text: str, indent: str = "") -> str:
    """Return text in lines of at most :data:`WIDTH` characters; all but the first are indented by ``indent``."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def docstring(text: str | None) -> str:
    """Return a docstring of Google's style as Markdown: paragraphs, and lists of arguments, results and errors."""
    if not text:
        return ""
    parts = re.split(r"^(Args|Returns|Raises):\n", inspect.cleandoc(text), flags=re.M)
    pages = [paragraphs(parts[0])]
    titles = {"Args": "Arguments", "Returns": "Returns", "Raises": "Raises"}
    for title, body in zip(parts[1::2], parts[2::2]):
        inside, after = _indented(body)
        pages.append(f"*{titles[title]}*")
        pages.append(paragraphs(inside) if title == "Returns" else "\n".join(_items(inside)))
        if after:
            pages.append(paragraphs(after))
    return "\n\n".join(page for page in pages if page)


def _indented(body: str) -> tuple[str, str]:
    """Return the indented lines at the beginning, dedented, and the remaining lines."""
    lines = body.splitlines()
    end = next((i for i, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
    return textwrap.dedent("\n".join(lines[:end])).strip(), "\n".join(lines[end:]).strip()


def _items(text: str) -> Iterator[str]:
    """Yield ``name: description`` as items of a list, with their continuation lines."""
    for item in re.split(r"\n(?=\S)", text):
        name, colon, rest = " ".join(item.split()).partition(": ")
        yield filled(f"* `{name}`: {plain(rest)}" if colon else f"* {plain(name)}", "  ")


def definition(value: Any) -> ast.FunctionDef | ast.ClassDef:
    """Return the syntax tree of a function or class."""
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]


def signature(name: str, function: ast.FunctionDef) -> str:
    """Return the signature of a function without ``self``, with one argument per line if it is long."""
    parts = list(_arguments(function.args))
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    line = f"{name}({', '.join(parts)}){returns}"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returns}"


def _arguments(arguments: ast.arguments) -> Iterator[str]:
    """Yield each argument except ``self`` and ``cls``, with its type and default."""
    positional = arguments.posonlyargs + arguments.args
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    for argument, default in zip(positional, defaults):
        if argument.arg not in ("self", "cls"):
            yield _argument(argument, default)
    if arguments.vararg:
        yield "*" + _argument(arguments.vararg, None)
    elif arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
        yield _argument(argument, default)
    if arguments.kwarg:
        yield "**" + _argument(arguments.kwarg, None)


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    value = "" if default is None else ast.unparse(default)
    if argument.annotation is None:
        return f"{argument.arg}={value}" if value else argument.arg
    return f"{argument.arg}: {ast.unparse(argument.annotation)}" + (f" = {value}" if value else "")


def fields(tree: ast.ClassDef) -> Iterator[str]:
    """Yield the annotated fields of a class as items of a list, each with its docstring."""
    for statement, following in zip(tree.body, [*tree.body[1:], None]):
        if not isinstance(statement, ast.AnnAssign) or statement.target.id.startswith("_"):
            continue
        text = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = ": " + " ".join(plain(str(following.value.value)).split())
        yield filled(f"* `{statement.target.id}: {ast.unparse(statement.annotation)}`{text}", "  ")


def entry(name: str, value: Any, methods: tuple[str, ...]) -> str:
    """Return a class with its fields and methods, or a function."""
    tree = definition(value)
    if isinstance(tree, ast.FunctionDef):
        return _function("###", name, name, tree)
    parts = [f"### {name}", docstring(ast.get_docstring(tree))]
    found = list(fields(tree))
    if found and not any(base.endswith("Config") for base in map(ast.unparse, tree.bases)):
        parts.append("\n".join(found))
    for method in methods:
        member = inspect.getattr_static(value, method)
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        full = f"{name}.{method}"
        parts.append(_function("####", full, method, definition(function), isinstance(member, property)))
    return "\n\n".join(part for part in parts if part)


def _function(level: str, title: str, name: str, tree: ast.FunctionDef, is_property: bool = False) -> str:
    call = f"{name}: {ast.unparse(tree.returns)}" if is_property else signature(name, tree)
    return f"{level} {title}\n\n```python\n{call}\n```\n\n{docstring(ast.get_docstring(tree))}".rstrip()


def text() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for section in SECTIONS:
        if section.title:
            parts.append(f"## {section.title}")
        if section.intro:
            parts.append(filled(section.intro))
        module = importlib.import_module(section.module)
        parts += [entry(name, getattr(module, name), methods) for name, methods in section.names.items()]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 where the page is not up to date")
    check = parser.parse_args().check
    sys.path.insert(0, str(ROOT))
    if not check:
        TARGET.write_text(text(), encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text():
        sys.exit(f"error: {TARGET} is out of date: run python scripts/write_api.py")


if __name__ == "__main__":
    main()
