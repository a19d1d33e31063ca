"""The tokenizer of an exported sentencepiece model. Needs transformers and sentencepiece alone.

sentencepiece itself splits the text: the tokenizers library splits user-defined symbols, and normalises combining
characters, in other ways, so that some texts would get other ids than in training.
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
    """Texts to the ids of fairseq's dictionary and back, as ``pyramidion-summarize`` makes them.

    A text is plain text: what looks like a special token in it, or was added with ``add_tokens``, is split as anything
    else. What is longer than the model reads is cut, with one warning, unless ``truncation=False`` is given.

    Args:
        vocab_file: the sentencepiece model.
        dictionary_file: dict.txt, a symbol and a count a line; the four special symbols come before.
        prepend_bos: whether documents start with ``<s>``.
        separates_pairs: whether ``</s> </s>`` stands between the texts of a pair, as in RoBERTa; else ``</s>``.
        document_marker: the symbol of their language: with ``prepend_bos`` instead of ``<s>``, else after ``</s>``.
        summary_marker: that of the summaries.
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
        """How many symbols the dictionary has, the special ones included."""
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
        """Return the pieces of a text, cleaned first as the texts of training were."""
        return self._processor.encode(collapse_blanks(tidy(text)), out_type=str)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Return the ids with ``</s>`` after them, and ``<s>`` or the language's symbol where the model wants them.

        A summary (``text_target``) without ``<s>`` has no symbol of its language: the decoder starts from it.
        """
        marker = self._ids.get(self.summary_marker if self._writes else self.document_marker)
        first = [self.bos_token_id if marker is None else marker] if self.prepend_bos else []
        last = [] if marker is None or self.prepend_bos or self._writes else [marker]
        return [*first, *token_ids_0, *self._between(token_ids_1), *(token_ids_1 or ()), self.eos_token_id, *last]

    def _switch_to_target_mode(self) -> None:
        """Read summaries from now on; transformers calls it for ``text_target``."""
        self._writes = True

    def _switch_to_input_mode(self) -> None:
        """Read documents again."""
        self._writes = False

    def _between(self, token_ids_1: list[int] | None) -> list[int]:
        """Return what stands between the texts of a pair: ``</s>`` ends each text, and may stand before the second."""
        return [] if token_ids_1 is None else [self.eos_token_id] * (1 + self.separates_pairs)

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """Return 1 for each id that is no part of the text, else 0; arguments as of transformers."""
        if already_has_special_tokens:
            return super().get_special_tokens_mask(token_ids_0, token_ids_1, already_has_special_tokens=True)
        middle = [1] * len(self._between(token_ids_1))
        last = [1] * (1 + (bool(self.document_marker) and not self.prepend_bos and not self._writes))
        return [1] * self.prepend_bos + [0] * len(token_ids_0) + middle + [0] * len(token_ids_1 or ()) + last

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Return zeros: the model has no types."""
        return [0] * len(self.build_inputs_with_special_tokens(token_ids_0, token_ids_1))

    def truncate_sequences(self, ids: list[int], *args: Any, **kwargs: Any) -> Any:
        """Do as transformers does; warns the first time that a text is longer than the model reads."""
        length = len(ids) + self.num_special_tokens_to_add()
        if length > self.model_max_length and not self._cut_before:
            self._cut_before = True
            logger.warning(
                f"a text of {length:,} tokens is cut after {self.model_max_length:,}, which is what the model reads; "
                "so is every longer one"
            )
        return super().truncate_sequences(ids, *args, **kwargs)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Return the text that pieces stand for."""
        return collapse_blanks("".join(tokens).replace(WORD_START, " "))

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write both files as they were; return their paths."""
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
        return self._symbols[index]

    def _decode(self, token_ids: int | list[int], skip_special_tokens: bool = False, *args: Any, **kwargs: Any) -> str:
        """Convert ids to text; ``<unk>`` stays, as ``pyramidion-summarize`` writes it: it stands for something."""
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        special = {*self.all_special_ids, self._ids.get(self.summary_marker)} - {self.unk_token_id}
        left_out = special if skip_special_tokens else ()
        return self.convert_tokens_to_string(self.convert_ids_to_tokens([i for i in ids if i not in left_out]))


PyramidionTokenizer.register_for_auto_class("AutoTokenizer")
