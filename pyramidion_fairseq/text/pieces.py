"""Pieces of words."""

#: What sentencepiece puts in the place of a blank, so that it begins the first piece of every word.
WORD_START = "\u2581"
