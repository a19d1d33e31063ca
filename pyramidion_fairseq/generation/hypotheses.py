"""Mapping hypotheses to documents, while a beam search repeats, reorders and drops hypotheses.

fairseq's generator repeats every document for each of its hypotheses, and selects from the repeated ones in every
step. Here documents are stored once, and only the number of hypotheses per document is tracked.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .encoder_output import ADDED_SCORES, DOCUMENT_INDEX


class Grouping(NamedTuple):
    """Result of :func:`regroup`: adjacent hypotheses, the same number for each document."""

    kept: Tensor | None
    """(B',) indices of the remaining documents among the previous ones; None if all remain in order."""
    beam: int
    """Number of hypotheses per document."""


def regroup(order: Tensor, documents: int, beam: int | None, wait: bool | None = None) -> Grouping:
    """Find the documents of the hypotheses after a selection of rows.

    Args:
        order: (R',) int64 indices of the selected rows among the previous ``documents * beam`` rows.
        documents: number of documents.
        beam: previous number of hypotheses per document; None before documents are repeated for the first time.
        wait: whether to read the values of ``order`` even if it keeps the number of hypotheses. Default: not on a GPU,
            where the host would synchronise in every step. Such an order is then assumed to stay within each document,
            as in all of fairseq's searches (fairseq always assumes it), which is asserted on the device.

    Returns:
        The documents and the beam. If rows are no longer grouped, each of them gets its own document.
    """
    rows, before = len(order), beam or 1  # current hypotheses; previous hypotheses per document
    document_index = order if beam is None else torch.div(order, beam, rounding_mode="floor")  # (R',)
    all_documents = torch.arange(documents, device=order.device)

    # All documents remain in order, each with the same number of hypotheses.
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

    # Some documents remain, or in another order, each with as many hypotheses as before.
    kept = document_index[::before]
    if rows % before == 0 and torch.equal(document_index, kept.repeat_interleave(before)):
        return Grouping(kept, before)

    # The hypotheses of a document are no longer adjacent, so each row gets its own document.
    return Grouping(document_index, 1)


def repeated(encoder_out: dict[str, list[Tensor]]) -> dict[str, list[Tensor]]:
    """Return the encoder's output as read by fairseq's decoder: states, mask and scores for every hypothesis."""
    document_index = encoder_out[DOCUMENT_INDEX][0]
    return {
        **encoder_out,
        "encoder_out": [states.index_select(1, document_index) for states in encoder_out["encoder_out"]],
        **{
            key: [x.index_select(0, document_index) for x in encoder_out.get(key, [])]
            for key in ("encoder_padding_mask", ADDED_SCORES)
        },
    }
