"""At what size and budget the rows are trained: one entry a kind of machine."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from pyramidion_fairseq.config import PyramidionConfig
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.models.architectures import ARCHITECTURES, PUBLISHED, fields_of
from pyramidion_fairseq.schedule import PoolingSchedule

LENGTHS = (
    *("max_source_positions", "max_target_positions", "block_size", "local_window", "lsh_bucket_size"),
    *("lsg_block_size", "lsg_sparse_block_size"),
)
WIDTHS = tuple(f"{side}_{width}" for side in ("encoder", "decoder") for width in ("embed_dim", "ffn_embed_dim"))

#: Rows that are trained unless others are asked for: long inputs of Tables 2 and 7, then all of Table 4.
ROWS = (
    "vanilla_8k",
    "blockwise_8k",
    "transpooler_8k_512",
    "transpooler_8k_2k",
    "pyramidion_8k_8k_2k_512",
    "pyramidion_8k_8k_4k_2k",
    "funnel_8k_2k",
    *(arch for (table, _), arch in PUBLISHED.items() if table == "4"),
)


@dataclass(frozen=True)
class Scale:
    """One fixed budget, the same for every row."""

    divisor: int
    """The paper's lengths and widths are divided by it, so that the ratio of attention to linear cost (n/d) stays."""
    heads: int
    """Attention heads."""
    vocabulary: int
    """Symbols, where the corpus is still to be prepared."""
    updates: int
    """Updates of every row."""
    batch_size: int
    """Documents in a forward pass."""
    update_freq: int
    """Forward passes in an update."""
    lr: float
    """Peak learning rate; falls with the inverse square root of the update."""
    warmup: int
    """Updates until the peak."""
    save_every: int
    """Updates between checkpoints, from which a killed run goes on."""
    beam: int
    """Width of the beam search."""
    min_len: int
    """Shortest summary, in tokens. The longest is the paper's 966 over the divisor."""
    generate_batch: int
    """Documents summarised at once."""
    timed_batch: tuple[int, int]
    """Documents in a batch when training and generation are timed (paper: 64 and 8)."""
    autocast: str = "none"
    """``--autocast``: precision of matrix products in training, "none" (float32), "bf16" or "auto"."""


SCALES = {
    # Summaries of at least 128 tokens: 18, the paper's 72 over 4, is where a model that has learnt this little ends.
    "cpu": Scale(4, 4, 8000, 300, 4, 1, 4e-3, 50, 25, 2, 128, 20, (4, 4)),
    # Two passes over 6,000 documents, which tell rows apart as 300 updates do not. bf16 where the processor has it.
    "cpu_long": Scale(4, 4, 8000, 3000, 4, 1, 2e-3, 200, 100, 2, 128, 20, (4, 4), "auto"),
    # About 8 minutes a row by the paper's training times (mean of ROWS 1.1 s per 64 documents); not tried.
    "gpu": Scale(1, 8, 32000, 400, 16, 4, 1e-3, 100, 100, 2, 72, 32, (64, 8)),
}


def scaled(row: str, scale: Scale) -> dict[str, Any]:
    """Return fields of a row at a scale: lengths, widths, blocks and schedule divided, ratios kept; then its changes.

    Args:
        row: an architecture, and changes to it as of :func:`row_name`.
        scale: the budget.

    Raises:
        PyramidionError: no such architecture.
    """
    arch, changes = split_row(row)
    if arch not in ARCHITECTURES:
        raise PyramidionError(f"no architecture {arch!r}; there are: {', '.join(sorted(ARCHITECTURES))}")
    defaults = {field.name: field.default for field in fields(PyramidionConfig)}
    options = {**{name: defaults[name] for name in (*LENGTHS, *WIDTHS)}, **fields_of(arch)}
    layers = options.get("encoder_layers", defaults["encoder_layers"])
    schedule = PoolingSchedule.of(options.get("pooling_schedule", ""), options["max_source_positions"], layers)
    for name in (*LENGTHS, *WIDTHS):
        options[name] //= scale.divisor
    options["pooling_schedule"] = str(
        PoolingSchedule(tuple((layer, kept // scale.divisor) for layer, kept in schedule.steps))
    )
    heads = {"encoder_attention_heads": scale.heads, "decoder_attention_heads": scale.heads}
    return {**options, **heads, **changes}


def split_row(row: str) -> tuple[str, dict[str, Any]]:
    """Return a row's architecture, and the options that it changes: ``"blockwise_8k+block_size=32"``.

    Raises:
        PyramidionError: no such option, or no value that it takes.
    """
    arch, *changes = row.split("+")
    defaults, options = {field.name: field.default for field in fields(PyramidionConfig)}, {}
    for change in changes:
        name, given, value = change.partition("=")
        if name not in defaults:
            raise PyramidionError(f"--rows {row}: there is no option {name!r} (see docs/options.md)")
        kind = type(defaults[name])
        try:
            options[name] = True if kind is bool and not given else kind(value)
        except ValueError:
            raise PyramidionError(f"--rows {row}: {name} takes {kind.__name__}, not {value!r}") from None
    return arch, options


def row_name(text: str) -> str:
    """Return the row that ``--rows`` means by ``text``: an architecture, or TABLE:ROW of the paper.

    An architecture may be followed by options that differ, at the scale: ``+decoder_positions``, ``+block_size=32``.

    Raises:
        PyramidionError: neither, or no such option.
    """
    arch, _ = split_row(text)
    if arch in ARCHITECTURES:
        return text
    arch = PUBLISHED.get(tuple(text.split(":", 1)))  # type: ignore[arg-type]
    if arch is None:
        raise PyramidionError(
            f"--rows {text}: neither an architecture (see docs/options.md) nor TABLE:ROW of the paper, such as 2:8"
        )
    return arch
