"""Random cases of the top-k operator, and its outputs and gradients."""

import torch


def random_case(batch, length, dim, seed, ties=False, padding=None, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(batch, length, dim, generator=generator, dtype=dtype).requires_grad_()
    scores = torch.rand(batch, length, generator=generator, dtype=dtype)
    if ties:
        scores = (scores * 4).round() / 4
    mask = None
    if padding is not None:
        mask = torch.zeros(batch, length, dtype=torch.bool)
        for row in range(1, batch):  # the first document has no padding
            count = int(torch.randint(0, length, (), generator=generator))
            if padding == "right":
                mask[row, length - count :] = True
            elif padding == "left":
                mask[row, :count] = True
            else:
                mask[row, torch.randperm(length, generator=generator)[:count]] = True
    return embeddings, scores.requires_grad_(), mask


def outputs_and_gradients(function, embeddings, scores, k, **options):
    pooled = function(embeddings, scores, k, **options)
    generator = torch.Generator().manual_seed(1)
    grads = (torch.randn(x.shape, generator=generator).to(x.device) for x in (pooled.embeddings, pooled.scores))
    loss = sum((x * grad).sum() for x, grad in zip((pooled.embeddings, pooled.scores), grads))
    return pooled, torch.autograd.grad(loss, [embeddings, scores])
