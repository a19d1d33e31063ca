"""RoBERTa with a sparse, pooled encoder (pyramidion_fairseq) for transformers. Needs only torch and transformers."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import SequenceClassifierOutput

from ..attention.rotations import RandomRotations
from ..models.first_token import FirstToken
from ..models.pooled_encoder import PooledStates, run_pooled_layers
from .configuration_pyramidion_roberta import PyramidionRobertaConfig
from .encoder_pyramidion import PyramidionBartEncoder


class PyramidionRobertaEncoder(PyramidionBartEncoder):
    """The equivalent of ``pyramidion_fairseq.models.roberta.SentenceEncoder``."""

    def run(self, tokens: Tensor, padding: Tensor | None, keep_states: bool) -> PooledStates:
        """Run embedding and layers. Without global tokens, ``<s>`` is not pooled."""
        if self.num_globals or not len(self.poolings):
            return super().run(tokens, padding, keep_states)
        if tokens.size(1) < 2:
            tokens = nn.functional.pad(tokens, (0, 1), value=self.padding_idx)
            padding = tokens.eq(self.padding_idx)
        return run_pooled_layers(
            lambda: self.embed(tokens),
            FirstToken.mask_of_rest(padding),
            self.layers,
            self.poolings,
            self._call_layer,
            global_tokens=FirstToken(),
            keep_states=keep_states,
        )


class ClassificationHead(nn.Module):
    """fairseq's classification head of RoBERTa, which reads the first vector."""

    def __init__(self, config: PyramidionRobertaConfig, inner: int):
        super().__init__()
        self.dense = nn.Linear(config.d_model, inner)
        self.dropout = nn.Dropout(config.pooler_dropout)
        self.activation = ACT2FN[config.head_activation]
        self.out_proj = nn.Linear(inner, config.num_labels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, labels) logits from (B, T, C)."""
        x = self.activation(self.dense(self.dropout(x[:, 0])))
        return self.out_proj(self.dropout(x))


class PyramidionRobertaForSequenceClassification(PreTrainedModel):
    """An encoder with a classification head."""

    config_class = PyramidionRobertaConfig
    base_model_prefix = "encoder"
    supports_gradient_checkpointing = True
    #: The loss is a mean over the batch, so that Trainer divides it by the number of accumulated batches.
    accepts_loss_kwargs = False
    #: The directory has the output for masked_lm, so that it can be converted back to a checkpoint.
    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]

    def __init__(self, config: PyramidionRobertaConfig):
        super().__init__(config)
        options = Namespace(**(config.pyramidion or {}))
        self.encoder = PyramidionRobertaEncoder(
            config, nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
        )
        self.encoder.gradient_checkpointing = False
        self.classifier = ClassificationHead(config, getattr(options, "head_width", config.d_model))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, RandomRotations):  # not in the checkpoint, as they are computed from a seed
            module.get_buffer("fixed").copy_(module.fixed_numbers())
        elif isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)  # transformers patches nn.init so that loaded values stay
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **more: Any,
    ) -> Any:
        """Return logits for documents.

        Args:
            input_ids: (B, T) ids, padded on either side.
            attention_mask: (B, T), 0 on padding; None masks the padding symbol.
            labels: labels for the loss, depending on ``problem_type`` of the configuration: (B,) classes; numbers for
                regression, also if ``num_labels`` is 1; (B, labels) zeros and ones for multi-label classification.
            output_hidden_states: also return the output of each layer.
            return_dict: False returns a tuple.

        Raises:
            ValueError: a document is longer than the model's positions, or ``inputs_embeds`` are given.
        """
        embedded = more.get("inputs_embeds")
        encoded: Any = self.encoder(input_ids, attention_mask, output_hidden_states, inputs_embeds=embedded)
        logits = self.classifier(encoded.last_hidden_state)
        loss = None if labels is None else self._loss(logits.float(), labels)
        out = SequenceClassifierOutput(loss=loss, logits=logits, hidden_states=encoded.hidden_states)
        wanted = self.config.return_dict if return_dict is None else return_dict
        return out if wanted else out.to_tuple()

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of (B, labels) float32, as transformers' own classifiers compute it."""
        kind = self.config.problem_type
        if kind == "multi_label_classification":
            return nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
        if kind == "regression" or self.config.num_labels == 1:
            return nn.functional.mse_loss(logits, labels.float().view_as(logits))
        return nn.functional.cross_entropy(logits, labels)

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of tokens."""
        return self.encoder.embed_tokens

    @torch.no_grad()
    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding of tokens."""
        self.encoder.embed_tokens = value


PyramidionRobertaForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
