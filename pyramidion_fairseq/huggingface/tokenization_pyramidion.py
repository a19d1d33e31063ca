"""The tokenizer of an exported sentencepiece model. It needs only transformers and sentencepiece.

Texts are split by sentencepiece itself. The tokenizers library handles user-defined symbols and combining characters
differently, so that some texts would get other ids than in training.
"""

from __future__ import annotations

import os
from typing import Any

import sentencepiece
from transformers import PreTrainedTokenizer
from transformers.utils import logging

from ..text.pieces import WORD_START
from ..text.tidying import collapse_blanks, tidy

logger = logging.get_logger(__name__)

_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")


class PyramidionTokenizer(PreTrainedTokenizer):
    """Conversion of texts to the ids of fairseq's dictionary and back, equal to that of ``pyramidion-summarize``.

    Special tokens are not recognised in texts, nor are tokens added with ``add_tokens``: they are split like any other
    text. Texts longer than the model's maximum are cut, with one warning, unless ``truncation=False`` is given.

    Args:
        vocab_file: the sentencepiece model.
        dictionary_file: dict.txt, with a symbol and a count per line, without the four special symbols.
        prepend_bos: documents start with ``<s>``.
        separates_pairs: the texts of a pair are separated by ``</s> </s>``, as in RoBERTa, instead of ``</s>``.
        document_marker: symbol of the documents' language. With ``prepend_bos`` it replaces ``<s>``; otherwise it
            follows ``</s>``.
        summary_marker: symbol of the summaries' language.
    """

    vocab_files_names = {"vocab_file": "sentencepiece.model", "dictionary_file": "dict.txt"}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(
        self,
        vocab_file: str,
        dictionary_file: str,
        prepend_bos: bool = False,
        separates_pairs: bool = False,
        document_marker: str = "",
        summary_marker: str = "",
        **kwargs: Any,
    ):
        with open(vocab_file, "rb") as file:
            self._model = file.read()
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=self._model)
        with open(dictionary_file, encoding="utf-8") as file:
            lines = filter(None, file.read().split("\n"))
        self._symbols = [*_SPECIALS, *(line.rpartition(" ")[0] for line in lines)]
        self._ids = {symbol: number for number, symbol in enumerate(self._symbols)}
        self.prepend_bos, self.separates_pairs = prepend_bos, separates_pairs
        self.document_marker, self.summary_marker = document_marker, summary_marker
        self._cut_before, self._writes = False, False
        kwargs |= {"document_marker": document_marker, "summary_marker": summary_marker}
        super().__init__(prepend_bos=prepend_bos, separates_pairs=separates_pairs, **kwargs)

    @property
    def vocab_size(self) -> int:
        """Return the number of symbols of the dictionary, including special ones."""
        return len(self._symbols)

    def get_vocab(self) -> dict[str, int]:
        """Return symbol -> id."""
        return {**self._ids, **self.added_tokens_encoder}

    def __call__(self, text: Any = None, text_pair: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Do as transformers does; ``truncation`` is True unless it is given."""
        return super().__call__(text, text_pair, *args, **{"truncation": True, **kwargs})

    def encode(self, text: Any, text_pair: Any = None, *args: Any, **kwargs: Any) -> list[int]:
        """Do as transformers does; ``truncation`` is True unless it is given."""
        return super().encode(text, text_pair, *args, **{"truncation": True, **kwargs})

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """Return the pieces of a text, which is first cleaned like the texts of training."""
        return self._processor.encode(collapse_blanks(tidy(text)), out_type=str)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Return the ids with ``</s>`` and, depending on the model, ``<s>`` or the language's symbol.

        Without ``prepend_bos``, a summary (``text_target``) has no symbol of its language, as the decoder starts from
        that symbol.
        """
        marker = self._ids.get(self.summary_marker if self._writes else self.document_marker)
        first = [self.bos_token_id if marker is None else marker] if self.prepend_bos else []
        last = [] if marker is None or self.prepend_bos or self._writes else [marker]
        return [*first, *token_ids_0, *self._between(token_ids_1), *(token_ids_1 or ()), self.eos_token_id, *last]

    def _switch_to_target_mode(self) -> None:
        """Switch to summaries. transformers calls this for ``text_target``."""
        self._writes = True

    def _switch_to_input_mode(self) -> None:
        """Switch back to documents."""
        self._writes = False

    def _between(self, token_ids_1: list[int] | None) -> list[int]:
        """Return the ids between the texts of a pair: one or two ``</s>``; nothing for a single text."""
        return [] if token_ids_1 is None else [self.eos_token_id] * (1 + self.separates_pairs)

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """Return 1 for each id that is not part of the text, else 0. The arguments are those of transformers."""
        if already_has_special_tokens:
            return super().get_special_tokens_mask(token_ids_0, token_ids_1, already_has_special_tokens=True)
        middle = [1] * len(self._between(token_ids_1))
        last = [1] * (1 + (bool(self.document_marker) and not self.prepend_bos and not self._writes))
        return [1] * self.prepend_bos + [0] * len(token_ids_0) + middle + [0] * len(token_ids_1 or ()) + last

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Return zeros, because the model has no token types."""
        return [0] * len(self.build_inputs_with_special_tokens(token_ids_0, token_ids_1))

    def truncate_sequences(self, ids: list[int], *args: Any, **kwargs: Any) -> Any:
        """Do as transformers does, and warn once about texts longer than the model's maximum."""
        length = len(ids) + self.num_special_tokens_to_add()
        if length > self.model_max_length and not self._cut_before:
            self._cut_before = True
            logger.warning(
                f"a text of {length:,} tokens is cut to the model's maximum of {self.model_max_length:,}; so is every "
                "other long text, without a further warning"
            )
        return super().truncate_sequences(ids, *args, **kwargs)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Join pieces to a text."""
        return collapse_blanks("".join(tokens).replace(WORD_START, " "))

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write both files unchanged, and return their paths."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        names = (self.vocab_files_names[kind] for kind in ("vocab_file", "dictionary_file"))
        model, dictionary = (os.path.join(save_directory, prefix + name) for name in names)
        with open(model, "wb") as file:
            file.write(self._model)
        with open(dictionary, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{symbol} 1\n" for symbol in self._symbols[len(_SPECIALS) :])
        return model, dictionary

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return self.tokenize(text)

    def _convert_token_to_id(self, token: str) -> int:
        return self._ids.get(token, self._ids["<unk>"])

    def _convert_id_to_token(self, index: int) -> str:
        if index < 0:
            raise IndexError(f"{index} is not the id of a token: replace -100 in labels by the id of padding first")
        return self._symbols[index]

    def _decode(self, token_ids: int | list[int], skip_special_tokens: bool = False, *args: Any, **kwargs: Any) -> str:
        """Convert ids to text. ``<unk>`` is kept, as in ``pyramidion-summarize``, because it replaces a piece."""
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        special = {*self.all_special_ids, self._ids.get(self.summary_marker)} - {self.unk_token_id}
        left_out = special if skip_special_tokens else ()
        return self.convert_tokens_to_string(self.convert_ids_to_tokens([i for i in ids if i not in left_out]))


PyramidionTokenizer.register_for_auto_class("AutoTokenizer")
