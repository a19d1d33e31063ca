"""The export to transformers; the code that an exported directory carries is in ``pyramidion_fairseq/huggingface``."""

from typing import Any

from ...utils.paper_settings import PAPER_GENERATION

#: Defaults of generation, by fairseq's names: the paper's of Table 3.
GENERATION: dict[str, Any] = {
    **{name: PAPER_GENERATION[name] for name in ("beam", "lenpen", "min_len", "max_len_b")},
    "no_repeat_ngram_size": 0,
}
