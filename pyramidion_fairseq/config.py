"""All options of the model, typed, with their defaults. Defaults are defined only here.

The config is flat, because a nested fairseq config ignores or breaks some options on the command line. It has no
postponed annotations, no ``X | None``, no lists and no bool that defaults to True, because fairseq's flag generation
does not support them.
"""

import math
from argparse import Namespace
from dataclasses import dataclass, field, fields
from typing import Any

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.utils import get_available_activation_fns
from omegaconf import OmegaConf

from .attention import ATTENTIONS
from .attention.lsg import SPARSITY_TYPES
from .errors import PyramidionError
from .functional.topk.threshold import LINKS
from .poolers import POOLERS
from .registry import Registry
from .schedule import PoolingSchedule
from .scorers import SCORERS


def _option(default: Any, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


def _names_of(registry: Registry[Any]) -> Any:
    """Return the type of an option whose values are the names of a registry, including names registered later."""
    choices = ChoiceEnum(registry.names())

    def add(name: str) -> None:
        member = object.__new__(choices)
        member._name_ = member._value_ = name
        choices._member_names_.append(name)
        choices._member_map_[name] = choices._value2member_map_[name] = member

    registry.follow(add)
    return choices


@dataclass
class PyramidionConfig(FairseqDataclass):
    """Options of :class:`~pyramidion_fairseq.models.pyramidion.PyramidionModel`. Lengths are in tokens."""

    # Sparsification
    attention: _names_of(ATTENTIONS) = _option("blockwise", "self-attention of the encoder")
    block_size: int = _option(512, "tokens in a block of block-wise attention")
    local_heads: int = _option(2, "heads of lsh and efficient attention that attend to a local window instead")
    local_window: int = _option(
        128, "tokens in a block of the local window: a token sees its own block and the two beside it"
    )
    lsh_bucket_size: int = _option(64, "tokens in a chunk of lsh attention, and in a bucket on average")
    lsh_hashes: int = _option(4, "rounds of hashing in lsh attention")
    hash_seed: int = _option(1, "seed of the hash functions of evaluation; those of training change at every step")
    lsg_block_size: int = _option(
        128, "tokens in a block of lsg attention; a token sees its own block and the two beside it"
    )
    lsg_sparse_block_size: int = _option(
        128, "sparse tokens that lsg attention sees on each side of the window; 0: none"
    )
    lsg_sparsity_factor: int = _option(2, "tokens that lsg attention reduces to one sparse token")
    lsg_sparsity_type: ChoiceEnum(SPARSITY_TYPES) = _option("norm", "how lsg attention gets its sparse tokens")
    lsg_global_tokens: int = _option(1, "learned tokens before each document with lsg attention, from 1 to 512")
    lsg_lsh_pre_rounds: int = _option(1, "rounds of hashing before the one that reduces, with sparsity type lsh")
    lsg_mask_first_token: bool = _option(False, "lsg attention does not see the document's first token")
    lsg_no_global_to_decoder: bool = _option(False, "the decoder does not see the global tokens of lsg attention")
    lsg_no_pool_with_global: bool = _option(
        False, "with --lsg-no-global-to-decoder, do not put the first global token in place of the first vector"
    )
    pooling_schedule: str = _option(
        "",
        'where the encoder pools: "2:2048,3:512" keeps 2048 tokens after layer 2, 512 after layer 3; "halve": half of '
        "--max-source-positions after layer 1, and half of the rest after every other; empty: never",
    )
    scorer: _names_of(SCORERS) = _option("linear", "what rates the tokens before a pooling")
    scorer_activation: ChoiceEnum(["sigmoid", "none"]) = _option(
        "sigmoid", "applied to ratings that are not in [0, 1] by themselves; the peaked softmax expects sigmoid"
    )
    pooler: _names_of(POOLERS) = _option("successive_halving", "what selects the tokens")
    softmax_base: float = _option(
        20.0, "pairs of scores are weighted by softmax(base**score); 0: by the plain softmax(score) of Eq. 6"
    )
    no_sort: bool = _option(False, "successive halving pairs tokens by position instead of sorting by score")
    score_order: bool = _option(False, "selected tokens stay in the order of their scores (Algorithm 1)")

    no_upsampling: bool = _option(False, "funnel: the decoder reads the pooled states instead of the upsampled ones")
    index_stride: int = _option(4, "scorer index: every so many tokens one gets the score 1; n/k keeps k of n")
    embedding_coordinate: int = _option(0, "scorer embedding: the coordinate that is the score, counted from 0")
    iterative_temperature: float = _option(
        1e-3, "pooler iterative_topk: softmax of squared differences of scores over this; the paper's figures: 0.5"
    )
    gumbel_temperature: float = _option(0.1, "pooler gumbel_topk: softmax of log scores over this")
    sinkhorn_epsilon: float = _option(1e-2, "pooler sinkhorn_topk: strength of the entropy, squared units of score")
    sinkhorn_iterations: int = _option(200, "pooler sinkhorn_topk: Sinkhorn iterations")
    threshold_link: ChoiceEnum(list(LINKS)) = _option(
        "laplace", "pooler threshold_topk: gate of a score by its distance from the threshold"
    )
    threshold_epsilon: float = _option(0.1, "pooler threshold_topk: width of the link, units of score")

    # Copying
    pointer: bool = _option(
        False, "summary tokens are written or copied from the document, through the poolings (pointer-generator)"
    )
    pointer_layer: int = _option(
        0, "decoder layer whose attention to the document points, counted from 1; 0: the last one"
    )
    pointer_heads: int = _option(1, "how many of its heads point, the first ones, averaged")
    pointer_context: int = _option(
        3, "how many of the summary's last tokens are looked for in the document, to continue there; 0: none"
    )
    pointer_bias: float = _option(
        -1.0, "initial logit of the gates of copying and of continuing what was copied; that of writing is 0"
    )
    pointer_detach_weights: bool = _option(False, "scorers learn nothing from what was copied")

    # Lengths
    max_source_positions: int = _option(8192, "maximum length of a document")
    max_target_positions: int = _option(1024, "maximum length of a summary")

    prepend_bos: bool = _option(
        False, "documents and summaries start with <s>, as those that BART was trained on; by our task"
    )
    document_marker: str = _option(
        "",
        "symbol of a language that documents have: with --prepend-bos instead of <s>, else after </s>; by our task",
    )
    summary_marker: str = _option(
        "",
        "symbol of a language that summaries have: with --prepend-bos instead of <s>, else writing starts from it "
        "instead of </s>",
    )

    # Encoder
    encoder_layers: int = _option(6, "encoder layers")
    encoder_embed_dim: int = _option(768, "width of the encoder")
    encoder_ffn_embed_dim: int = _option(3072, "width of the encoder's feed-forward layers")
    encoder_attention_heads: int = _option(8, "attention heads of the encoder")
    encoder_normalize_before: bool = _option(False, "layer norm before each encoder block instead of after it")
    encoder_learned_pos: bool = _option(False, "learned instead of sinusoidal positions in the encoder")
    pegasus_positions: bool = _option(
        False, "sinusoidal positions are PEGASUS's: counted from 0, and of other wavelengths than fairseq's"
    )

    # Decoder
    decoder_layers: int = _option(6, "decoder layers")
    decoder_embed_dim: int = _option(768, "width of the decoder")
    decoder_ffn_embed_dim: int = _option(3072, "width of the decoder's feed-forward layers")
    decoder_attention_heads: int = _option(8, "attention heads of the decoder")
    decoder_normalize_before: bool = _option(False, "layer norm before each decoder block instead of after it")
    decoder_learned_pos: bool = _option(False, "learned instead of sinusoidal positions, with --decoder-positions")
    perturbed_sigma: float = _option(
        0.05, "pooler perturbed_topk: standard deviation of the noise in training, units of score"
    )
    perturbed_samples: int = _option(100, "pooler perturbed_topk: selections that are averaged in training")
    decoder_positions: bool = _option(False, "positional embeddings in the decoder; the paper has none there")

    # Embeddings
    share_all_embeddings: bool = _option(
        False,
        "one embedding for encoder, decoder and output (needs a joined dictionary); set by all named archs but "
        "pooled_transformer",
    )
    share_decoder_input_output_embed: bool = _option(False, "one embedding for decoder input and output")
    no_scale_embedding: bool = _option(False, "do not scale embeddings by sqrt(width)")
    layernorm_embedding: bool = _option(False, "layer norm after the embedding")

    # Regularisation and activations
    activation_fn: ChoiceEnum(get_available_activation_fns()) = _option("relu", "activation of feed-forward layers")
    dropout: float = _option(0.1, "dropout probability")
    attention_dropout: float = _option(0.1, "dropout probability of attention weights")
    activation_dropout: float = _option(0.1, "dropout probability after the activation of feed-forward layers")

    # Memory and speed
    checkpoint_activations: bool = _option(False, "recompute activations in the backward pass to save memory")
    offload_activations: bool = _option(False, "as --checkpoint-activations, and keep what is left on the CPU")
    compile_encoder_layers: bool = _option(
        False, "torch.compile for what encoder layers do to each token by itself; needs a C++ compiler"
    )
    min_params_to_wrap: int = _option(int(1e8), "smallest layer that --ddp-backend fully_sharded wraps, in parameters")


#: Smallest and largest values of options that count something. The largest ones keep an untrusted checkpoint from
#: building huge tables or computing without end. They are far beyond what fits a machine.
COUNTS = {
    **{f"{side}_layers": (0, 1000) for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": (1, 1024) for side in ("encoder", "decoder")},
    **{f"{side}_{what}embed_dim": (1, 2**20) for side in ("encoder", "decoder") for what in ("", "ffn_")},
    **{f"max_{side}_positions": (1, 2**20) for side in ("source", "target")},
    **dict.fromkeys(("block_size", "lsh_bucket_size", "lsg_block_size", "local_window"), (1, 2**20)),
    **dict.fromkeys(("lsg_sparse_block_size", "local_heads"), (0, 2**20)),
    "lsg_sparsity_factor": (1, 1024),
    "lsh_hashes": (1, 255),
    **dict.fromkeys(("lsg_lsh_pre_rounds", "sinkhorn_iterations"), (0, 100_000)),
    "index_stride": (0, 2**22),
    "perturbed_samples": (2, 100_000),
    "pointer_context": (0, 20),
}


def _check_counts(options: Namespace) -> None:
    for name, (least, most) in COUNTS.items():
        value = getattr(options, name)
        if isinstance(value, (int, float)) and not least <= value <= most:
            flag = "--" + name.replace("_", "-")
            raise PyramidionError(f"{flag} must be at least {least} and at most {most:,}, got {value!r}")


def read_options(cfg: Any, kind: Any) -> dict[str, Any]:
    """Return the options of a dataclass as plain values, with defaults for those that ``cfg`` lacks."""
    is_config = OmegaConf.is_config(cfg)
    given: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True) if is_config else vars(cfg)
    return {f.name: given.get(f.name, f.default) for f in fields(kind) if f.name != "_name"}


def complete(cfg: Any) -> Namespace:
    """Return the options as a plain namespace.

    Options missing in ``cfg``, for instance in an older checkpoint, get their defaults.

    Args:
        cfg: a PyramidionConfig, an omegaconf DictConfig or an argparse Namespace; unknown fields are dropped.

    Raises:
        PyramidionError: values contradict each other.
    """
    options = Namespace(**read_options(cfg, PyramidionConfig))
    _check_counts(options)
    schedule = PoolingSchedule.of(options.pooling_schedule, options.max_source_positions, options.encoder_layers)
    options.pooling_schedule = str(schedule)
    schedule.check_layers(options.encoder_layers)
    schedule.check_source(options.max_source_positions)
    for side in ("encoder", "decoder"):
        dim, heads = getattr(options, side + "_embed_dim"), getattr(options, side + "_attention_heads")
        if dim % heads:
            raise PyramidionError(
                f"--{side}-embed-dim ({dim}) must be a multiple of --{side}-attention-heads ({heads})"
            )
    if options.softmax_base != 0 and not 1 < options.softmax_base < math.inf:  # also where it is NaN
        raise PyramidionError(
            f"--softmax-base must be above 1 and finite (or 0: plain softmax), got {options.softmax_base}"
        )
    if options.pointer:
        _check_pointer(options)
    _check_room(options)
    return options


def _check_room(options: Namespace) -> None:
    """Raise an error for lengths that hold nothing besides ``</s>``, ``<s>`` and the symbol of a language.

    Without the latter two, a length of 1 is allowed: it holds ``</s>``.
    """
    added = {"source": 1 + (options.prepend_bos or bool(options.document_marker)), "target": 1 + options.prepend_bos}
    for side, count in added.items():
        longest = getattr(options, f"max_{side}_positions")
        if longest <= count and count > 1:
            raise PyramidionError(f"--max-{side}-positions {longest}: must be more than the {count} symbols added")


def _check_pointer(options: Namespace) -> None:
    """Raise an error for settings with which a pointer cannot know exactly which tokens it copies."""
    layers, heads = options.decoder_layers, options.decoder_attention_heads
    if not 0 <= options.pointer_layer <= layers:
        raise PyramidionError(f"--pointer-layer must be from 1 to {layers}, or 0, got {options.pointer_layer}")
    if not 1 <= options.pointer_heads <= heads:
        raise PyramidionError(f"--pointer-heads must be from 1 to {heads}, got {options.pointer_heads}")
    if options.pooling_schedule and not POOLERS.get(options.pooler).exact_record:
        exact = ", ".join(name for name in POOLERS.names() if POOLERS.get(name).exact_record)
        raise PyramidionError(
            f"--pointer: with --pooler {options.pooler} the tokens of a vector are not known exactly; "
            f"take one of {exact}"
        )
