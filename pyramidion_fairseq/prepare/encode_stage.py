"""Stage 3: encode text as sentencepiece pieces, joined by spaces, one document per line; count the lengths."""

import collections
import contextlib
import os
from typing import Any, Counter, Dict, Iterable, Iterator, List, NamedTuple, Set, Tuple

from .dictionary_lines import FAIRSEQ_SPECIALS, UNKNOWN
from .errors import PrepareError
from .progress_line import Progress
from .vocabulary_stage import load_model
from .worker_pool import ordered_map

CHUNK_CHARACTERS = 1 << 18
_MODEL: Dict[str, Any] = {}  # the model loaded in this process


class Encoded(NamedTuple):
    """Encoded lines, the number of pieces of each, and the number of pieces that are not in the vocabulary."""

    lines: List[str]
    lengths: List[int]
    unknown: int


def load(path: str) -> None:
    """Load the model; called once in each process."""
    processor = load_model(path, path)
    _MODEL["processor"] = processor
    _MODEL["known"] = {processor.id_to_piece(number) for number in range(processor.get_piece_size())}


def is_unknown(piece: str) -> bool:
    """Return whether a piece is not in the loaded model's vocabulary, or is a special symbol of fairseq."""
    known: Set[str] = _MODEL["known"]
    return piece not in known or piece in FAIRSEQ_SPECIALS


def count_unknown(pieces: List[str]) -> int:
    """Return how many pieces are unknown to the loaded model."""
    return sum(map(is_unknown, pieces))


def encode(lines: List[str]) -> Encoded:
    """Encode lines with the loaded model."""
    encoded, lengths, unknown = [], [], 0
    for pieces in _MODEL["processor"].encode(lines, out_type=str):
        strange = [number for number, piece in enumerate(pieces) if is_unknown(piece)]
        for number in strange:
            # Keep the characters of an unknown piece, unless fairseq would read them as something else.
            if pieces[number] in FAIRSEQ_SPECIALS or pieces[number].split() != [pieces[number]]:
                pieces[number] = UNKNOWN
        encoded.append(" ".join(pieces))
        lengths.append(len(pieces))
        unknown += len(strange)
    return Encoded(encoded, lengths, unknown)


def chunks(lines: Iterable[str]) -> Iterator[List[str]]:
    r"""Yield lists of lines without their ``\n``, each of at least :data:`CHUNK_CHARACTERS`, except the last."""
    chunk: List[str] = []
    size = 0
    for line in lines:
        chunk.append(line.rstrip("\n"))
        size += len(line)
        if size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def encode_stage(model: str, text: str, names: List[Tuple[str, int]], workers: int, folder: str) -> Dict[str, Any]:
    """Encode ``text/NAME`` to ``encoded/NAME`` below ``folder``.

    Args:
        model: path of the sentencepiece model
        names: (``split.side``, number of documents)

    Returns:
        For each name ``lengths`` ({tokens as str: documents}, tokens including </s>, as fairseq counts them) and
        ``unknown`` (number of tokens outside the vocabulary).
    """
    os.makedirs(os.path.join(folder, "encoded"))
    result: Dict[str, Any] = {}
    files = [os.path.join(text, name) for name, _ in names]
    with contextlib.ExitStack() as stack:
        inputs = [stack.enter_context(open(path, encoding="utf-8", newline="\n")) for path in files]
        items = ((name, chunk) for (name, _), stream in zip(names, inputs) for chunk in chunks(stream))
        results = ordered_map(_encode_named, items, workers, load, (model,))
        stack.enter_context(contextlib.closing(results))
        progress = stack.enter_context(Progress("encode", sum(count for _, count in names) // 2))
        outputs = {
            name: stack.enter_context(open(os.path.join(folder, "encoded", name), "w", encoding="utf-8", newline="\n"))
            for name, _ in names
        }
        counts: Dict[str, Counter[int]] = {name: collections.Counter() for name, _ in names}
        unknown: Counter[str] = collections.Counter()
        for name, encoded in results:
            outputs[name].writelines(line + "\n" for line in encoded.lines)
            counts[name].update(length + 1 for length in encoded.lengths)
            unknown[name] += encoded.unknown
            progress.add(len(encoded.lines) if name.endswith(".source") else 0)
    for name, documents in names:
        if sum(counts[name].values()) != documents:
            raise PrepareError(f"text/{name} was changed while it was encoded: run the same command again")
        lengths = {str(length): count for length, count in sorted(counts[name].items())}
        result[name] = {"lengths": lengths, "unknown": unknown[name]}
    return result


def _encode_named(item: Tuple[str, List[str]]) -> Tuple[str, Encoded]:
    name, lines = item
    return name, encode(lines)
