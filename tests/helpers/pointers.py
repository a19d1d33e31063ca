"""Models and documents for tests of the pointer."""

import torch

#: Tolerance: fairseq's decoder returns attention in float32 also for float64 models; step by step it keeps float64.
ROUNDING = 1e-6


def gated(model, seed=0):
    """Give the model random gates, which depend on the state, and return it."""
    generator = torch.Generator().manual_seed(seed)
    gate = model.decoder.pointer.gate
    with torch.no_grad():
        gate.weight.copy_(torch.randn(gate.weight.shape, generator=generator))
    return model


def repetitive(lengths, seed=0):
    """Return right-padded documents of few distinct words, so that words repeat with continuations."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.full((len(lengths), max(lengths)), 1)
    for row, length in zip(batch, lengths):
        row[:length] = torch.randint(4, 14, (length,), generator=generator)
        row[length - 1] = 2
    return batch
