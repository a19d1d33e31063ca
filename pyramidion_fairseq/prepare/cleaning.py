"""Raw text to one clean line.

Left alone on purpose: ``<dig>``, ``<cit>`` and other markup, case (unless asked), and the Unicode form, which is
sentencepiece's to change: its normaliser ``nmt_nfkc`` applies NFKC when it encodes, so ``text/`` keeps what the
authors wrote.
"""

from ..text.tidying import collapse_blanks, tidy


def clean(text: str, lowercase: bool = False) -> str:
    """Return ``text`` as one line without ``<S>`` tags, each run of blanks as one space.

    The result can be written as UTF-8 and has no character at which fairseq or Python would split other than the plain
    space. Lone surrogates become U+FFFD. It is empty where nothing readable is left.
    """
    text = collapse_blanks(tidy(text))
    return text.lower() if lowercase else text
