"""A dataset of documents and summaries whose batches contain the documents' lengths."""

from __future__ import annotations

from typing import Any

from fairseq.data import LanguagePairDataset

from ..functional.padding import known_lengths


class DocumentPairDataset(LanguagePairDataset):
    """fairseq's ``LanguagePairDataset`` whose batches can also contain the documents' lengths on the host.

    Args:
        with_document_lengths: add ``document_lengths``, a list of ints, to the ``net_input`` of every batch whose
            documents are padded on the right. This package's models accept it, but models of fairseq do not.
        args, kwargs: arguments of ``LanguagePairDataset``.
    """

    def __init__(self, *args: Any, with_document_lengths: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.with_document_lengths = with_document_lengths and not self.left_pad_source

    def collater(self, samples: list[dict[str, Any]], pad_to_length: dict[str, int] | None = None) -> dict[str, Any]:
        """Collate samples to a batch as fairseq does, with the longest document first."""
        batch = super().collater(samples, pad_to_length)
        if self.with_document_lengths and batch:
            net_input = batch["net_input"]
            lengths = known_lengths(net_input["src_tokens"], net_input["src_lengths"], self.src_dict.pad())
            if lengths is not None:
                net_input["document_lengths"] = lengths
        return batch
