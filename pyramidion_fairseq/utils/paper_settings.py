"""Generation settings of the paper (Appendix D.1)."""

from __future__ import annotations

from typing import Any

#: Options of fairseq-generate, with lengths in tokens. The shallow models of Table 5 use a beam of 8.
PAPER_GENERATION: dict[str, Any] = {"beam": 2, "lenpen": 1.0, "min_len": 72, "max_len_a": 0.0, "max_len_b": 966}
