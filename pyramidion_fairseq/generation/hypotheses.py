"""Which document does each hypothesis belong to, while a beam search repeats, reorders and drops hypotheses?

fairseq's generator repeats every document for each of its hypotheses and selects from the repeated ones at every
step. Here documents stay where they are, and only the number of hypotheses that each has is kept.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .encoder_output import ADDED_SCORES, DOCUMENT_INDEX


class Grouping(NamedTuple):
    """Hypotheses beside each other, the same number for each document; what :func:`regroup` returns."""

    kept: Tensor | None
    """(B',) the documents that are left, as indices into those before; None if all are, in their order."""
    beam: int
    """Hypotheses of each document."""


def regroup(order: Tensor, documents: int, beam: int | None, wait: bool | None = None) -> Grouping:
    """Find the documents that hypotheses belong to after they were selected.

    Args:
        order: (R',) int64, the selected rows as indices into the ``documents * beam`` ones before.
        documents: how many there are.
        beam: hypotheses of each until now; None before they were repeated for the first time.
        wait: look at the order's values also where it keeps the number of hypotheses. Default: not on a GPU, where
            the host would wait in every step. Such an order is then taken to stay within each document, as those of
            all of fairseq's searches do (fairseq takes it so everywhere), which the device asserts.

    Returns:
        The documents and the beam. Rows that are no longer grouped get a document each.
    """
    rows, before = len(order), beam or 1  # hypotheses now; of each document before
    document_index = order if beam is None else torch.div(order, beam, rounding_mode="floor")  # (R',)
    all_documents = torch.arange(documents, device=order.device)

    # All documents are left, in their order, each with the same number of hypotheses.
    if rows % documents == 0:
        in_order = all_documents.repeat_interleave(rows // documents)
        if wait is None:
            wait = not order.is_cuda
        if beam is not None and rows == documents * beam and not wait:
            torch._assert_async(
                (document_index == in_order).all(),
                "hypotheses moved from one document to another: generate with plain_generation(model)",
            )
            return Grouping(None, beam)
        if torch.equal(document_index, in_order):
            return Grouping(None, rows // documents)

    # Some documents are left, or in another order, each with as many hypotheses as before.
    kept = document_index[::before]
    if rows % before == 0 and torch.equal(document_index, kept.repeat_interleave(before)):
        return Grouping(kept, before)

    # Hypotheses of a document are no longer beside each other: each row gets a document of its own.
    return Grouping(document_index, 1)


def repeated(encoder_out: dict[str, list[Tensor]]) -> dict[str, list[Tensor]]:
    """Return the encoder's output as fairseq's decoder reads it: states, mask and scores for every hypothesis."""
    document_index = encoder_out[DOCUMENT_INDEX][0]
    return {
        **encoder_out,
        "encoder_out": [states.index_select(1, document_index) for states in encoder_out["encoder_out"]],
        **{
            key: [x.index_select(0, document_index) for x in encoder_out.get(key, [])]
            for key in ("encoder_padding_mask", ADDED_SCORES)
        },
    }
