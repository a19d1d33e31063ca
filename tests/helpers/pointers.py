"""Models with a pointer."""

import torch

#: fairseq's decoder hands out attention in float32, also that of float64 models; one step at a time keeps float64.
ROUNDING = 1e-6


def gated(model, seed=0):
    """The model with gates that depend on the state, and are open."""
    generator = torch.Generator().manual_seed(seed)
    gate = model.decoder.pointer.gate
    with torch.no_grad():
        gate.weight.copy_(torch.randn(gate.weight.shape, generator=generator))
    return model


def repetitive(lengths, seed=0):
    """Right-padded documents of few distinct words, so that continuations exist."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.full((len(lengths), max(lengths)), 1)
    for row, length in zip(batch, lengths):
        row[:length] = torch.randint(4, 14, (length,), generator=generator)
        row[length - 1] = 2
    return batch
