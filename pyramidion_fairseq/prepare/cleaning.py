"""Convert raw text to one clean line.

The following stays unchanged: ``<dig>``, ``<cit>`` and other markup, case (by default), and the Unicode form.
sentencepiece's normaliser ``nmt_nfkc`` applies NFKC later, when it encodes, so that ``text/`` keeps the original.
"""

from ..text.tidying import collapse_blanks, tidy


def clean(text: str, lowercase: bool = False) -> str:
    """Return ``text`` as one line without ``<S>`` tags, with each run of white space replaced by one space.

    The result can be encoded as UTF-8, and the space is its only character at which fairseq or Python would split.
    Lone surrogates become U+FFFD. The result is empty if no readable character is left.
    """
    text = collapse_blanks(tidy(text))
    return text.lower() if lowercase else text
