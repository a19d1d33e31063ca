"""The export to transformers; the code that an exported directory carries is in ``pyramidion_fairseq/huggingface``."""

from typing import Any

#: Defaults of generation, by fairseq's names: the paper's of Table 3.
GENERATION: dict[str, Any] = {"beam": 2, "lenpen": 1.0, "min_len": 72, "max_len_b": 966, "no_repeat_ngram_size": 0}
