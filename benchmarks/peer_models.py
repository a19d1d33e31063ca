"""The models of peers.py: transformers' LED, LongT5 and PEGASUS-X, and two of the package, at the same sizes."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple

import generation
import measure
import torch
import workload
from torch import Tensor, nn
from transformers import (
    LEDConfig,
    LEDForConditionalGeneration,
    LongT5Config,
    LongT5ForConditionalGeneration,
    PegasusXConfig,
    PegasusXForConditionalGeneration,
)

#: Symbols of all models: <s>, <pad>, </s>, <unk>, words.
PAD, EOS, WORDS = 1, 2, 4


class Sizes(NamedTuple):
    """The sizes that all models share; those of the paper's deep models."""

    width: int = 768
    length: int = 8192
    vocabulary: int = 32000
    target: int = 512
    """The longest summary."""
    layers: int = 6
    """Layers of the encoder and of the decoder."""

    @property
    def heads(self) -> int:
        """Each 96 wide, or one."""
        return max(1, self.width // 96)

    @property
    def block(self) -> int:
        """Tokens of a block or window: 512 for 8192."""
        return self.length // 16


class Peer(NamedTuple):
    """A model and its description, for the table of similarities and differences."""

    model: nn.Module
    vectors: int
    """Vectors of a full document that the decoder reads."""
    window: str
    rest: str

    @property
    def parameters(self) -> int:
        """Parameters; shared ones are counted once."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def ours(arch: str, sizes: Sizes, device: str = "cpu") -> Peer:
    """Return an architecture of the package, with lengths in the paper's proportions."""
    options = workload.divided(arch, 1, max_source_positions=sizes.length, block_size=sizes.block)
    for side in ("encoder_", "decoder_"):
        options |= {side + "embed_dim": sizes.width, side + "ffn_embed_dim": 4 * sizes.width}
        options[side + "attention_heads"] = sizes.heads
    steps = [step.split(":") for step in options["pooling_schedule"].split(",") if step]
    kept = [(layer, int(k) * sizes.length // 8192) for layer, k in steps]
    options["pooling_schedule"] = ",".join(f"{layer}:{k}" for layer, k in kept)
    options["max_target_positions"] = sizes.target
    model = workload.build(options, device, sizes.vocabulary)
    pooled = "pools to " + " and ".join(f"{k:,} after layer {layer}" for layer, k in kept) if kept else "no pooling"
    window = f"its block of {sizes.block}"
    return Peer(model, kept[-1][1] if kept else sizes.length, window, f"{pooled}; decoder without positions")


def led(sizes: Sizes) -> Peer:
    """Return LED with a window in proportion to its published checkpoints."""
    config = LEDConfig(
        **_bart_like(sizes),
        max_encoder_position_embeddings=sizes.length,
        max_decoder_position_embeddings=sizes.target,
        attention_window=sizes.block,
        bos_token_id=0,
    )
    window = f"{sizes.block // 2} to either side"
    rest = "first token is global; learnt positions; projections of their own for global tokens"
    return Peer(LEDForConditionalGeneration(config), sizes.length, window, rest)


def longt5(sizes: Sizes) -> Peer:
    """Return LongT5 with transient-global attention, radius and global blocks as published."""
    radius = max(1, sizes.block // 4 - 1)
    config = LongT5Config(
        vocab_size=sizes.vocabulary,
        d_model=sizes.width,
        d_kv=sizes.width // sizes.heads,
        d_ff=4 * sizes.width,
        num_layers=sizes.layers,
        num_decoder_layers=sizes.layers,
        num_heads=sizes.heads,
        local_radius=radius,
        encoder_attention_type="transient-global",
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=EOS,
    )
    window = f"{radius} to either side, and {sizes.length // config.global_block_size} global"
    rest = f"a global token of every {config.global_block_size}, made anew in each layer; relative positions; RMS norm"
    return Peer(LongT5ForConditionalGeneration(config), sizes.length, window, rest)


def pegasus_x(sizes: Sizes) -> Peer:
    """Return PEGASUS-X with staggered blocks and as many global tokens as its base model."""
    config = PegasusXConfig(
        **_bart_like(sizes),
        max_position_embeddings=sizes.length,
        block_size=sizes.block,
        num_global_tokens=min(128, sizes.block),
    )
    window = (
        f"its block of {sizes.block}, shifted by half in every second layer, and {config.num_global_tokens} global"
    )
    rest = "global tokens have states of their own; sinusoidal positions"
    return Peer(PegasusXForConditionalGeneration(config), sizes.length, window, rest)


def _bart_like(sizes: Sizes) -> dict[str, Any]:
    sides = {}
    for side in ("encoder", "decoder"):
        sides[f"{side}_layers"] = sizes.layers
        sides[f"{side}_attention_heads"] = sizes.heads
        sides[f"{side}_ffn_dim"] = 4 * sizes.width
    tokens = {"pad_token_id": PAD, "eos_token_id": EOS, "decoder_start_token_id": EOS}
    return {"vocab_size": sizes.vocabulary, "d_model": sizes.width, **sides, **tokens}


PEERS: dict[str, Callable[[Sizes], Peer]] = {
    "deeppyramidion": lambda sizes: ours("deeppyramidion", sizes),
    "deep_blockwise": lambda sizes: ours("deep_blockwise", sizes),
    "LED": led,
    "LongT5": longt5,
    "PEGASUS-X": pegasus_x,
}


def build(name: str, sizes: Sizes, device: str) -> Peer:
    """Return a model in float32 on a device, with seeded random weights, in training mode."""
    torch.manual_seed(0)
    peer = PEERS[name](sizes)
    peer.model.to(device).train()
    return peer


def documents(count: int, sizes: Sizes, device: str) -> Tensor:
    """Return (count, length) random tokens of full length."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(WORDS, sizes.vocabulary, (count, sizes.length), generator=generator).to(device)


def inputs(name: str, tokens: Tensor) -> dict[str, Tensor]:
    """Return the inputs of a transformers model: tokens, their mask, and the global token of LED."""
    found = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    if name == "LED":
        found["global_attention_mask"] = torch.zeros_like(tokens)
        found["global_attention_mask"][:, 0] = 1
    return found


def for_generation(model: Any, precision: str) -> None:
    """Convert a model to the precision and to evaluation mode, as the commands do."""
    model.eval().to(measure.PRECISIONS[precision])
    if not is_theirs(model):
        model.make_generation_fast_(need_attn=False)


def is_theirs(model: Any) -> bool:
    """Return whether a model is one of transformers."""
    return hasattr(model, "get_encoder")


def encoding(name: str, model: Any, tokens: Tensor) -> Callable[[], Tensor]:
    """Return a call of the encoder without gradients: its vectors."""
    known = [tokens.size(1)] * len(tokens)  # as the task has it: without it a GPU would mask every block

    @torch.no_grad()
    def encode() -> Tensor:
        if not is_theirs(model):
            return model.encoder(tokens, None, document_lengths=known)["encoder_out"][0].transpose(0, 1)
        return model.get_encoder()(**inputs(name, tokens)).last_hidden_state

    return encode


def training(name: str, model: Any, tokens: Tensor, target: int, precision: str) -> Callable[[], None]:
    """Return a call of a step: forward, cross-entropy of ``target`` tokens, backward."""
    generator = torch.Generator().manual_seed(2)
    embeddings = model.get_input_embeddings() if is_theirs(model) else model.encoder.embed_tokens
    summary = torch.randint(WORDS, embeddings.num_embeddings, (len(tokens), target), generator=generator)
    summary = summary.to(tokens.device)

    def logits() -> Tensor:
        if not is_theirs(model):
            lengths = [tokens.size(1)] * len(tokens)
            return model(tokens, None, summary, document_lengths=lengths)[0]
        return model(**inputs(name, tokens), decoder_input_ids=summary, use_cache=False).logits

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with measure.autocast(tokens.device.type, precision):
            loss = nn.functional.cross_entropy(logits().flatten(0, 1).float(), summary.flatten())
        loss.backward()

    return step


def generating(name: str, model: Any, tokens: Tensor, written: int, beam: int) -> Callable[[], int]:
    """Return a call that encodes and writes summaries of ``written`` tokens; it returns their length."""
    if not is_theirs(model):
        search = generation.SequenceGenerator(
            [model], model.decoder.dictionary, beam_size=beam, min_len=written - 1, max_len_b=written - 1
        )
        lengths = torch.full((len(tokens),), tokens.size(1), device=tokens.device)
        known = [tokens.size(1)] * len(tokens)
        sample = {"net_input": {"src_tokens": tokens, "src_lengths": lengths, "document_lengths": known}}

    @torch.no_grad()
    def write() -> int:
        if not is_theirs(model):
            return sum(len(hypotheses[0]["tokens"]) for hypotheses in search.generate([model], sample))
        length = {"min_new_tokens": written, "max_new_tokens": written}
        found = model.generate(**inputs(name, tokens), num_beams=beam, do_sample=False, **length)
        return (found.size(1) - 1) * len(found)

    return write
