"""Makes a sentencepiece model lower-case A to Z when it encodes, and changes nothing else.

SumPubMed is lower-cased in these letters alone ("Δ" and "É" are kept), so a model trained on it encodes its texts as
before, and knows the words of texts with capitals. sentencepiece's own ``nmt_nfkc_cf`` lower-cases all letters.
"""

from __future__ import annotations

import io
import struct
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

_LABEL = (1 << 31) | 0xFF
_BYTES = np.arange(1, 256)
_CAPITALS = {bytes([code]): bytes([code + 32]) for code in range(ord("A"), ord("Z") + 1)}


def lowercase_ascii(model: bytes) -> bytes:
    """Return a sentencepiece model that also replaces A to Z by a to z when it normalises a text."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    spec = proto.normalizer_spec
    rules = read_rules(spec.precompiled_charsmap)
    spec.precompiled_charsmap = compile_rules({**rules, **_CAPITALS})
    spec.name = f"{spec.name}_lower_ascii"
    return proto.SerializeToString()


def read_rules(charsmap: bytes) -> dict[bytes, bytes]:
    """Return the replacements of a ``precompiled_charsmap``, both sides in UTF-8.

    It holds the size of a trie, the trie (a double array of darts-clone, 4 bytes per unit), and the replacements, each
    with a null byte at its end.
    """
    (size,) = struct.unpack_from("<I", charsmap)
    units = np.frombuffer(charsmap, "<u4", size // 4, 4).astype(np.int64)
    texts, labels = charsmap[4 + size :], units & _LABEL
    rules: dict[bytes, bytes] = {}
    waiting = [(_offset(int(units[0])), b"")]
    while waiting:
        node, key = waiting.pop()
        near = _BYTES[(_BYTES ^ node) < len(units)]
        for byte in near[labels[near ^ node] == near].tolist():
            unit, found = int(units[node ^ byte]), key + bytes([byte])
            below = node ^ byte ^ _offset(unit)
            if unit >> 8 & 1:  # a rule ends here; its value is the position of the replacement
                start = int(units[below]) & 0x7FFFFFFF
                rules[found] = texts[start : texts.index(b"\0", start)]
            waiting.append((below, found))
    return rules


def compile_rules(rules: dict[bytes, bytes]) -> bytes:
    """Return the ``precompiled_charsmap`` of replacements: that of a small model trained with them."""
    trained = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules.tsv"
        path.write_text("".join(f"{_codes(key)}\t{_codes(value)}\n" for key, value in rules.items()))
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["hello world we read long documents"] * 20), model_writer=trained, vocab_size=20,
            minloglevel=2, normalization_rule_tsv=str(path),
        )  # fmt: skip
    return sentencepiece_model_pb2.ModelProto.FromString(trained.getvalue()).normalizer_spec.precompiled_charsmap


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & (1 << 9)) >> 6)


def _codes(text: bytes) -> str:
    return " ".join(f"{ord(character):X}" for character in text.decode())
