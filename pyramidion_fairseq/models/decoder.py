"""The decoder: fairseq's, without positional embeddings unless asked for."""

from __future__ import annotations

from fairseq.models.transformer import TransformerDecoderBase
from torch import Tensor


class PyramidionDecoder(TransformerDecoderBase):
    """fairseq's decoder; the paper gives it no positions (Tables 5 and 6), the encoder's vectors carry theirs.

    Args:
        cfg: fairseq's TransformerConfig, with our own options (``config.complete``) in ``cfg.options``.
        dictionary: of the summaries.
        embed_tokens: the token embedding.
    """

    def __init__(self, cfg, dictionary, embed_tokens, no_encoder_attn: bool = False, output_projection=None):
        super().__init__(cfg, dictionary, embed_tokens, no_encoder_attn, output_projection)
        if not cfg.options.decoder_positions:
            self.embed_positions = None
        # fairseq would ask the device whether any summary is padded, and wait; so it masks without asking.
        self.cross_self_attention = True

    def forward(self, prev_output_tokens: Tensor, encoder_out=None, alignment_layer: int | None = None, **kwargs):
        """As of fairseq, but without the attention, unless ``alignment_layer`` asks for it, where the encoder pooled.

        fairseq takes it for attention to the document's tokens, averages it over the models of an ensemble, which may
        keep different numbers of vectors, and reads alignments from it.
        """
        x, extra = super().forward(
            prev_output_tokens, encoder_out=encoder_out, alignment_layer=alignment_layer, **kwargs
        )
        if alignment_layer is None and encoder_out is not None and encoder_out.get("pooling_slots"):
            extra["attn"] = [None]
        return x, extra
