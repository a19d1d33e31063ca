"""The decoder: fairseq's, without positional embeddings unless asked for."""

from __future__ import annotations

from fairseq.models.transformer import TransformerDecoderBase


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
