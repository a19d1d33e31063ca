"""Files of the tokenizer in an exported directory."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any, Mapping

from .. import byte_level, dictionary_files
from ..subwords import MODEL
from .bundle import flatten

logger = logging.getLogger(__name__)

_MODULE, _CLASS = "huggingface.tokenization_pyramidion", "PyramidionTokenizer"


def usable_subwords(
    symbols: list[str], bpe: byte_level.Bpe | Path | None, options: Mapping[str, Any]
) -> byte_level.Bpe | Path | None:
    """Return the BPE or sentencepiece model if transformers can use it; otherwise log a warning and return None."""
    if isinstance(bpe, Path):
        return bpe
    if bpe is None:
        logger.warning("no BPE next to the checkpoint: the directory gets no tokenizer; give its path with --bpe")
        return None
    if options.get("document_marker") or options.get("summary_marker"):
        reason = "transformers' byte-level BPE cannot add the symbols of languages (--document-marker)"
    else:
        known, tokens = set(symbols), byte_level.tokens_of_texts(bpe)
        missing = sum(str(bpe.numbers.get(token)) not in known for token in tokens)
        if not missing:
            return bpe
        reason = f"the dictionary lacks {missing:,} of the BPE's {len(tokens):,} tokens, and transformers needs all"
    logger.warning(f"{reason}: the directory gets no tokenizer")
    return None


def write_tokenizer(
    folder: Path, symbols: list[str], bpe: byte_level.Bpe | Path | None, options: Mapping[str, Any]
) -> None:
    """Write the files of a tokenizer to an exported directory; only the dictionary if ``bpe`` is None."""
    if not isinstance(bpe, byte_level.Bpe):
        dictionary_files.write_dictionary(symbols, folder / "dict.txt")
    if bpe is None:
        return
    special: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    if isinstance(bpe, Path):
        shutil.copyfile(bpe, folder / MODEL)
        for name, text in flatten(_MODULE).items():
            (folder / name).write_text(text, encoding="utf-8")
        settings = _sentencepiece_settings(options)
    else:
        rows = byte_level.rows_from_symbols(symbols, bpe)
        write_json(folder / "vocab.json", rows)
        byte_level.write_merges(bpe, folder / "merges.txt")
        kind = "RobertaTokenizer" if "max_positions" in options else "BartTokenizer"
        settings = {"tokenizer_class": kind, "add_prefix_space": False}
        special.update({"sep_token": "</s>", "cls_token": "<s>"})
        # RobertaTokenizer always puts <s> before a text, and </s> </s> between the texts of a pair.
        if not (options["prepend_bos"] and options.get("separates_pairs", True)):
            kind, inputs = "PreTrainedTokenizerFast", ["input_ids", "attention_mask"]
            settings.update(tokenizer_class=kind, model_input_names=inputs)
            write_json(folder / "tokenizer.json", _byte_level_json(rows, bpe, options["prepend_bos"]))
    # Checkpoints fine-tuned with fairseq lack the row of <mask>; transformers would use an id outside the embedding.
    special["mask_token"] = "<mask>" if "<mask>" in symbols else None
    settings["model_max_length"] = options.get("max_positions", options["max_source_positions"])
    write_json(folder / "tokenizer_config.json", {**settings, **special})
    write_json(folder / "special_tokens_map.json", special)


def _byte_level_json(rows: Mapping[str, int], bpe: byte_level.Bpe, prepend_bos: bool) -> dict[str, Any]:
    """Return tokenizer.json of RoBERTa's byte-level BPE, with one ``</s>`` between the texts of a pair.

    With ``prepend_bos``, ``<s>`` is put before a text.
    """
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [symbol for symbol in (*dictionary_files.SPECIALS, "<mask>") if symbol in rows]
    start, end = ({"SpecialToken": {"id": symbol, "type_id": 0}} for symbol in ("<s>", "</s>"))
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    before = [start] if prepend_bos else []
    level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": rows[symbol], "content": symbol, **plain} for symbol in added],
        "normalizer": None,
        "pre_tokenizer": {**level, "add_prefix_space": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*before, first, end],
            "pair": [*before, first, end, second, end],
            "special_tokens": {
                symbol: {"id": symbol, "ids": [rows[symbol]], "tokens": [symbol]} for symbol in ("<s>", "</s>")
            },
        },
        "decoder": {**level, "add_prefix_space": True},
        "model": {"type": "BPE", "vocab": dict(rows), "merges": bpe.merges},
    }


def _sentencepiece_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    file = _MODULE.rpartition(".")[2]
    return {
        "tokenizer_class": _CLASS,
        "auto_map": {"AutoTokenizer": [f"{file}.{_CLASS}", None]},
        "prepend_bos": options["prepend_bos"],
        **({"separates_pairs": True} if options.get("separates_pairs") else {}),
        **{name: options[name] for name in ("document_marker", "summary_marker") if options.get(name)},
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
