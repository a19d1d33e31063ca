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

    remaining_documents: Tensor | None
    """(B',) indices of the remaining documents among the previous ones; None if all remain in order."""
    beam: int
    """Number of hypotheses per document."""


def regroup(order: Tensor, documents: int, beam: int | None, may_synchronise: bool | None = None) -> Grouping:
    """Find the documents of the hypotheses after a selection of rows.

    Args:
        order: (R',) int64 indices of the selected rows among the previous ``documents * beam`` rows.
        documents: number of documents.
        beam: previous number of hypotheses per document; None before documents are repeated for the first time.
        may_synchronise: whether to read the values of ``order`` even if it keeps the number of hypotheses. Default:
            not on a GPU, where the host would synchronise in every step. Such an order is then assumed to stay within
            each document, as in all of fairseq's searches (fairseq always assumes it), which is asserted on the
            device.

    Returns:
        The documents and the beam. If rows are no longer grouped, each of them gets its own document.
    """
    if may_synchronise is None:
        may_synchronise = not order.is_cuda
    old_beam = beam or 1
    document_of_row = order // old_beam  # (R',) the previous document of each selected row
    all_documents = torch.arange(documents, device=order.device)

    has_same_rows = beam is not None and len(order) == documents * beam
    if has_same_rows and not may_synchronise:
        _assert_in_order(document_of_row, all_documents, old_beam)
        return Grouping(None, old_beam)

    new_beam = len(order) // documents
    if _are_repeated(document_of_row, all_documents, new_beam):  # all documents in order, with any beam
        return Grouping(None, new_beam)

    remaining = document_of_row[::old_beam]
    if _are_repeated(document_of_row, remaining, old_beam):  # some documents, or in another order, with the same beam
        return Grouping(remaining, old_beam)

    # The hypotheses of a document are no longer adjacent, so each row gets its own document.
    return Grouping(document_of_row, 1)


def _are_repeated(document_of_row: Tensor, documents: Tensor, beam: int) -> bool:
    """Return whether the (R',) documents of the rows are the (B',) documents, each of them ``beam`` times."""
    is_multiple = len(document_of_row) == len(documents) * beam
    return is_multiple and torch.equal(document_of_row, documents.repeat_interleave(beam))


def _assert_in_order(document_of_row: Tensor, documents: Tensor, beam: int) -> None:
    """Assert on the device that :func:`_are_repeated`, for which the host does not wait."""
    torch._assert_async(
        (document_of_row == documents.repeat_interleave(beam)).all(),
        "hypotheses moved from one document to another: generate with plain_generation(model)",
    )


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
