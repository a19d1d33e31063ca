"""torch.hub: ``torch.hub.load(REPOSITORY, "summarizer", "path/to/checkpoint/or/folder")``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch.hub lists what can be called here
    from typing import Any

    from pyramidion_fairseq.inference.summarizer import PyramidionHubInterface

dependencies = ["torch", "fairseq", "omegaconf", "sentencepiece", "regex"]


def summarizer(path: str, device: str = "cpu", **options: Any) -> PyramidionHubInterface:
    """A checkpoint, or the folder of one, ready to summarise: ``.summarize(["A long document ...", ...])``.

    Args:
        path: as of ``PyramidionModel.from_pretrained``.
        device: "cpu", "cuda", ...; "auto" is a GPU where there is one.
        **options: as of ``PyramidionModel.from_pretrained``.
    """
    from pyramidion_fairseq import PyramidionModel

    return PyramidionModel.from_pretrained(path, device=device, **options)


def pubmed_small(device: str = "cpu", **options: Any) -> PyramidionHubInterface:
    """The small model of articles from PubMed that comes with the package; arguments as of :func:`summarizer`."""
    return summarizer("pubmed-small", device, **options)
