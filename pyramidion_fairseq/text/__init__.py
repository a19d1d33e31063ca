"""From documents as their users have them to tokens, and from tokens back to words."""

from .documents import Document
from .tokenizers import SentencepieceTokenizer, TokenizedText, Tokenizer, WordTokenizer
from .words import Words, split_document

__all__ = [
    "Document",
    "SentencepieceTokenizer",
    "TokenizedText",
    "Tokenizer",
    "WordTokenizer",
    "Words",
    "split_document",
]
