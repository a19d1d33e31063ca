"""The workload of the training and memory benchmarks: an architecture at the paper's size or divided by a factor."""

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

#: The paper's tokens per summary in its timings, and its vocabulary.
TARGET, VOCABULARY = 256, 32000
#: Options that a factor divides: lengths, widths, and heads, so that the width of a head stays the same.
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
    """Return the options of an architecture with all lengths and widths divided by ``factor``.

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
    """Return the pooling schedule of an architecture with these options, with undivided lengths."""
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
    """Return a call of several forward and backward passes with cross entropy that accumulates gradients.

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
    """Memory that all documents at once would need, if they do not fit."""

    def batch(self) -> str:
        """Return how the documents were taken: "64", or "4 x 16 (64 at once: about 210 GiB)"."""
        if self.passes == 1:
            return str(self.documents)
        return f"{self.passes} x {self.documents // self.passes} ({self.documents} at once: {self.needs})"


def fitting_step(
    model: PyramidionModel, documents: int, length: int, precision: str, target: int = TARGET, padded_to: int = 0
) -> Step:
    """Return a training step of random documents in one pass, or in several if one does not fit into memory.

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
        # If a single document does not fit, that is the row's result; a CPU uses the requested batch.
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
