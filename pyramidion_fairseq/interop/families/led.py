"""LED (Beltagy et al. 2020) and PRIMERA (Xiao et al. 2022)."""

from __future__ import annotations

from typing import Any, Mapping

from ..bart import options
from .base import Family

_ATTENTION = r"self_attn\.longformer_self_attn\."


class Led(Family):
    """BART with window attention and global tokens. Global tokens have their own query, key and value projections."""

    model_type = "led"
    renames = (
        (_ATTENTION + r"(query|key|value)_global\.", r"self_attn.\1_global."),
        (_ATTENTION + r"(q|k|v)(?:uery|ey|alue)\.", r"self_attn.\1_proj."),
        (r"self_attn\.output\.", "self_attn.out_proj."),
    )
    left_out = (r"self_attn\.\w+_global\.", "projections of global tokens; ours share those of all tokens")
    offset = 0

    def from_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        self.check_type(config)
        lengths = {
            "max_source_positions": options.required(config, "max_encoder_position_embeddings"),
            "max_target_positions": options.required(config, "max_decoder_position_embeddings"),
        }
        config = {**config, "scale_embedding": False}  # BART's setting, which transformers' LED does not read
        return options.common(config, self.title, {**lengths, **_window(config.get("attention_window"))})


def _window(given: Any) -> dict[str, int]:
    """Return LSG's block size, a power of two. A token attends at least to all tokens of the largest window."""
    windows = given if isinstance(given, list) else [given]
    sizes = [window // 2 for window in windows if isinstance(window, int)]
    block = max(sizes, default=0)
    return {"lsg_block_size": 1 << (block - 1).bit_length()} if block >= 2 else {}
