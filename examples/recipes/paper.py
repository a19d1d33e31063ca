"""What the paper says of each row: architecture, corpus, hyper-parameters, scores. The only place where they are."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.models.architectures import ARCHITECTURES, PUBLISHED
from pyramidion_fairseq.utils.paper_settings import PAPER_GENERATION

TABLES = Path(__file__).resolve().parents[2] / "benchmarks" / "published" / "tables.tsv"
CORPORA = ("arxiv", "pubmed")
#: Documents in an update (Tables 5 and 6), on however many GPUs.
EFFECTIVE_BATCH = 256

#: Tables 5 and 6, Appendices C.1 and D. Names are fairseq's options. The warm-up is Table 6's; for the shallow models
#: the paper gives none. Dropout, activation and the shapes belong to the architectures.
TRAINING: dict[str, Any] = {
    "criterion": "cross_entropy",
    "optimizer": "adam",
    "adam_betas": "(0.9, 0.98)",
    "weight_decay": 0.1,
    "lr": 5e-4,
    "lr_scheduler": "fixed",
    "warmup_updates": 5000,
    "max_epoch": 1000,  # patience ends it
    "validate_interval": 3,
    "save_interval": 3,
    "patience": 7,
    "keep_last_epochs": 2,
    "seed": 1,
}
#: PoWER goes on from a trained block-wise model for 10 epochs, validated after each (Appendix C.1). These are 7,940
#: updates on arXiv and 4,690 on PubMed: a warm-up of 5,000 would be most of them or never end. The paper gives none.
#: All ten epochs are run: there is no patience.
FINE_TUNING: dict[str, Any] = {
    "max_epoch": 10,
    "validate_interval": 1,
    "save_interval": 1,
    "warmup_updates": 500,
    "patience": -1,
}
#: Documents to train on, and for validation (Cohan et al. 2018).
DOCUMENTS = {"arxiv": (203_037, 6_436), "pubmed": (119_924, 6_633)}
FINE_TUNED = {
    "power_2k_1k_512": "blockwise_2k",
    "power_8k_2k_512": "blockwise_8k",
    "power_8k_4k_2k": "blockwise_8k",
}
DEEP = ("deeppyramidion", "deep_blockwise")


@dataclass(frozen=True)
class Recipe:
    """How one row is trained and evaluated on one corpus."""

    arch: str
    corpus: str

    @property
    def deep(self) -> bool:
        """Whether it is one of Table 3's models."""
        return self.arch in DEEP

    @property
    def initial(self) -> str | None:
        """The architecture whose trained weights it starts from, if any."""
        return FINE_TUNED.get(self.arch)

    @property
    def training(self) -> dict[str, Any]:
        """Options of fairseq-train, without those of the machine."""
        return {"arch": self.arch, **TRAINING, **(FINE_TUNING if self.initial else {})}

    @property
    def generation(self) -> dict[str, Any]:
        """Options of fairseq-generate."""
        return {**PAPER_GENERATION, "beam": 2 if self.deep else 8}

    def validation_share(self, samples: int) -> float | None:
        """Time of summarising ``samples`` validation documents (0: all), of that of training between two validations.

        By the published seconds (batches of 64 in training; batches of 8 and 512 tokens in generation); None where
        the row has none.
        """
        row = self.published
        if not row or not row["train_s"]:
            return None
        training, validation = DOCUMENTS[self.corpus]
        summarised = min(samples, validation) if samples else validation
        trained = training * self.training["validate_interval"]
        return summarised / 8 * float(row["infer512_s"]) / (trained / 64 * float(row["train_s"]))

    @property
    def subset(self) -> str:
        """What is scored: Table 3 the test split, the others the validation split (Appendix C.1)."""
        return "test" if self.deep else "valid"

    @property
    def published(self) -> dict[str, str] | None:
        """The paper's row of this architecture on this corpus, the one with times where there are several.

        Raises:
            PyramidionError: the table of the paper's scores lacks it.
        """
        for (table, row), arch in PUBLISHED.items():
            if arch == self.arch and _corpus(row) == self.corpus:
                rows = _rows()
                if (table, row) not in rows:
                    raise PyramidionError(f"{TABLES} has no row {row!r} of table {table!r}, which PUBLISHED names")
                return rows[table, row]
        return None


def _corpus(row: str) -> str:
    """Return Table 3's rows: it names the corpus in its rows; the others are all on arXiv."""
    return row.split("/")[1].lower() if "/" in row else "arxiv"


def _rows() -> dict[tuple[str, str], dict[str, str]]:
    with open(TABLES, encoding="utf-8", newline="") as file:
        return {(row["table"], row["row"]): row for row in csv.DictReader(file, delimiter="\t")}


def _plain(name: str) -> str:
    """Return ``Index-based`` -> ``indexbased``: names are compared without case, spaces and dashes."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def table_rows(table: str) -> dict[str, str]:
    """Return row -> architecture of a table, in the paper's order; Table 3's rows without their corpus."""
    return {row.split("/")[0]: arch for (of, row), arch in PUBLISHED.items() if of == table}


def find(where: str, name: str, corpus: str | None = None) -> Recipe:
    """Return the recipe that a user means.

    Args:
        where: ``table2``, where ``name`` is a row of the table; or a corpus, where it is an architecture.
        name: "8", "deeppyramidion", "index-based"; an architecture's name works everywhere.
        corpus: for a table, instead of arXiv.

    Raises:
        PyramidionError: no such row, architecture or corpus.
    """
    if corpus is not None and corpus not in CORPORA:
        raise PyramidionError(f"CORPUS={corpus}: there are {' and '.join(CORPORA)}")
    if where in CORPORA:
        if name not in ARCHITECTURES:
            raise PyramidionError(f"no architecture {name!r}; there are: {', '.join(ARCHITECTURES)}")
        return Recipe(name, where)
    rows = table_rows(where[len("table") :])
    for row, arch in rows.items():
        if _plain(name) == _plain(row) or name == arch:
            return Recipe(arch, corpus or "arxiv")
    raise PyramidionError(f"{where} has no row {name!r}; it has: {', '.join(rows)}")
