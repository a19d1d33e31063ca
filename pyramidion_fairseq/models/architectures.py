"""Named architectures: each one starts from another and changes a few fields.

``fairseq-train --arch NAME`` reads each one's full length with nothing else said.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fairseq.models import register_model_architecture

from ..config import PyramidionConfig
from . import pyramidion  # noqa: F401 -- registers the model that the architectures belong to


class Architecture(NamedTuple):
    """An entry of :data:`ARCHITECTURES`."""

    base: str | None
    """The architecture it starts from; None starts from the defaults in ``config.py``."""
    changes: dict[str, Any]
    """Fields of PyramidionConfig that differ."""


ARCHITECTURES: dict[str, Architecture] = {
    # Table 6: 6+6 layers of width 768, 8192 tokens, blocks of 512.
    "deep_blockwise": Architecture(None, {"share_all_embeddings": True}),
    "deeppyramidion": Architecture("deep_blockwise", {"pooling_schedule": "2:2048,3:512"}),
    # Table 5: 2+2 layers of width 512. Lengths as in Tables 2 and 7.
    "blockwise": Architecture(
        "deep_blockwise",
        {
            **{side + "_layers": 2 for side in ("encoder", "decoder")},
            **{side + "_embed_dim": 512 for side in ("encoder", "decoder")},
            **{side + "_ffn_embed_dim": 2048 for side in ("encoder", "decoder")},
        },
    ),
    "blockwise_8k": Architecture("blockwise", {}),
    "blockwise_2k": Architecture("blockwise", {"max_source_positions": 2048}),
    "vanilla": Architecture("blockwise", {"attention": "full"}),
    "vanilla_8k": Architecture("vanilla", {}),
    "vanilla_2k": Architecture("vanilla", {"max_source_positions": 2048}),
    # Appendix C.1: two of the heads attend to a local window.
    "lsh": Architecture("blockwise", {"attention": "lsh"}),
    "lsh_8k": Architecture("lsh", {}),
    "lsh_2k": Architecture("lsh", {"max_source_positions": 2048}),
    "lsh_512": Architecture("lsh", {"max_source_positions": 512}),
    "efficient": Architecture("blockwise", {"attention": "efficient"}),
    "efficient_8k": Architecture("efficient", {}),
    "efficient_2k": Architecture("efficient", {"max_source_positions": 2048}),
    "efficient_512": Architecture("efficient", {"max_source_positions": 512}),
    "transpooler": Architecture("blockwise", {"pooling_schedule": "2:512"}),
    "transpooler_8k": Architecture("transpooler", {}),
    "transpooler_2k": Architecture("transpooler", {"max_source_positions": 2048}),
    "pyramidion": Architecture("blockwise", {"pooling_schedule": "1:2048,2:512"}),
    "pyramidion_8k": Architecture("pyramidion", {}),
    "pyramidion_2k": Architecture("blockwise_2k", {"pooling_schedule": "1:1024,2:512"}),
}


def fields_of(name: str) -> dict[str, Any]:
    """Every field that an architecture sets, its bases' included.

    Raises:
        KeyError: no such architecture.
    """
    base, changes = ARCHITECTURES[name]
    return {**(fields_of(base) if base else {}), **changes}


def _register(name: str) -> None:
    @register_model_architecture("pooled_transformer", name)
    def apply(args) -> None:
        # What is there was given by the user (or by a checkpoint): --max-source-positions too, since our own flag of
        # that name is added before the task's, and without a default.
        for field, value in fields_of(name).items():
            if not hasattr(args, field):
                setattr(args, field, value)
        # The task reads the same flags: it must not keep its own default of 1024.
        for field in ("max_source_positions", "max_target_positions"):
            if not hasattr(args, field):
                setattr(args, field, getattr(PyramidionConfig, field))


for _name in ARCHITECTURES:
    _register(_name)
