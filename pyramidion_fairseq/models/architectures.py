"""Named architectures. Each one changes a few fields of another one.

Use ``fairseq-train --arch NAME``, or ``model._name=NAME`` in Hydra. Each architecture reads its full length without
further options.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import field, fields, make_dataclass
from typing import Any, NamedTuple

from fairseq.models import MODEL_DATACLASS_REGISTRY, register_model, register_model_architecture
from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import DictConfig, OmegaConf

from ..config import PyramidionConfig
from .encoder_config import EncoderConfig
from .pyramidion import PyramidionModel
from .roberta import LSGRobertaModel


class Architecture(NamedTuple):
    """Entry of :data:`ARCHITECTURES`."""

    base: str | None
    """Name of the base architecture; None for the defaults in ``config.py``."""
    changes: dict[str, Any]
    """Fields of PyramidionConfig that differ from the base."""


_POWER = {"scorer": "attention_sum", "pooler": "hard_topk"}
#: Architectures that also exist with a pointer.
_POINTERS = (
    "deeppyramidion",
    "deep_blockwise",
    "blockwise_2k",
    "blockwise_8k",
    "transpooler_2k_512",
    "transpooler_8k_512",
    "transpooler_8k_2k",
    "pyramidion_8k_8k_2k_512",
)

#: Names list the lengths read by successive layers, then the length read by the decoder if it differs.
ARCHITECTURES: dict[str, Architecture] = {
    # Defaults, to be changed field by field.
    "pooled_transformer": Architecture(None, {}),
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
    "blockwise_2k_b128": Architecture("blockwise_2k", {"block_size": 128}),
    "vanilla": Architecture("blockwise", {"attention": "full"}),
    "vanilla_8k": Architecture("vanilla", {}),
    "vanilla_2k": Architecture("vanilla", {"max_source_positions": 2048}),
    "vanilla_512": Architecture("vanilla", {"max_source_positions": 512}),
    # Appendix C.1: two of the heads attend to a local window.
    "lsh": Architecture("blockwise", {"attention": "lsh"}),
    "lsh_8k": Architecture("lsh", {}),
    "lsh_2k": Architecture("lsh", {"max_source_positions": 2048}),
    "lsh_512": Architecture("lsh", {"max_source_positions": 512}),
    "efficient": Architecture("blockwise", {"attention": "efficient"}),
    "efficient_8k": Architecture("efficient", {}),
    "efficient_2k": Architecture("efficient", {"max_source_positions": 2048}),
    "efficient_512": Architecture("efficient", {"max_source_positions": 512}),
    # Local, sparse and global attention (Condevaux and Harispe 2022), trained from scratch.
    "lsg_8k": Architecture("blockwise", {"attention": "lsg"}),
    "lsg_2k": Architecture("lsg_8k", {"max_source_positions": 2048}),
    "lsg_8k_512": Architecture("lsg_8k", {"pooling_schedule": "2:512"}),
    # One pooling, after the last layer.
    "transpooler": Architecture("blockwise", {"pooling_schedule": "2:512"}),
    "transpooler_8k": Architecture("transpooler", {}),
    "transpooler_8k_512": Architecture("transpooler", {}),
    "transpooler_8k_2k": Architecture("transpooler", {"pooling_schedule": "2:2048"}),
    "transpooler_8k_8k_8k_2k": Architecture("transpooler", {"encoder_layers": 3, "pooling_schedule": "3:2048"}),
    "transpooler_2k": Architecture("transpooler", {"max_source_positions": 2048}),
    "transpooler_2k_512": Architecture("transpooler_2k", {}),
    "transpooler_2k_512_b128": Architecture("transpooler_2k_512", {"block_size": 128}),
    "transpooler_2k_512_full": Architecture("transpooler_2k_512", {"attention": "full"}),
    # Table 4: scorers, and poolers without a scorer.
    "transpooler_2k_512_nonlinear": Architecture("transpooler_2k_512", {"scorer": "nonlinear"}),
    "transpooler_2k_512_random": Architecture("transpooler_2k_512", {"scorer": "random"}),
    "transpooler_2k_512_index": Architecture("transpooler_2k_512", {"scorer": "index", "index_stride": 4}),
    "transpooler_2k_512_embedding": Architecture("transpooler_2k_512", {"scorer": "embedding"}),
    "transpooler_2k_512_power": Architecture("transpooler_2k_512", _POWER),
    "transpooler_2k_512_mean_window": Architecture("transpooler_2k_512", {"pooler": "mean_window"}),
    "transpooler_2k_512_max_window": Architecture("transpooler_2k_512", {"pooler": "max_window"}),
    # Several poolings.
    "pyramidion": Architecture("blockwise", {"pooling_schedule": "1:2048,2:512"}),
    "pyramidion_8k": Architecture("pyramidion", {}),
    "pyramidion_8k_2k_512": Architecture("pyramidion", {}),
    "pyramidion_8k_8k_2k_512": Architecture("pyramidion", {"encoder_layers": 3, "pooling_schedule": "2:2048,3:512"}),
    "pyramidion_8k_8k_2k_512_128": Architecture(
        "pyramidion", {"encoder_layers": 4, "pooling_schedule": "2:2048,3:512,4:128"}
    ),
    "pyramidion_8k_8k_4k_2k": Architecture("pyramidion", {"encoder_layers": 3, "pooling_schedule": "2:4096,3:2048"}),
    # Figure 1 D: three layers, and half of the tokens after each.
    "pyramidion_8k_4k_2k_1k": Architecture(
        "pyramidion", {"encoder_layers": 3, "decoder_layers": 3, "pooling_schedule": "halve"}
    ),
    "pyramidion_2k": Architecture("blockwise_2k", {"pooling_schedule": "1:1024,2:512"}),
    # PoWER (Goyal et al. 2020): hard selection by the attention received, without a pooler of its own.
    "power_2k_1k_512": Architecture("blockwise_2k", {"pooling_schedule": "1:1024,2:512", **_POWER}),
    "power_8k_2k_512": Architecture("blockwise_8k", {"pooling_schedule": "1:2048,2:512", **_POWER}),
    "power_8k_4k_2k": Architecture("blockwise_8k", {"pooling_schedule": "1:4096,2:2048", **_POWER}),
    # Funnel (Dai et al. 2020): pooled after the first layer, upsampled before the decoder (unless --no-upsampling).
    "funnel_2k_512": Architecture("blockwise_2k", {"pooling_schedule": "1:512", "pooler": "funnel"}),
    "funnel_8k_512": Architecture("blockwise_8k", {"pooling_schedule": "1:512", "pooler": "funnel"}),
    "funnel_8k_2k": Architecture("blockwise_8k", {"pooling_schedule": "1:2048", "pooler": "funnel"}),
    # With a pointer-generator (See et al. 2017) on the decoder's input.
    **{f"{name}_pointer": Architecture(name, {"pointer": True}) for name in _POINTERS},
    # BART's shapes (Lewis et al. 2020) with LSG attention and 8192 tokens, for its checkpoints.
    "bart_base_long": Architecture(
        "deep_blockwise",
        {
            "attention": "lsg",
            **{side + "_attention_heads": 12 for side in ("encoder", "decoder")},
            "encoder_learned_pos": True,
            "decoder_positions": True,
            "decoder_learned_pos": True,
            "share_decoder_input_output_embed": True,
            "no_scale_embedding": True,
            "layernorm_embedding": True,
            "activation_fn": "gelu",
            "activation_dropout": 0.0,
            "prepend_bos": True,
        },
    ),
    "bart_large_long": Architecture(
        "bart_base_long",
        {
            **{side + "_layers": 12 for side in ("encoder", "decoder")},
            **{side + "_embed_dim": 1024 for side in ("encoder", "decoder")},
            **{side + "_ffn_embed_dim": 4096 for side in ("encoder", "decoder")},
            **{side + "_attention_heads": 16 for side in ("encoder", "decoder")},
        },
    ),
    # Pooled after the last layer, so that the layers of a converted encoder compute what they were trained for.
    "bart_base_long_pooled": Architecture("bart_base_long", {"pooling_schedule": "6:1024"}),
    "bart_large_long_pooled": Architecture("bart_large_long", {"pooling_schedule": "12:1024"}),
}

#: Encoders without a decoder: RoBERTa's sizes with LSG attention and 4096 tokens. Changes are fields of EncoderConfig.
ENCODERS: dict[str, Architecture] = {
    "lsg_roberta": Architecture(None, {}),
    "lsg_roberta_base": Architecture("lsg_roberta", {}),
    "lsg_roberta_large": Architecture(
        "lsg_roberta",
        {
            "encoder_layers": 24,
            "encoder_embed_dim": 1024,
            "encoder_ffn_embed_dim": 4096,
            "encoder_attention_heads": 16,
        },
    ),
    # Half of the tokens after a third of the layers, and again after two thirds.
    "lsg_roberta_long_pooled": Architecture("lsg_roberta_base", {"pooling_schedule": "4:2048,8:1024"}),
}

#: Architecture of each of the paper's rows: (table, row) of numbered rows, and of the models of Tables 3 and 4.
PUBLISHED: dict[tuple[str, str], str] = {
    ("2", "1"): "vanilla_512",
    ("2", "2"): "vanilla_2k",
    ("2", "3"): "vanilla_8k",
    ("2", "4"): "blockwise_2k",
    ("2", "5"): "blockwise_8k",
    ("2", "6"): "transpooler_2k_512",
    ("2", "7"): "transpooler_8k_512",
    ("2", "8"): "transpooler_8k_2k",
    ("2", "9"): "lsh_512",
    ("2", "10"): "lsh_2k",
    ("2", "11"): "lsh_8k",
    ("2", "12"): "efficient_512",
    ("2", "13"): "efficient_2k",
    ("2", "14"): "efficient_8k",
    ("2", "15"): "power_2k_1k_512",
    ("2", "16"): "power_8k_2k_512",
    ("2", "17"): "power_8k_4k_2k",
    ("2", "18"): "funnel_2k_512",
    ("2", "19"): "funnel_8k_512",
    ("2", "20"): "funnel_8k_2k",
    ("7", "21"): "pyramidion_8k_2k_512",
    ("7", "22"): "pyramidion_8k_8k_2k_512",
    ("7", "23"): "pyramidion_8k_8k_2k_512_128",
    ("7", "24"): "pyramidion_8k_8k_4k_2k",
    ("7", "25"): "transpooler_8k_2k",
    ("7", "26"): "transpooler_8k_8k_8k_2k",
    ("8", "27"): "blockwise_2k_b128",
    ("8", "28"): "blockwise_2k",
    ("8", "29"): "vanilla_2k",
    ("8", "30"): "transpooler_2k_512_b128",
    ("8", "31"): "transpooler_2k_512",
    ("8", "32"): "transpooler_2k_512_full",
    ("3", "Blockwise/arXiv"): "deep_blockwise",
    ("3", "DeepPyramidion/arXiv"): "deeppyramidion",
    ("3", "DeepPyramidion/PubMed"): "deeppyramidion",
    ("4", "Linear"): "transpooler_2k_512",
    ("4", "Nonlinear"): "transpooler_2k_512_nonlinear",
    ("4", "Random"): "transpooler_2k_512_random",
    ("4", "Index-based"): "transpooler_2k_512_index",
    ("4", "Embedding-based"): "transpooler_2k_512_embedding",
    ("4", "PoWER-like"): "transpooler_2k_512_power",
    ("4", "Mean Pooling"): "transpooler_2k_512_mean_window",
    ("4", "Max Pooling"): "transpooler_2k_512_max_window",
}


def fields_of(name: str) -> dict[str, Any]:
    """Return all fields set by an architecture, including those of its bases.

    Raises:
        KeyError: the architecture is unknown.
        ValueError: the architecture that it starts from is unknown.
    """
    known = {**ARCHITECTURES, **ENCODERS}
    base, changes = known[name]
    if base and base not in known:
        raise ValueError(f"architecture {name!r} starts from {base!r}, and there is no architecture of that name")
    return {**(fields_of(base) if base else {}), **changes}


def config_of(name: str) -> type:
    """Return the config of an architecture: the model's config with the architecture's values as defaults.

    With it, ``model._name=NAME`` means the same in Hydra, where every field is filled in before the model reads it. A
    checkpoint from before an option existed gets the architecture's value for the option.
    """
    base: Any = EncoderConfig if name in ENCODERS else PyramidionConfig
    types = {field.name: field.type for field in fields(base)}
    metadata = {field.name: field.metadata for field in fields(base)}
    unknown = sorted(fields_of(name).keys() - types.keys())
    if unknown:
        raise ValueError(f"architecture {name!r} sets {', '.join(unknown)}: {base.__name__} has no such option")
    changed = [
        (key, types[key], field(default=value, metadata=metadata[key])) for key, value in fields_of(name).items()
    ]
    return make_dataclass(f"{name}_config", changed, bases=(base,))


class _LazyConfig(ConfigNode):
    """Entry of Hydra's store that creates its config on first access.

    ``register_model(name, dataclass=...)`` creates configs immediately. For all architectures, this would take longer
    than the rest of importing this package, and Hydra copies all configs whenever fairseq parses a command line.
    """

    def __init__(self, name: str, config: type):
        self.config = config
        self.name, self.group, self.package, self.provider = f"{name}.yaml", "model", None, "fairseq"

    @property
    def node(self) -> DictConfig:
        """Return the config. Hydra sets it in the copies that it has read."""
        found = self.__dict__.get("node")
        if found is None:
            found = OmegaConf.structured(self.config)
            found._name = self.name.removesuffix(".yaml")
        return found

    @node.setter
    def node(self, value: DictConfig) -> None:
        self.__dict__["node"] = value


def _register(name: str) -> None:
    config, base = config_of(name), LSGRobertaModel if name in ENCODERS else PyramidionModel
    model = register_model(name)(type(name, (base,), {"__module__": __name__}))
    globals()[name] = model  # where pickle looks up the class of a model
    # Like register_model with a dataclass, except for the entry in Hydra's store.
    model.__dataclass = config
    MODEL_DATACLASS_REGISTRY[name] = config
    ConfigStore.instance().repo.setdefault("model", {})[f"{name}.yaml"] = _LazyConfig(name, config)

    @register_model_architecture(name, name)
    def share_lengths(args: Namespace) -> None:
        # The task has flags of the same names. The model's flags are added first and without defaults, so an attribute
        # that exists was given by the user. If it is missing, the task must not use its own default of 1024.
        for key in ("max_positions",) if name in ENCODERS else ("max_source_positions", "max_target_positions"):
            if not hasattr(args, key):
                setattr(args, key, getattr(config, key))


for _name in (*ARCHITECTURES, *ENCODERS):
    _register(_name)
