"""The small BART of tests/data/lsg_converter.npz, made from seeds for the recording and for the test."""

import torch

from pyramidion_fairseq.interop import byte_level, dictionary_files
from pyramidion_fairseq.interop.bart.names import EMBEDDINGS

SHAPE = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
SHAPE.update(encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=1024)
#: Tokens of the documents: the longest possible, and one that is no multiple of the block.
LENGTHS = (4096, 2900)
#: Tokens whose states are compared.
PROBES = torch.tensor([0, 1, 127, 128, 300, 511, 1000, 1024, 2047, 2899])
_SIZES = {"block_size": 128, "sparse_block_size": 128, "sparsity_factor": 2, "num_global_tokens": 2}
#: Options of the published converter; its bos_pooling counts padding, so the test leaves out the second document.
CASES = {
    kind: {**_SIZES, "sparsity_type": kind}
    for kind in ("none", "norm", "pooling", "lsh", "stride", "block_stride", "bos_pooling")
}


def ROTATIONS():
    """Yield the random numbers of lsh, for every layer two rounds: 2 heads of 8, 128 buckets, then 64."""
    generator = torch.Generator().manual_seed(11)
    for _ in range(SHAPE["encoder_layers"]):
        for buckets in (128, 64):
            yield torch.randn(2, 8, buckets // 2, generator=generator)


def symbols():
    """Return the special symbols, the bytes and <mask>."""
    return [*dictionary_files.SPECIALS, *byte_level.byte_symbols(), "<mask>"]


def state_of_bart():
    """Return tensors by fairseq's names, with values far from the initial ones."""
    dim, hidden, words = SHAPE["d_model"], SHAPE["encoder_ffn_dim"], len(symbols())
    shapes = {"encoder.embed_tokens.weight": (words, dim)}
    for side, layers in (("encoder", SHAPE["encoder_layers"]), ("decoder", SHAPE["decoder_layers"])):
        shapes[f"{side}.embed_positions.weight"] = (1026, dim)
        norms = [f"{side}.layernorm_embedding"]
        for prefix in (f"{side}.layers.{i}." for i in range(layers)):
            attentions = ["self_attn"] + ["encoder_attn"] * (side == "decoder")
            norms += [prefix + name + "_layer_norm" for name in (*attentions, "final")]
            linears = {f"{name}.{x}_proj": (dim, dim) for name in attentions for x in ("q", "k", "v", "out")}
            for name, shape in {**linears, "fc1": (hidden, dim), "fc2": (dim, hidden)}.items():
                shapes[f"{prefix}{name}.weight"], shapes[f"{prefix}{name}.bias"] = shape, shape[:1]
        for norm in norms:
            shapes[norm + ".weight"] = shapes[norm + ".bias"] = (dim,)
    generator = torch.Generator().manual_seed(5)
    state = {}
    for name, shape in shapes.items():
        noise = 0.3 * torch.randn(shape, generator=generator)
        state[name] = 1 + noise if "norm" in name and name.endswith("weight") else noise
    state.update({name: state["encoder.embed_tokens.weight"] for name in EMBEDDINGS})
    return {**state, "encoder.version": torch.tensor([3.0]), "decoder.version": torch.tensor([3.0])}


def documents():
    """Return (2, 4096) right-padded ids."""
    generator = torch.Generator().manual_seed(7)
    batch = torch.full((len(LENGTHS), max(LENGTHS)), 1)
    for row, length in zip(batch, LENGTHS):
        row[:length] = torch.randint(4, 200, (length,), generator=generator)
        row[0], row[length - 1] = 0, 2
    return batch
