"""torch.hub: ``torch.hub.load(REPOSITORY, "summarizer", "path/to/checkpoint/or/folder")``."""

dependencies = ["torch", "fairseq", "omegaconf", "sentencepiece", "regex"]


def summarizer(path: str, device: str = "cpu", **options):
    """A checkpoint, or the folder of one, ready to summarise: ``.summarize(["A long document ...", ...])``.

    Args:
        path: as of ``PyramidionModel.from_pretrained``.
        device: "cpu", "cuda", ...; "auto" is a GPU where there is one.
        **options: as of ``PyramidionModel.from_pretrained``.
    """
    from pyramidion_fairseq import PyramidionModel

    return PyramidionModel.from_pretrained(path, device=device, **options)


def pubmed_small(device: str = "cpu", **options):
    """The small model of articles from PubMed that comes with the package; arguments as of :func:`summarizer`."""
    return summarizer("pubmed-small", device, **options)
