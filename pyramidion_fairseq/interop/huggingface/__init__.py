"""Export to transformers. The code that is copied to exported directories is in ``pyramidion_fairseq/huggingface``."""

from typing import Any

from ...utils.paper_settings import PAPER_GENERATION

#: fairseq's names of activations -> those of transformers.
ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "gelu_accurate": "gelu_new", "gelu_fast": "gelu_new", "tanh": "tanh"}
#: Default settings of generation, by fairseq's names (Table 3 of the paper).
GENERATION: dict[str, Any] = {
    **{name: PAPER_GENERATION[name] for name in ("beam", "lenpen", "min_len", "max_len_b")},
    "no_repeat_ngram_size": 0,
}
