"""RoBERTa for long documents, with LSG or block-wise attention and poolings, for fairseq's own tasks."""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from typing import Any, Callable, ClassVar, Sequence

import torch
import torch.nn.functional as F
from fairseq.data import Dictionary
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models.roberta import RobertaModel
from fairseq.models.roberta.model import RobertaEncoder, base_architecture
from fairseq.models.transformer import TransformerConfig
from fairseq.tasks.masked_lm import MaskedLMTask
from fairseq.tasks.translation import TranslationTask
from torch import Tensor, nn

from .. import class_labels
from ..errors import PyramidionError
from .encoder import PyramidionEncoder
from .encoder_config import EncoderConfig, complete_encoder
from .encoder_layer import call_layer
from .first_token import FirstToken
from .pooled_encoder import PooledStates, run_pooled_layers

logger = logging.getLogger(__name__)


class SentenceEncoder(PyramidionEncoder):
    """:class:`PyramidionEncoder` whose first output vector can be read by classifiers.

    With LSG attention, the first vector is that of the first global token, which is never pooled and replaces the
    vector of ``<s>`` in the output, as in published LSG encoders. With other attentions, ``<s>`` itself is left out of
    the poolings.
    """

    def encode(
        self,
        src_tokens: Tensor,
        token_embeddings: Tensor | None = None,
        keep_states: bool = False,
        document_lengths: Sequence[int] | None = None,
    ) -> tuple[Tensor, PooledStates]:
        """Encode a batch; see :meth:`PyramidionEncoder.encode`. The record of the poolings omits an unpooled ``<s>``.

        If ``<s>`` is left out of the poolings, a document of one token is read as if it were followed by padding.
        """
        if self.num_globals or not self.poolings:
            return super().encode(src_tokens, token_embeddings, keep_states, document_lengths)
        if src_tokens.size(1) < 2:
            src_tokens = F.pad(src_tokens, (0, 1), value=self.padding_idx)
            token_embeddings = None if token_embeddings is None else F.pad(token_embeddings, (0, 0, 0, 1))
        tokens, mask, document_lengths = self._right_pad(src_tokens, document_lengths)
        return tokens, run_pooled_layers(
            lambda: self.embed(tokens, mask, token_embeddings),
            FirstToken.mask_of_rest(mask),
            self.layers,
            self.poolings,
            _call_with_first_token,
            document_lengths=None if document_lengths is None else [max(1, n - 1) for n in document_lengths],
            global_tokens=FirstToken(),
            layer_norm=self.layer_norm,
            keep_states=keep_states,
        )


def _call_with_first_token(
    layer: nn.Module, x: Tensor, key_padding_mask: Tensor | None, document_lengths: Sequence[int] | None
) -> tuple[Tensor, Tensor | None]:
    return call_layer(layer, x, key_padding_mask, FirstToken.lengths_with(document_lengths))


class LSGRobertaEncoder(RobertaEncoder):
    """fairseq's RoBERTa encoder around a :class:`SentenceEncoder`, with fairseq's parameter names."""

    def build_encoder(self, args: Namespace, dictionary: Dictionary, embed_tokens: nn.Embedding) -> SentenceEncoder:
        """Build the encoder from the options of :func:`complete_encoder`."""
        # Otherwise fairseq would use its default width of 512 for the decoder, which does not exist here.
        dims = {"decoder_input_dim": args.decoder_embed_dim, "decoder_output_dim": args.decoder_embed_dim}
        cfg = TransformerConfig.from_namespace(Namespace(**{**vars(args), **dims}))
        cfg.options = args
        return SentenceEncoder(cfg, dictionary, embed_tokens)

    def forward(
        self,
        src_tokens: Tensor,
        features_only: bool = False,
        return_all_hiddens: bool = False,
        masked_tokens: Tensor | None = None,
        document_lengths: Sequence[int] | None = None,
        **unused: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Encode documents.

        Args:
            src_tokens: (B, T) ids, padded on the right or on the left.
            features_only: whether to return features instead of the logits of masked_lm.
            return_all_hiddens: whether to also return the states between the layers.
            masked_tokens: (B, T) bool, True on tokens to predict; None for all.
            document_lengths: see :meth:`PyramidionEncoder.encode`.

        Returns:
            A pair of logits or features and a dict. Logits are (B, T, V), or (N, V) for N masked tokens; features are
            (B, T', C). T' is less than T if the model pools. The dict has ``inner_states`` (None or a list of (T_i, B,
            C)), ``padding_mask`` (B, T') bool, and ``encoder_out``, the output of
            :meth:`PyramidionEncoder.forward_scriptable`.

        Raises:
            PyramidionError: tokens are to be predicted by a model that pools.
        """
        encoder = self.sentence_encoder
        if not features_only:
            check_every_token(encoder)
        out = encoder(src_tokens, return_all_hiddens=return_all_hiddens, document_lengths=document_lengths)
        x = out["encoder_out"][0].transpose(0, 1)
        states = out["encoder_states"] if return_all_hiddens else None
        extra = {"inner_states": states, "padding_mask": out["encoder_padding_mask"][0], "encoder_out": out}
        return (x if features_only else self.output_layer(x, masked_tokens=masked_tokens)), extra


def check_every_token(encoder: SentenceEncoder) -> None:
    """Raise PyramidionError unless an encoder returns one vector for every token."""
    poolings: list[Any] = list(encoder.poolings.values())
    if poolings and not all(pooling.pooler.upsamples for pooling in poolings):
        raise PyramidionError(
            f"a model that pools (--pooling-schedule {encoder.schedule}) has no vector for every token, which "
            "masked_lm predicts: leave --pooling-schedule out, and pool when you fine-tune"
        )


class LSGRobertaModel(RobertaModel):
    """RoBERTa (Liu et al. 2019) with LSG attention (Condevaux and Harispe 2022) and representation pooling.

    For fairseq's tasks ``masked_lm`` and ``sentence_prediction``. Checkpoints of RoBERTa, CamemBERT and XLM-R load
    with ``--restore-file``. Their positions are repeated up to the model's length, and missing global tokens and
    scorers are initialised.
    """

    #: See :class:`~pyramidion_fairseq.models.pyramidion.PyramidionModel`.
    is_pyramidion = True
    #: ``interop.roberta.adapt_state``, set by :mod:`pyramidion_fairseq.registered` because it depends on models.
    _adapt_state: ClassVar[Callable[[LSGRobertaModel, dict[str, Tensor]], Sequence[Any]]]
    #: Changes (``interop.state_changes.TensorChange``) of the tensors that were loaded last.
    _state_changes: Sequence[Any] = ()
    #: Options to suggest if no task is given.
    needed_task = (
        "needs --task sentence_prediction --criterion sentence_prediction, or --task masked_lm --criterion masked_lm"
    )

    @classmethod
    def add_args(cls, parser: ArgumentParser) -> None:
        """Add the options of :data:`EncoderConfig`. Defaults come from the architecture, then from the config."""
        gen_parser_from_dataclass(parser, EncoderConfig(), delete_default=True)

    @classmethod
    def hub_models(cls) -> dict[str, str]:
        """Return an empty dict, because models are not downloaded."""
        return {}

    @classmethod
    def build_model(cls, cfg: Any, task: Any) -> LSGRobertaModel:
        """Build the model from options.

        Args:
            cfg: an EncoderConfig, DictConfig or Namespace.
            task: task with the dictionary.

        Raises:
            PyramidionError: options contradict each other or the task.
        """
        if isinstance(task, TranslationTask):
            raise PyramidionError(f"this model has no decoder: it {cls.needed_task}")
        options = complete_encoder(cfg)
        options.arch = getattr(cfg, "_name", None) or getattr(cfg, "arch", None)
        base_architecture(options)  # set fairseq's defaults for the remaining options
        model = cls(options, LSGRobertaEncoder(options, task.source_dictionary))
        if isinstance(task, MaskedLMTask):
            check_every_token(model.encoder.sentence_encoder)
            if task.cfg.tokens_per_sample > options.max_positions:
                raise PyramidionError(
                    f"--tokens-per-sample {task.cfg.tokens_per_sample:,} is more than --max-positions "
                    f"{options.max_positions:,}: raise the latter"
                )
        else:
            _warn_of_unread_blocks(options)
            _check_classes(task)
        return model

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> None:
        """Adapt the tensors of a shorter model with ``interop.roberta.adapt_state``, after fairseq's own upgrade."""
        super().upgrade_state_dict_named(state_dict, name)
        self._state_changes = type(self)._adapt_state(self, state_dict)

    @torch.no_grad()
    def predict(
        self, head: str, tokens: Tensor, document_lengths: Sequence[int] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return the output of a classification head for documents, without gradients.

        Args:
            head: name of the head.
            tokens: (B, T) ids.
            document_lengths: see :meth:`PyramidionEncoder.encode`.

        Returns:
            ((B, classes) logits, the dict of the encoder's forward).

        Raises:
            PyramidionError: the head does not exist.
        """
        if head not in self.classification_heads:
            known = ", ".join(self.classification_heads) or "none"
            raise PyramidionError(f"the model has no classification head {head!r}; it has: {known}")
        options = {"classification_head_name": head, "document_lengths": document_lengths}
        logits, extra = self(tokens, features_only=True, **options)
        return logits, extra


def _check_classes(task: Any) -> None:
    """Raise an error if the data has more labels than the head has classes, before fairseq's index error."""
    labels = class_labels.labels_of_task(task)
    if labels is not None and len(labels) > task.cfg.num_classes:
        raise PyramidionError(
            f"--num-classes {task.cfg.num_classes}, but the data has {len(labels)} labels (label/dict.txt): give "
            f"--num-classes {len(labels)}"
        )


def _warn_of_unread_blocks(options: Namespace) -> None:
    """Warn if ``<s>`` only ever attends to the first block of a document."""
    kept = [int(step.split(":")[1]) for step in options.pooling_schedule.split(",") if step]
    seen = min([options.max_positions, *(length + 1 for length in kept)])
    if options.attention == "blockwise" and seen > options.block_size:
        logger.warning(
            f"with --attention blockwise, <s> sees the first {options.block_size} of up to {seen:,} vectors alone: a "
            "classifier reads nothing of the rest (take --attention lsg, or pool to fewer than a block)"
        )
