"""The model. ``architectures.py`` registers it with fairseq under the names of its architectures."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any, Callable, ClassVar, Sequence

import torch
from fairseq.data import Dictionary
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models.transformer import TransformerConfig, TransformerModelBase
from torch import Tensor, nn

from .. import pretrained
from ..config import PyramidionConfig, complete
from ..errors import PyramidionError
from .decoder import PyramidionDecoder
from .encoder import PyramidionEncoder

if TYPE_CHECKING:
    from ..inference.summarizer import PyramidionHubInterface


class PyramidionModel(TransformerModelBase):
    """Encoder-decoder with trainable representation pooling (Pietruszka, Borchmann, Garncarek; ACL 2022).

    With an empty schedule it is a (block-wise) Transformer, with one pooling after the encoder a Transpooler, and with
    several poolings a Pyramidion.
    """

    #: Loading function of :meth:`from_pretrained`. Set by :mod:`pyramidion_fairseq.registered` because it depends on
    #: models and tasks.
    load_summarizer: ClassVar[Callable[..., PyramidionHubInterface]]
    #: ``interop.bart.adapt_state``, set by the same module because it depends on models.
    _adapt_state: ClassVar[Callable[[PyramidionModel, dict[str, Tensor]], Sequence[Any]]]
    #: Changes (``interop.state_changes.TensorChange``) of the tensors that were loaded last.
    _state_changes: Sequence[Any] = ()
    #: Distinguishes architectures of this package from fairseq's, for code that models depend on.
    is_pyramidion = True
    #: Options to suggest if no task is given.
    needed_task = (
        "needs --task long_document_summarization (fairseq's own is possible too: "
        "--task translation --truncate-source)"
    )

    @classmethod
    def add_args(cls, parser: ArgumentParser) -> None:
        """Add the options of :class:`PyramidionConfig`. Defaults come from the architecture, then from the config."""
        gen_parser_from_dataclass(parser, PyramidionConfig(), delete_default=True)

    @classmethod
    def build_model(cls, cfg: Any, task: Any) -> PyramidionModel:
        """Build the model from options.

        Args:
            cfg: a PyramidionConfig, DictConfig or Namespace.
            task: task with the dictionaries.

        Raises:
            PyramidionError: options contradict each other or the task's dictionaries.
        """
        options = complete(cfg)
        if options.share_all_embeddings and task.source_dictionary != task.target_dictionary:
            raise PyramidionError(
                "this architecture shares one embedding between documents and summaries: prepare the data with "
                "preprocess/prepare.py, or with fairseq-preprocess --joined-dictionary"
            )
        if options.pointer and task.source_dictionary != task.target_dictionary:
            raise PyramidionError(
                "--pointer copies ids of the document into the summary: prepare the data with one dictionary for both "
                "(preprocess/prepare.py, or fairseq-preprocess --joined-dictionary)"
            )
        # Otherwise fairseq would use its default width of 512 for the decoder's input and output.
        dims = {"decoder_input_dim": options.decoder_embed_dim, "decoder_output_dim": options.decoder_embed_dim}
        transformer = TransformerConfig.from_namespace(Namespace(**vars(options), **dims))
        transformer.options = options
        model = super().build_model(transformer, task)
        model.options = options
        return model

    @classmethod
    def build_encoder(
        cls, cfg: TransformerConfig, src_dict: Dictionary, embed_tokens: nn.Embedding
    ) -> PyramidionEncoder:
        return PyramidionEncoder(cfg, src_dict, embed_tokens)

    @classmethod
    def build_decoder(
        cls, cfg: TransformerConfig, tgt_dict: Dictionary, embed_tokens: nn.Embedding
    ) -> PyramidionDecoder:
        return PyramidionDecoder(cfg, tgt_dict, embed_tokens)

    def upgrade_state_dict_named(self, state_dict: dict[str, Tensor], name: str) -> None:
        """Adapt the tensors of a shorter model, such as BART's, with ``interop.bart.adapt_state``.

        fairseq calls this method before it loads a checkpoint, so ``--restore-file bart.large/model.pt`` works.
        """
        super().upgrade_state_dict_named(state_dict, name)
        self._state_changes = type(self)._adapt_state(self, state_dict)

    def make_generation_fast_(self, **kwargs: Any) -> None:
        """Prepare for generation as fairseq does, but keep the model picklable.

        fairseq replaces :meth:`train` by a local function, which cannot be pickled and makes :meth:`eval` return None.
        """
        super().make_generation_fast_(**kwargs)
        self.__dict__.pop("train", None)

    def train(self, mode: bool = True) -> PyramidionModel:
        """Switch between training and evaluation.

        Raises:
            RuntimeError: a model that was loaded to summarise is set to training.
        """
        if mode and self._is_generation_fast:
            raise RuntimeError("a model that was loaded to summarise cannot train: fairseq-train --restore-file can")
        super().train(mode)
        return self

    @classmethod
    def from_pretrained(
        cls,
        model_name_or_path: str,
        checkpoint_file: str | None = None,
        data_name_or_path: str | None = None,
        device: str = "cpu",
        sentencepiece_model: str | None = None,
        fp16: bool = False,
        bpe: str | None = None,
        dtype: str | torch.dtype = "float32",
        **overrides: Any,
    ) -> PyramidionHubInterface:
        """Load a checkpoint, or several as an ensemble, for summarisation.

        Unlike fairseq's method, it does not accept archives or URLs, which fairseq would unpack or download.

        Args:
            model_name_or_path: a checkpoint or its folder, in which dictionaries and BPE are also looked for; or the
                name of a model that comes with the package: ``pubmed-small``.
            checkpoint_file: names of checkpoints in that folder, separated by ``os.pathsep``.
            data_name_or_path: folder of the dictionaries, if different. As in fairseq, a path that starts with "." is
                relative to the model's folder, if it exists there.
            device: "cpu", "cuda", ...; "auto" is a GPU if available.
            sentencepiece_model: sentencepiece model, if it is elsewhere.
            fp16: same as ``dtype="float16"`` on a GPU; no effect on other devices.
            bpe: "sentencepiece" or "gpt2", for compatibility with fairseq. The BPE is determined from the dictionary,
                and this value must agree with it.
            dtype: dtype of weights and states: "float32", "bfloat16" or "float16" (on a GPU), as a name or a
                ``torch.dtype``; or "auto" for the fastest one of the device.
            **overrides: new values for options of the checkpoint, as in fairseq's ``from_pretrained``.

        Raises:
            PyramidionError: a file is missing, damaged or belongs to another model, or an option is unknown.
        """
        names = checkpoint_file.split(os.pathsep) if checkpoint_file else [""]
        folder = pretrained.find(model_name_or_path)
        paths = [os.path.join(folder, name) if name else folder for name in names]
        data = data_name_or_path
        if data is not None and data.startswith(".") and os.path.isdir(os.path.join(folder, data)):
            data = os.path.normpath(os.path.join(folder, data))
        hub = cls.load_summarizer(paths, data, sentencepiece_model, device, fp16, overrides, dtype)
        found = hub.cfg.bpe._name if hub.cfg.bpe else None
        if bpe not in (None, found):
            raise PyramidionError(f"bpe={bpe!r}: the dictionary of {paths[0]} goes with {found or 'no bpe'}")
        return hub

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor,
        prev_output_tokens: Tensor,
        return_all_hiddens: bool = False,
        features_only: bool = False,
        alignment_layer: int | None = None,
        alignment_heads: int | None = None,
        document_lengths: Sequence[int] | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return the logits of every summary token given the preceding tokens.

        Args:
            src_tokens: (B, T) documents.
            src_lengths: (B,) lengths of the documents.
            prev_output_tokens: (B, t) summaries, shifted by one.
            return_all_hiddens: whether to also return the states between the layers. Off by default, unlike in
                fairseq, because it keeps every layer's full-length output alive.
            document_lengths: ``src_lengths`` on the host, if documents are padded on the right; passed by the task of
                this package. See :meth:`PyramidionEncoder.encode`.

        Returns:
            ((B, t, V) logits, dict with ``attn`` and ``inner_states``; with ``--pointer`` also ``pointer``, a
            :class:`~pyramidion_fairseq.models.pointer.PointerOutput`). :meth:`get_normalized_probs` mixes both.
        """
        encoder_out = self.encoder(
            src_tokens,
            src_lengths=src_lengths,
            return_all_hiddens=return_all_hiddens,
            document_lengths=document_lengths,
        )
        return self.decoder(
            prev_output_tokens,
            encoder_out=encoder_out,
            features_only=features_only,
            alignment_layer=alignment_layer,
            alignment_heads=alignment_heads,
            src_lengths=src_lengths,
            return_all_hiddens=return_all_hiddens,
        )
