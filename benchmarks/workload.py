"""What the benchmarks of training and memory run: a named architecture, at the paper's size or divided by a factor."""

from __future__ import annotations

import functools
from argparse import Namespace
from typing import Any, Callable, NamedTuple

import measure
import torch
from fairseq.data import Dictionary
from out_of_memory import attempt

from pyramidion_fairseq.complexity import build_on_meta, count
from pyramidion_fairseq.config import PyramidionConfig
from pyramidion_fairseq.models import PyramidionModel
from pyramidion_fairseq.models.architectures import fields_of
from pyramidion_fairseq.schedule import PoolingSchedule

#: The paper's: tokens of a summary in its timings, and its vocabulary.
TARGET, VOCABULARY = 256, 32000
#: What a factor divides: lengths and widths. Heads too, so that each stays as wide as it is.
_DIVIDED = [
    "block_size",
    "local_window",
    "lsh_bucket_size",
    "max_source_positions",
    *(side + part for side in ("encoder_", "decoder_") for part in ("embed_dim", "ffn_embed_dim", "attention_heads")),
]
_PAPER = {
    **{side + "attention_heads": 8 for side in ("encoder_", "decoder_")},
    **{side + "embed_dim": 768 for side in ("encoder_", "decoder_")},
    **{side + "ffn_embed_dim": 3072 for side in ("encoder_", "decoder_")},
    **{"block_size": 512, "local_window": 128, "lsh_bucket_size": 64, "max_source_positions": 8192},
}


def divided(arch: str, factor: int, **changes: Any) -> dict[str, Any]:
    """Return options of an architecture with every length and width divided by ``factor``.

    Attention and linear layers then keep their shares of the work, and so do two architectures their ratio.

    Args:
        arch: a name of the table of architectures.
        factor: a power of two up to 4.
        changes: options that differ, before the division.
    """
    options = {**_PAPER, **fields_of(arch), **changes}
    steps = _schedule(options).steps
    options.update({name: options[name] // factor for name in _DIVIDED})
    options["local_heads"] = max(1, 2 // factor)
    options["pooling_schedule"] = ",".join(f"{layer}:{k // factor}" for layer, k in steps)
    return options


def _schedule(options: dict[str, Any]) -> PoolingSchedule:
    """Return where an architecture of these options pools, lengths undivided."""
    given = {**vars(PyramidionConfig()), **options}
    return PoolingSchedule.of(given["pooling_schedule"], given["max_source_positions"], given["encoder_layers"])


def build(options: dict[str, Any], device: str, vocabulary: int = VOCABULARY) -> PyramidionModel:
    """Return a model in training mode, with seeded random weights."""
    torch.manual_seed(0)
    dictionary = Dictionary()
    for i in range(vocabulary - len(dictionary)):
        dictionary.add_symbol(str(i))
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    return PyramidionModel.build_model(Namespace(**options), task).to(device).train()


def batch(model: PyramidionModel, documents: int, length: int, target: int, padded_to: int = 0) -> dict[str, Any]:
    """Return random documents of ``length`` tokens with summaries of ``target``: what the model takes.

    Args:
        model: says which device and vocabulary.
        documents, length, target: how many, and tokens in each document and summary.
        padded_to: columns of the batch, where they are more than ``length``.
    """
    device, words = model.encoder.embed_tokens.weight.device, model.encoder.embed_tokens.num_embeddings
    generator = torch.Generator().manual_seed(1)
    source = torch.ones(documents, max(length, padded_to), dtype=torch.long)
    source[:, :length] = torch.randint(4, words, (documents, length), generator=generator)
    summary = torch.randint(4, words, (documents, target), generator=generator)
    return {
        "src_tokens": source.to(device),
        "src_lengths": torch.full((documents,), length, device=device),
        "prev_output_tokens": summary.to(device),
        "document_lengths": [length] * documents,
    }


def training_step(
    model: PyramidionModel, net_input: dict[str, Any], precision: str, passes: int = 1
) -> Callable[[], None]:
    """Return a call that does so many forward and backward passes with cross entropy, whose gradients add up.

    In fp16 without scaling of the loss, which takes no time.
    """
    device, summary = net_input["src_tokens"].device, net_input["prev_output_tokens"]

    def step() -> None:
        model.zero_grad(set_to_none=True)
        for _ in range(passes):
            with measure.autocast(device.type, precision):
                logits = model(**net_input)[0]
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), summary.flatten())
            (loss / passes).backward()

    return step


def device_of(model: PyramidionModel) -> str:
    """Return "cpu" or "cuda"."""
    return model.encoder.embed_tokens.weight.device.type


class Step(NamedTuple):
    """A training step of many documents, in as few passes as memory allows."""

    call: Callable[[], None]
    documents: int
    passes: int
    needs: str = ""
    """What all documents at once would have needed, where they did not fit."""

    def batch(self) -> str:
        """Return how the documents were taken: "64", or "4 x 16 (64 at once: about 210 GiB)"."""
        if self.passes == 1:
            return str(self.documents)
        return f"{self.passes} x {self.documents // self.passes} ({self.documents} at once: {self.needs})"


def fitting_step(
    model: PyramidionModel, documents: int, length: int, precision: str, target: int = TARGET, padded_to: int = 0
) -> Step:
    """Return a training step of random documents that halves them until a pass fits, and then takes several passes.

    Args:
        model: says which device and vocabulary.
        documents: a power of two.
        length, target, padded_to: as of :func:`batch`.
        precision: a key of ``measure.PRECISIONS``.
    """
    device, passes, needs = device_of(model), 1, ""
    while True:
        net_input = batch(model, documents // passes, length, target, padded_to)
        step = training_step(model, net_input, precision, passes)
        # One document has to fit, or that is the row's result; a CPU takes what is asked for.
        if passes == documents or device == "cpu":
            return Step(step, documents, passes, needs)
        once = training_step(model, net_input, precision)
        peak, failure = attempt(functools.partial(measure.peak_memory_of, once, device))
        model.zero_grad(set_to_none=True)
        if not failure:
            return Step(step, documents, passes, f"about {peak * passes / 2**30:.0f} GiB" if passes > 1 else "")
        passes, needs = 2 * passes, failure


def flops(options: dict[str, Any], documents: int, length: int, target: int, vocabulary: int = VOCABULARY) -> int:
    """Return floating-point operations of a training step.

    Two for each multiplication, three passes as long as the first.
    """
    model = build_on_meta("pooled_transformer", vocabulary, **options)
    return 6 * documents * count(model, length, target).multiplications
