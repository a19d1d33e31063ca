"""Convert sentencepiece's vocabulary to a fairseq dictionary."""

from typing import Any, List

UNKNOWN = "<unk>"
# fairseq's Dictionary adds these itself, in this order, and refuses a file that contains one of them.
FAIRSEQ_SPECIALS = ("<s>", "<pad>", "</s>", UNKNOWN)


def dictionary_lines(processor: Any) -> List[str]:
    """Return lines ``piece count`` for fairseq's ``--srcdict``, in the order of the model's ids.

    A piece with white space would break the file format. It never occurs in clean text, so a placeholder keeps its id.
    All counts are 1, as nothing sorts or cuts the dictionary by count.
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
