"""Raw text to one clean line.

Left alone on purpose: ``<dig>``, ``<cit>`` and other markup, case (unless asked), and the Unicode form, which is
sentencepiece's to change: its normaliser ``nmt_nfkc`` applies NFKC when it encodes, so ``text/`` keeps what the
authors wrote.
"""

import re

# str.isspace() characters (what fairseq's \s+ splits at), C0 and C1 control characters, zero-width and directional
# marks, the byte order mark. NUL is not here: it is removed and leaves no space.
BLANKS = re.compile(
    "[\\s\x01-\x1f\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]+"
)
SENTENCE_TAGS = re.compile("</?S>")
REMOVED = re.compile("[\x00\u00ad]")  # soft hyphens are invisible and sit inside words
SURROGATES = re.compile("[\ud800-\udfff]")
UNKNOWN_CHARACTER = "\ufffd"


def clean(text: str, lowercase: bool = False) -> str:
    """Return ``text`` as one line without ``<S>`` tags, each run of blanks as one space.

    The result can be written as UTF-8 and has no character at which fairseq or Python would split other than the plain
    space. Lone surrogates become U+FFFD. It is empty where nothing readable is left.
    """
    text = SURROGATES.sub(UNKNOWN_CHARACTER, REMOVED.sub("", text))
    text = BLANKS.sub(" ", SENTENCE_TAGS.sub(" ", text)).strip()
    if not text.strip(UNKNOWN_CHARACTER + " "):
        return ""
    return text.lower() if lowercase else text
