"""Documents to tokens, and tokens back to words."""

from .documents import Document
from .tidying import tidy
from .tokenizer import TokenizedText, Tokenizer
from .tokenizers import SentencepieceTokenizer, WordTokenizer, build_tokenizer
from .words import DocumentWords, Section, Words, split_document

__all__ = [
    "Document",
    "DocumentWords",
    "Section",
    "SentencepieceTokenizer",
    "TokenizedText",
    "Tokenizer",
    "WordTokenizer",
    "Words",
    "build_tokenizer",
    "split_document",
    "tidy",
]
