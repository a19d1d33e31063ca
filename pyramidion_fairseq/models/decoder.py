"""fairseq's decoder, by default without positional embeddings, and with key-value caches that are never copied."""

from __future__ import annotations

import logging
from typing import Any, Callable, NamedTuple, Sequence

import torch
from fairseq.data import Dictionary
from fairseq.distributed import fsdp_wrap
from fairseq.models.transformer import TransformerDecoderBase
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from torch import Tensor, nn

from ..errors import PyramidionError
from ..functional import CopySource
from ..generation import (
    DecodingState,
    GraphedStep,
    ScoredDecoderLayer,
    decode_step,
    new_decoding_state,
    repeated,
    supports_cuda_graphs,
    unsupported_reason,
)
from ..generation.encoder_output import ADDED_SCORES, COPY_SOURCE, DOCUMENT_INDEX, POOLING_SLOTS
from ..generation.linear import few_rows_linear
from ..markers import marker_of
from ..poolers import POOLERS
from .pointer import Pointer
from .positions import PegasusPositions

logger = logging.getLogger(__name__)


class _StepOutput(NamedTuple):
    """Result of a generation step. A captured step takes and returns plain tensors, in the order of :meth:`pack`."""

    logits: Tensor
    """(R, V) logits, or the features if only these are asked for."""
    features: Tensor
    """(R, C') input of the output projection."""
    attention: Tensor | None
    """(h, R, 1, k) attention to the document, if asked for."""
    layers: Sequence[Tensor]
    """(R, C) embedded tokens, and the output of each layer."""

    def pack(self) -> list[Tensor]:
        """Return the tensors as one list."""
        attention = [] if self.attention is None else [self.attention]
        return [self.logits, self.features, *attention, *self.layers]

    @classmethod
    def unpack(cls, tensors: Sequence[Tensor], has_attention: bool) -> _StepOutput:
        """Return the result whose :meth:`pack` is the given list."""
        if has_attention:
            logits, features, attention, *layers = tensors
            return cls(logits, features, attention, layers)
        logits, features, *layers = tensors
        return cls(logits, features, None, layers)


class PyramidionDecoder(TransformerDecoderBase):
    """fairseq's decoder. The paper gives it no positions (Tables 5 and 6), because the encoder's vectors carry them.

    Args:
        cfg: fairseq's TransformerConfig, with the options of this package (``config.complete``) in ``cfg.options``.
        dictionary: dictionary of the summaries.
        embed_tokens: token embedding.
    """

    #: Whether to generate as stock fairseq does; see :mod:`pyramidion_fairseq.generation.switches`.
    plain_generation = False
    #: Whether to capture generation steps as CUDA graphs and replay them, on devices that support it.
    cuda_graphs = False
    #: Whether generation returns the attention to documents that were not pooled. Set by fairseq's commands.
    need_attn = True
    #: Called before every generation step, on every code path. An exception ends the generation.
    before_step: Callable[[], None] | None = None

    def __init__(
        self,
        cfg: Any,
        dictionary: Dictionary,
        embed_tokens: nn.Module,
        no_encoder_attn: bool = False,
        output_projection: nn.Module | None = None,
    ) -> None:
        super().__init__(cfg, dictionary, embed_tokens, no_encoder_attn, output_projection)
        if not cfg.options.decoder_positions:
            self.embed_positions = None
        elif cfg.options.pegasus_positions and not cfg.options.decoder_learned_pos:
            longest = cfg.options.max_target_positions
            self.embed_positions = PegasusPositions(longest, cfg.decoder.embed_dim, self.padding_idx)
        #: Id of the start symbol of summaries, or None for </s>.
        self.start_symbol = None
        if cfg.options.summary_marker and not cfg.options.prepend_bos:
            self.start_symbol = marker_of(dictionary, cfg.options.summary_marker, "--summary-marker")
        # Makes fairseq always mask padding. Otherwise it would synchronise with the device to check for padding.
        self.cross_self_attention = True
        options = cfg.options
        #: Mixes copies from the document into the summary, or None.
        self.pointer = None
        if options.pointer:
            layer = (options.pointer_layer or self.num_layers) - 1
            self.pointer = Pointer(
                self.output_embed_dim, layer, options.pointer_heads, options.pointer_context, options.pointer_bias
            )
        #: Reasons for using fairseq's own path that have been logged.
        self._logged_reasons: set[str] = set()

    def build_decoder_layer(self, cfg: Any, no_encoder_attn: bool = False) -> nn.Module:
        """Build fairseq's layer, or one whose attention to the document adds scores if the pooler requires it."""
        options = cfg.options
        if no_encoder_attn or not (options.pooling_schedule and POOLERS.get(options.pooler).adds_scores_to_attention):
            return super().build_decoder_layer(cfg, no_encoder_attn)
        layer: nn.Module = ScoredDecoderLayer(cfg)
        if cfg.checkpoint_activations:
            layer = checkpoint_wrapper(layer, offload_to_cpu=cfg.offload_activations)
        return fsdp_wrap(layer, min_num_params=0 if cfg.checkpoint_activations else cfg.min_params_to_wrap)

    def make_generation_fast_(self, need_attn: bool = False, **kwargs: Any) -> None:
        """Prepare for generation. Called by fairseq's commands."""
        self.need_attn = need_attn

    def forward(
        self,
        prev_output_tokens: Tensor,
        encoder_out: dict[str, list[Tensor]] | None = None,
        incremental_state: dict[str, Any] | None = None,
        features_only: bool = False,
        alignment_layer: int | None = None,
        alignment_heads: int | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Decode as fairseq does, but return no attention for pooled documents unless ``alignment_layer`` is given.

        fairseq would treat it as attention to the document's tokens, average it over the models of an ensemble, which
        may keep different numbers of vectors, and derive alignments from it.

        With ``incremental_state`` and without gradients, the caches of :mod:`pyramidion_fairseq.generation` are used.

        With ``--pointer`` the second result has a ``pointer``, which :meth:`get_normalized_probs` mixes in. With
        ``incremental_state`` it is already mixed in, and the first result holds log probabilities instead of logits.
        fairseq's generator divides them by ``--temperature``, which then applies to the mixture.
        """
        if self.before_step is not None:
            self.before_step()
        prev_output_tokens = self._with_start_symbol(prev_output_tokens)
        is_pooled = encoder_out is not None and bool(encoder_out.get(POOLING_SLOTS))
        pointer = self.pointer if encoder_out is not None else None
        # The pointer's attention stays inside. Attention to pooled vectors is returned only if it is asked for.
        hides_attention = pointer is not None or (is_pooled and alignment_layer is None)
        if pointer is not None:
            alignment_layer, alignment_heads = _pointing_layer(pointer, alignment_layer)
        state = self._decoding_state(incremental_state, encoder_out, len(prev_output_tokens))
        if state is not None and incremental_state is not None:
            if alignment_layer is None and self.need_attn and not is_pooled:
                alignment_layer = self.num_layers - 1  # fairseq's default
            x, features, extra = self._step(
                prev_output_tokens, state, incremental_state, alignment_layer, alignment_heads, features_only
            )
        else:
            features, extra = super().forward(
                prev_output_tokens,
                encoder_out=_as_fairseq_reads(encoder_out),
                incremental_state=incremental_state,
                features_only=True,
                alignment_layer=alignment_layer,
                alignment_heads=alignment_heads,
                **kwargs,
            )
            x = features if features_only else self.output_layer(features)
        if pointer is not None and encoder_out is not None:
            source = CopySource(*encoder_out[COPY_SOURCE])
            output = pointer(features, extra["attn"][0], prev_output_tokens, source)
            if incremental_state is None or features_only:
                extra["pointer"] = output
            else:
                x = output.log_probabilities(x)
        if hides_attention:
            extra["attn"] = [None]
        return x, extra

    def _with_start_symbol(self, tokens: Tensor) -> Tensor:
        """Replace fairseq's start symbol ``</s>`` by the model's in (B, t) ids."""
        if self.start_symbol is None:
            return tokens
        return tokens.masked_fill(tokens == self.dictionary.eos(), self.start_symbol)

    def get_normalized_probs(
        self, net_output: tuple[Tensor, dict[str, Any] | None], log_probs: bool, sample: dict[str, Any] | None = None
    ) -> Tensor:
        """Return (B, t, V) probabilities of all tokens, or their logs; with ``--pointer`` those of the mixture."""
        logits, extra = net_output
        if extra is None or extra.get("pointer") is None:
            return super().get_normalized_probs(net_output, log_probs, sample)
        mixed = extra["pointer"].log_probabilities(logits)
        return mixed if log_probs else mixed.exp()

    def _decoding_state(
        self, incremental_state: dict[str, Any] | None, encoder_out: dict[str, list[Tensor]] | None, rows: int
    ) -> DecodingState | None:
        """Return the state of this generation, created in its first step; None if fairseq's own caches are used."""
        if incremental_state is None:
            return None
        state = self.get_incremental_state(incremental_state, "decoding")
        if state is None:
            if incremental_state or self.plain_generation or self._falls_back(encoder_out) or encoder_out is None:
                return None
            states, mask = encoder_out["encoder_out"][0], encoder_out["encoder_padding_mask"]
            scores = encoder_out.get(ADDED_SCORES)
            added = scores[0] if scores else None
            state = new_decoding_state(
                self,
                states,
                mask[0] if mask else None,
                rows,
                uses_cuda_graph=self.cuda_graphs and supports_cuda_graphs(states),
                added_scores=added,
            )
            self.set_incremental_state(incremental_state, "decoding", state)
        if state.rows != rows:
            raise PyramidionError(
                f"{rows} hypotheses, but the caches hold {state.rows}: reorder_incremental_state_scripting and "
                "reorder_encoder_out need the same order"
            )
        return state

    def _falls_back(self, encoder_out: dict[str, list[Tensor]] | None) -> bool:
        """Return whether fairseq's own, slower caches must be used. Each reason is logged once."""
        reason: str | None
        if self.training or torch.is_grad_enabled():
            reason = "the model is in training mode" if self.training else "gradients are recorded"
        elif encoder_out is None or not encoder_out["encoder_out"]:
            reason = "there is no encoded document"
        else:
            reason = unsupported_reason(self)
        if reason is not None and reason not in self._logged_reasons:
            self._logged_reasons.add(reason)
            logger.warning(f"summaries are written by fairseq's own, slower path: {reason}")
        return reason is not None

    def _step(
        self,
        prev_output_tokens: Tensor,
        state: DecodingState,
        incremental_state: dict[str, Any],
        alignment_layer: int | None,
        alignment_heads: int | None,
        features_only: bool,
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Compute the newest token: (R, 1, V) logits or features, (R, 1, C) features, and fairseq's extra outputs."""
        newest = prev_output_tokens[:, -1]
        x = self.embed_scale * self.embed_tokens(newest)
        if self.project_in_dim is not None:
            x = self.project_in_dim(x)
        if self.embed_positions is not None:
            x = x + self.embed_positions(prev_output_tokens, incremental_state=incremental_state)[:, -1]
        if self.layernorm_embedding is not None:
            x = self.layernorm_embedding(x)
        padding = newest.eq(self.padding_idx)
        state.reserve_step()

        def compute(x: Tensor, padding: Tensor) -> list[Tensor]:
            layers, attention = decode_step(self.layers, x, padding, state, alignment_layer, alignment_heads)
            features = self._features(layers[-1])
            logits = features if features_only else few_rows_linear(self.output_projection, features)
            return _StepOutput(logits, features, attention, layers).pack()

        options = (features_only, alignment_layer, alignment_heads)
        run = self._graphed(compute, state, incremental_state, options) if state.uses_cuda_graph else compute
        step = _StepOutput.unpack(run(x, padding), has_attention=alignment_layer in range(self.num_layers))
        attention = None if step.attention is None else step.attention.to(x).mean(dim=0)  # (R, 1, k)
        extra = {"attn": [attention], "inner_states": [states.unsqueeze(0) for states in step.layers]}
        return step.logits.unsqueeze(1), step.features.unsqueeze(1), extra

    def _graphed(
        self,
        compute: Callable[[Tensor, Tensor], list[Tensor]],
        state: DecodingState,
        incremental_state: dict[str, Any],
        options: tuple[Any, ...],
    ) -> GraphedStep:
        """Return the graphed step of this generation that was made with the same options, or a new one."""
        name = f"graphed step {options}"
        step = self.get_incremental_state(incremental_state, name)
        if step is None:
            step = GraphedStep(compute, state)
            self.set_incremental_state(incremental_state, name, step)
        return step

    def _features(self, x: Tensor) -> Tensor:
        """Return the input of the output projection: (R, C) outputs of the last layer -> (R, C')."""
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        return x if self.project_out_dim is None else self.project_out_dim(x)

    def reorder_incremental_state_scripting(self, incremental_state: dict[str, Any], new_order: Tensor) -> None:
        """Select hypotheses by ``new_order`` (R',), indices into the rows."""
        state = self.get_incremental_state(incremental_state, "decoding")
        if state is None:
            super().reorder_incremental_state_scripting(incremental_state, new_order)
        else:
            state.reorder(new_order)


def _as_fairseq_reads(encoder_out: dict[str, list[Tensor]] | None) -> dict[str, list[Tensor]] | None:
    """Return the encoder's output for fairseq's decoder.

    Documents are repeated for each hypothesis. Added scores, if any, are in a floating mask that is -inf on padding.
    """
    if encoder_out and encoder_out.get(DOCUMENT_INDEX):
        encoder_out = repeated(encoder_out)
    if not encoder_out or not encoder_out.get(ADDED_SCORES):
        return encoder_out
    scores = encoder_out[ADDED_SCORES][0]
    masks = [scores.masked_fill(mask, -torch.inf) for mask in encoder_out["encoder_padding_mask"]]
    return {**encoder_out, "encoder_padding_mask": masks}


def _pointing_layer(pointer: Pointer, asked: int | None) -> tuple[int, int]:
    """Return the pointer's layer and number of heads.

    Raises:
        PyramidionError: the attention of another layer is asked for.
    """
    if asked not in (None, pointer.layer):
        raise PyramidionError(f"alignment_layer {asked}: this model points with layer {pointer.layer}")
    return pointer.layer, pointer.heads
