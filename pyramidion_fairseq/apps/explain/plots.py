"""Plot the tables of :mod:`.aggregate`."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ...errors import PyramidionError

#: Distinguishable without colour vision (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BASELINES = {"lead": ("#555555", ":"), "random": ("#555555", "--")}
MOST_SECTIONS = 12


def plot_positions(rows: Sequence[Mapping[str, Any]], documents: int, path: str) -> None:
    """Plot the positions of the kept tokens in the documents."""
    figure, axes = _figure(7, 4)
    positions = [(row["from"] + row["to"]) / 2 for row in rows]
    names = [name for name in rows[0] if name not in ("from", "to")]
    for name, (colour, dash) in _styles(names).items():
        axes.plot(positions, [100 * row[name] for row in rows], dash, color=colour, label=name)
    axes.set(xlabel="position in the document (0: start, 1: end)")
    axes.set(ylabel=f"% of what is kept, in each of {len(rows)} parts")
    # The lead baseline may exceed the plot, otherwise the other lines could not be distinguished.
    top = 3 * max(100 * row[name] for row in rows for name in names if name != "lead")
    axes.set(xlim=(0, 1), ylim=(0, top), title=f"Where the kept tokens lie ({documents:,} documents)")
    _save(figure, path)


def plot_sections(rows: Sequence[Mapping[str, Any]], path: str) -> None:
    """Plot the shares of the kept tokens in the most frequent sections."""
    rows = rows[:MOST_SECTIONS]
    names = [name for name in rows[0] if name not in ("section", "documents")]
    figure, axes = _figure(7, 1.5 + 0.18 * len(rows) * len(names))
    height = 0.8 / len(names)
    for number, (name, (colour, _)) in enumerate(_styles(names).items()):
        positions = [row + (number - (len(names) - 1) / 2) * height for row in range(len(rows))]
        hatch = {"lead": "..", "random": "//"}.get(name)
        fill = {"facecolor": "white", "edgecolor": colour, "hatch": hatch} if hatch else {"color": colour}
        axes.barh(positions, [100 * row.get(name, 0) for row in rows], height, label=name, **fill)
    # A dollar sign would start a formula.
    labels = [f"{row['section'][:40]} ({row['documents']:,})".replace("$", r"\$") for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="% of what is kept of a document")
    axes.set(ylabel="section (documents that have it)", title="In which sections the kept tokens lie")
    _save(figure, path)


def plot_weights(rows: Sequence[Mapping[str, Any]], path: str) -> None:
    """Plot how peaked the weights are: the distribution of each vector's largest weight."""
    figure, axes = _figure(7, 4)
    for row, (colour, dash) in zip(rows, _styles([row["stage"] for row in rows]).values()):
        bins = [value for name, value in row.items() if name.startswith("largest weight 0")]
        positions = [(number + 0.5) / len(bins) for number in range(len(bins))]
        label = f"{row['stage']}: {row['tokens that count']:.1f} of {row['tokens in a vector']:.1f} tokens count"
        axes.plot(positions, [100 * value for value in bins], dash, color=colour, label=label, drawstyle="steps-mid")
        axes.axvline(row["largest weight of a mean"], color=colour, linestyle=":", linewidth=1)
    axes.set(xlabel="largest weight in a vector (1: hard selection; dotted: a mean of its tokens)")
    axes.set(ylabel="% of vectors", xlim=(0, 1), ylim=(0, None), title="How peaked the weights are")
    _save(figure, path)


def _styles(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the colour and line style of each row."""
    own = [name for name in names if name not in BASELINES]
    return {name: BASELINES.get(name) or (COLOURS[own.index(name) % len(COLOURS)], "-") for name in names}


def _figure(width: float, height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PyramidionError("the tables are written, but plots require matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _save(figure: Any, path: str) -> None:
    if figure.axes[0].get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)
