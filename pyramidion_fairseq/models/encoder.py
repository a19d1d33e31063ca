"""The encoder, with sparse attention and poolings between layers."""

from __future__ import annotations

from typing import Any, Callable, Sequence

import torch
from fairseq.data import Dictionary
from fairseq.distributed import fsdp_wrap
from fairseq.models.transformer import TransformerEncoderBase
from fairseq.modules.checkpoint_activations import checkpoint_wrapper
from torch import Tensor, nn

from ..attention import ATTENTIONS, EncoderAttention
from ..errors import PyramidionError
from ..functional import CopySource, TokenRecord, compose_poolings, keep_record, move_padding_right
from ..generation import regroup
from ..generation.encoder_output import ADDED_SCORES, COPY_SOURCE, DOCUMENT_INDEX, POOLING_SLOTS, POOLING_WEIGHTS
from ..parallel import SequenceGroup
from ..schedule import PoolingSchedule
from .embedding import embed_later_tokens
from .encoder_layer import Dropout, PyramidionEncoderLayer, call_layer
from .global_tokens import GlobalTokens
from .long_documents import DocumentBatch, encode_in_chunks, encode_part, reads_chunks
from .pooled_encoder import PooledStates, run_pooled_layers
from .pooling import build_poolings
from .positions import PegasusPositions
from .sequence_parallel import check_chunks, check_sequence_parallel


class PyramidionEncoder(TransformerEncoderBase):
    """Transformer encoder whose sequence is shortened according to a schedule (paper, Figures 1 and 3).

    If the attention needs global tokens, they precede each document from the embedding to the output. They are never
    pooled, and are not part of the record of the poolings.

    Works batch first internally; only the output has fairseq's layout T x B x C.

    Args:
        cfg: fairseq's TransformerConfig, with the options of this package (``config.complete``) in ``cfg.options``.
        dictionary: dictionary of the documents.
        embed_tokens: token embedding.
    """

    #: Observer, called with every output. Set by ``recorded_encodings`` (apps/explain/attention.py).
    on_output: Callable[[dict[str, list[Tensor]]], None] | None = None
    #: Ranks that share documents. Set by :meth:`spread_documents`.
    sequence_group: SequenceGroup | None = None
    #: Number of tokens that the layers before the first pooling read at a time, 0 for all. Set by
    #: :meth:`read_in_chunks`.
    chunk_tokens = 0
    #: Whether to generate as stock fairseq does; see :mod:`pyramidion_fairseq.generation.switches`.
    plain_generation = False

    def __init__(self, cfg: Any, dictionary: Dictionary, embed_tokens: nn.Module) -> None:
        super().__init__(cfg, dictionary, embed_tokens)
        self.dropout_module: nn.Module = Dropout(cfg.dropout, module_name=type(self).__name__)
        options = cfg.options
        self.options = options
        if options.pegasus_positions and not options.encoder_learned_pos:
            self.embed_positions = PegasusPositions(
                options.max_source_positions, cfg.encoder.embed_dim, self.padding_idx
            )
        #: Number of global tokens before each document.
        self.num_globals = ATTENTIONS.get(options.attention).num_globals(options)
        #: Number of global tokens in the output.
        self.output_globals = 0 if options.lsg_no_global_to_decoder else self.num_globals
        if self.num_globals:
            self.global_embeddings = GlobalTokens.from_config(
                options, cfg.encoder.embed_dim, self.num_globals, self.embed_scale
            )
        #: Whether the output includes a :class:`CopySource` for the pointer.
        self.has_pointer = options.pointer
        #: Whether the pointer's loss gives the scorers no gradient.
        self.detach_copy_weights = options.pointer_detach_weights
        #: Symbols without text, which the pointer does not copy: <unk>, <s>, padding and <mask>, but not </s>.
        self.never_copied = [symbol for symbol in range(dictionary.nspecial) if symbol != dictionary.eos()]
        if "<mask>" in dictionary:
            self.never_copied.append(dictionary.index("<mask>"))
        self.schedule = PoolingSchedule.parse(options.pooling_schedule)
        #: Poolings keyed by the layer after which they pool, counted from 1. Layers without a pooling have no scorer.
        self.poolings = build_poolings(options)
        for number, pooling in self.poolings.items():
            if pooling.needs_attention:  # the layer may be inside a wrapper
                for module in self.layers[int(number) - 1].modules():
                    if isinstance(module, PyramidionEncoderLayer):
                        module.return_column_sums()

    def build_encoder_layer(self, cfg: Any) -> nn.Module:
        layer = PyramidionEncoderLayer(cfg)
        if cfg.checkpoint_activations:
            layer = checkpoint_wrapper(layer, offload_to_cpu=cfg.offload_activations)
        return fsdp_wrap(layer, min_num_params=0 if cfg.checkpoint_activations else cfg.min_params_to_wrap)

    def encode(
        self,
        src_tokens: Tensor,
        token_embeddings: Tensor | None = None,
        keep_states: bool = False,
        document_lengths: Sequence[int] | None = None,
    ) -> tuple[Tensor, PooledStates]:
        """Encode a batch of documents, without synchronising with the device.

        Args:
            src_tokens: (B, T) ids, padded on either side. A document without tokens (in fairseq even an empty one has
                ``</s>``) is read as a single padding symbol.
            token_embeddings: (B, T, C) replacement for the embeddings of ``src_tokens``, right-padded.
            keep_states: whether to return the states between the layers.
            document_lengths: number of tokens of each document without padding, if known on the host and padding is on
                the right. Without them, a GPU masks all blocks instead of skipping padded ones.

        Returns:
            (B, T) int64 right-padded ids, and their encoding.
        """
        batch = DocumentBatch(*self._right_pad(src_tokens, document_lengths), token_embeddings)
        if self.sequence_group is not None:
            return batch.tokens, encode_part(self, batch, keep_states)
        if reads_chunks(self, batch, keep_states):
            return batch.tokens, encode_in_chunks(self, batch)
        return batch.tokens, run_pooled_layers(
            lambda: self.embed(batch.tokens, batch.padding_mask, token_embeddings),
            batch.padding_mask,
            self.layers,
            self.poolings,
            call_layer,
            document_lengths=batch.document_lengths,
            global_tokens=self.global_tokens,
            layer_norm=self.layer_norm,
            keep_states=keep_states,
        )

    def check_sequence_parallel(self, size: int) -> None:
        """Raise an error if ``size`` ranks cannot share documents.

        Call this method before the ranks connect, so that each of them reports the error.

        Raises:
            PyramidionError: the attention is not local, the encoder does not pool, or its layers read documents in
                chunks, as with LSG attention.
        """
        check_sequence_parallel(self.local_attention, self.poolings, f"--sequence-parallel {size}")
        if any(getattr(module, "chunk_tokens", 0) for module in self.layers.modules()):
            self._refuse_chunks_of_parts(f"--sequence-parallel {size}")

    def _refuse_chunks_of_parts(self, option: str) -> None:
        raise PyramidionError(
            f"{option}: with {type(self.local_attention).__name__}, --sequence-parallel and --encoder-chunk-tokens do "
            "not go together: give one of them, or take --attention blockwise"
        )

    def spread_documents(self, group: SequenceGroup | None) -> None:
        """Let the ranks of a group share every document from now on; None undoes it.

        Raises:
            PyramidionError: see :meth:`check_sequence_parallel`.
        """
        if group is not None:
            self.check_sequence_parallel(group.size)
        self.sequence_group = group

    def read_in_chunks(self, tokens: int) -> None:
        """Let layers read ``tokens`` tokens of a document at a time; 0 for all tokens.

        This applies to the layers before the first pooling, or, if blocks attend to more than themselves (LSG), to
        each layer separately. A chunk is a whole number of attention blocks, at least one.

        Raises:
            PyramidionError: the attention is not local, the encoder does not pool by scores alone, or blocks attend to
                more than themselves while ranks share the documents.
        """
        attention = self.local_attention
        if tokens:
            check_chunks(attention, self.poolings, tokens)
            if attention.halo and self.sequence_group is not None:
                self._refuse_chunks_of_parts(f"--encoder-chunk-tokens {tokens}")
            tokens = max(1, tokens // attention.block_size) * attention.block_size
        by_layer = attention.halo > 0
        self.chunk_tokens = 0 if by_layer else tokens
        for module in self.layers.modules():
            if isinstance(module, PyramidionEncoderLayer):
                module.chunk_tokens = tokens if by_layer else 0

    @property
    def global_tokens(self) -> GlobalTokens | None:
        """Return the global tokens before each document, or None if the attention needs none."""
        return self.global_embeddings if self.num_globals else None

    @property
    def local_attention(self) -> Any:
        """Return the attention of the first layer, even if the layer is wrapped."""
        return next(module for module in self.layers.modules() if isinstance(module, EncoderAttention))

    def _right_pad(
        self, src_tokens: Tensor, document_lengths: Sequence[int] | None
    ) -> tuple[Tensor, Tensor | None, list[int] | None]:
        """Return (B, T) right-padded tokens, their (B, T) padding mask, and the document lengths.

        The mask is None if nothing is padded. The lengths are None if they are only known on the device.
        """
        if document_lengths is None:
            on_cpu = src_tokens.device.type == "cpu"
            document_lengths = src_tokens.ne(self.padding_idx).sum(dim=1).tolist() if on_cpu else None
            if document_lengths is None or min(document_lengths) < src_tokens.size(1):
                src_tokens = move_padding_right(src_tokens, self.padding_idx)
        document_lengths = None if document_lengths is None else [max(1, length) for length in document_lengths]
        if document_lengths is not None and min(document_lengths) == src_tokens.size(1):
            return src_tokens, None, document_lengths
        mask = src_tokens.eq(self.padding_idx)
        mask[:, 0] = False  # for documents of padding alone, whose attention would be NaN
        return src_tokens, mask, document_lengths

    def embed(
        self, tokens: Tensor, padding_mask: Tensor | None, token_embeddings: Tensor | None, start: int = 0
    ) -> Tensor:
        """Return (B, T, C) embeddings, zeros on padding; (B, G + T, C) with global tokens first.

        Global tokens are processed like fairseq's token embeddings, but without scaling and positions. ``start`` is
        the position of the first of the tokens in its document.
        """
        if start:
            x = embed_later_tokens(self, tokens, token_embeddings, start)
        else:
            x, _ = self.forward_embedding(tokens, token_embeddings)
        if padding_mask is not None:
            x = x.masked_fill(padding_mask.unsqueeze(-1), 0)
        if not self.num_globals:
            return x
        first = self.global_embeddings(len(x))
        if self.layernorm_embedding is not None:
            first = self.layernorm_embedding(first)
        return torch.cat([self.dropout_module(first), x], dim=1)

    def forward(
        self, src_tokens: Tensor, src_lengths: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> dict[str, list[Tensor]]:
        """Call :meth:`forward_scriptable`."""
        return self.forward_scriptable(src_tokens, src_lengths, *args, **kwargs)

    def forward_scriptable(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor | None = None,
        return_all_hiddens: bool = False,
        token_embeddings: Tensor | None = None,
        document_lengths: Sequence[int] | None = None,
    ) -> dict[str, list[Tensor]]:
        """Encode documents with fairseq's interface; see :meth:`encode`.

        Args:
            src_tokens, token_embeddings: see :meth:`encode`; ``return_all_hiddens`` is its ``keep_states``.
            src_lengths: not used, because reading it would synchronise with a GPU.
            document_lengths: see :meth:`encode`; passed by the task of this package.

        Returns:
            fairseq's dict of lists: ``encoder_out`` [(k, B, C)], ``encoder_padding_mask`` [(B, k)], ``encoder_states``
            (T_i, B, C), ``src_lengths`` [(B, 1)]. The record of the poolings: ``pooling_slots`` and
            ``pooling_weights``, one (B, T_i) each per pooling, detached. Positions in the record are counted from the
            document's first token, even if the source was padded on the left. With ``--pointer``, the tokens that can
            be copied: ``copy_source``, the three tensors of :class:`~pyramidion_fairseq.functional.CopySource`,
            through whose weights the scorers are trained. If the pooler lets the decoder add scores to its attention
            logits: ``added_scores`` (B, k).
        """
        tokens, encoded = self.encode(src_tokens, token_embeddings, return_all_hiddens, document_lengths)
        src_lengths = src_tokens.ne(self.padding_idx).sum(dim=1, keepdim=True).int()
        out = {
            "encoder_out": [encoded.x.transpose(0, 1)],
            "encoder_padding_mask": [encoded.padding_mask],
            "encoder_embedding": [],  # unused, and as large as a full-length layer output
            "encoder_states": [state.transpose(0, 1) for state in encoded.states],
            "fc_results": [],
            "src_tokens": [],
            "src_lengths": [src_lengths],
            POOLING_SLOTS: encoded.slot_of_token,
            POOLING_WEIGHTS: [weights.detach() for weights in encoded.weights],
            COPY_SOURCE: list(self._copy_source(tokens, src_lengths, encoded)) if self.has_pointer else [],
            ADDED_SCORES: [] if encoded.added_scores is None else [encoded.added_scores],
        }
        if self.on_output is not None:
            self.on_output(out)
        return out

    def decoder_record(
        self, slots: Sequence[Tensor], weights: Sequence[Tensor], src_lengths: Tensor, width: int
    ) -> TokenRecord:
        """Return the slots and weights of the documents' tokens in the decoder's input, without global tokens.

        Args:
            slots, weights: (B, T_i) per pooling.
            src_lengths: (B, 1) number of tokens of each document.
            width: n, padded length of the documents.

        Returns:
            (B, n) record.
        """
        if not slots or any(pooler.upsamples for pooler in self._poolers()):
            positions = torch.arange(width, device=src_lengths.device)
            record = keep_record((positions < src_lengths.clamp(min=1)).float())
        else:
            record = compose_poolings(slots, weights)[-1]
            if not all(pooler.convex for pooler in self._poolers()):  # normalise to shares of each vector
                sums = torch.zeros_like(record.weights).scatter_add(1, record.slots, record.weights)
                tiny = torch.finfo(sums.dtype).tiny
                record = record._replace(weights=record.weights / sums.gather(1, record.slots).clamp(min=tiny))
        if self.num_globals and not self.output_globals and self.global_embeddings.replace_first:
            # The first vector is replaced by a global token.
            record = TokenRecord(record.slots, record.weights.masked_fill(record.slots == 0, 0))
        return record

    def _poolers(self) -> list[Any]:
        return [pooling.pooler for pooling in self.poolings.values()]

    def _copy_source(self, tokens: Tensor, src_lengths: Tensor, encoded: PooledStates) -> CopySource:
        """Return the tokens that can be copied: (B, n) right-padded ids, (B, 1) lengths, and the encoding."""
        weights = [w.detach() for w in encoded.weights] if self.detach_copy_weights else encoded.weights
        record = self.decoder_record(encoded.slot_of_token, weights, src_lengths, tokens.size(1))
        for symbol in self.never_copied:
            tokens = tokens.masked_fill(tokens == symbol, -1)
        return CopySource(tokens, record.slots + self.output_globals, record.weights)

    def reorder_encoder_out(self, encoder_out: dict[str, list[Tensor]], new_order: Tensor) -> dict[str, list[Tensor]]:
        """Select documents, or hypotheses that read them, by ``new_order`` (R',), indices into the rows.

        Repeated documents, as for the hypotheses of a beam search, are stored once. ``hypothesis_documents`` [(R',)]
        then maps each row to its document. :func:`~pyramidion_fairseq.generation.repeated` repeats them.
        """
        if self.plain_generation:
            return self._select(encoder_out, new_order)
        documents = encoder_out["encoder_out"][0].size(1)
        old_index = encoder_out.get(DOCUMENT_INDEX)
        old_beam = len(old_index[0]) // documents if old_index else None
        remaining, beam = regroup(new_order, documents, old_beam)
        if remaining is None and beam == old_beam:
            return encoder_out
        selected = encoder_out if remaining is None else self._select(encoder_out, remaining)
        all_documents = torch.arange(selected["encoder_out"][0].size(1), device=new_order.device)
        return {**selected, DOCUMENT_INDEX: [all_documents.repeat_interleave(beam)]}

    def _select(self, encoder_out: dict[str, list[Tensor]], documents: Tensor) -> dict[str, list[Tensor]]:
        """Return every tensor of the encoder's output for the given documents only."""
        selected = super().reorder_encoder_out(encoder_out, documents)
        for key in (POOLING_SLOTS, POOLING_WEIGHTS, COPY_SOURCE, ADDED_SCORES):
            selected[key] = [record.index_select(0, documents) for record in encoder_out.get(key, [])]
        return selected
