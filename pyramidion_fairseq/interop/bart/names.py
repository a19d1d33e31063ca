"""Names of BART's tensors. Those of fairseq and Hugging Face differ only in the embeddings."""

from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor

from ...errors import PyramidionError

SHARED = "shared.weight"
#: fairseq's names of the shared embedding.
EMBEDDINGS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "decoder.output_projection.weight")
#: Hugging Face's names of the shared embedding, without the leading "model.".
_COPIES = (SHARED, "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
#: fairseq's buffers with versions, and their current values.
_VERSIONS = {"encoder.version": 3.0, "decoder.version": 3.0}
#: Unused buffers of sinusoidal positions.
_FILLERS = ("encoder.embed_positions._float_tensor", "decoder.embed_positions._float_tensor")
_HEADS = ("classification_head.", "qa_outputs.")


def from_hugging_face(state: Mapping[str, Tensor], title: str = "BART") -> dict[str, Tensor]:
    """Return the tensors of a Hugging Face BART by fairseq's names, with unchanged values.

    Args:
        state: tensors of ``BartModel``, ``BartForConditionalGeneration`` or this package's export.
        title: title of the family, for messages.

    Raises:
        PyramidionError: there is no embedding, its copies differ, or logits have a bias, which fairseq does not.
    """
    short = {name[6:] if name.startswith("model.") else name: tensor for name, tensor in state.items()}
    copies = [short.pop(name) for name in _COPIES if name in short]
    if not copies:
        raise PyramidionError(f"the weights are not those of a {title}: there is no shared.weight")
    if any(copy.shape != copies[0].shape or not torch.equal(copy, copies[0]) for copy in copies):
        raise PyramidionError("the embeddings of documents, summaries and output differ, but they must be shared")
    bias = short.pop("final_logits_bias", None)
    if bias is not None and bias.any():
        raise PyramidionError("final_logits_bias is not zero: fairseq's models have no such bias")
    short = {("classification_heads." + n if n.startswith(_HEADS) else n): t for n, t in short.items()}
    versions = {name: torch.tensor([value]) for name, value in _VERSIONS.items()}
    return {**{name: copies[0] for name in EMBEDDINGS}, **short, **versions}


def to_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the inverse of :func:`from_hugging_face`, for a model with one shared embedding.

    Raises:
        PyramidionError: the embeddings differ.
    """
    embeddings = [state[name] for name in EMBEDDINGS if name in state]
    if not embeddings or any(not torch.equal(embedding, embeddings[0]) for embedding in embeddings):
        raise PyramidionError(
            "transformers' BART has one embedding for documents, summaries and output, but those of this model differ"
        )
    left_out = {*EMBEDDINGS, *_VERSIONS, *_FILLERS}
    rest = {"model." + name: tensor for name, tensor in state.items() if name not in left_out}
    return {"model." + SHARED: embeddings[0], **rest}
