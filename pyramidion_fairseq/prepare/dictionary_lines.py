"""sentencepiece's vocabulary as a fairseq dictionary."""

from typing import Any, List

UNKNOWN = "<unk>"
# fairseq's Dictionary adds these itself, in this order, and refuses a file that names one of them again.
FAIRSEQ_SPECIALS = ("<s>", "<pad>", "</s>", UNKNOWN)


def dictionary_lines(processor: Any) -> List[str]:
    """Return lines ``piece count`` for fairseq's ``--srcdict``, in the model's order and whatever the corpus.

    A piece with whitespace inside would break the file's format; clean text never holds one, so it keeps its place
    under a made-up name. The count is 1 throughout: nothing here orders or cuts the dictionary by it.
    """
    lines = []
    for number in range(processor.get_piece_size()):
        piece = processor.id_to_piece(number)
        if piece in FAIRSEQ_SPECIALS or processor.is_unknown(number):
            continue
        if piece.split() != [piece]:
            piece = f"<blank-piece-{number}>"
        lines.append(f"{piece} 1")
    return lines
