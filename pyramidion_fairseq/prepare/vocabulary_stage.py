"""Stage 2: train a sentencepiece model on a sample of the training split, or copy a given one."""

import argparse
import json
import logging
import os
import shutil
import sys
from typing import Any, Dict

from .child_process import run_child
from .errors import PrepareError
from .labels import text_sides

logger = logging.getLogger("prepare")
MODEL, VOCABULARY = "sentencepiece.model", "sentencepiece.vocab"
TRAINER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "train_sentencepiece.py")


def vocabulary_stage(args: argparse.Namespace, text: str, documents: int, folder: str) -> Dict[str, Any]:
    """Write ``sentencepiece.model`` and ``sentencepiece.vocab`` below ``folder``.

    Args:
        text: folder with ``train.source`` and the other texts of the training split
        documents: lines in each of them

    Returns:
        ``pieces``: size of the vocabulary, including the model's special pieces.
    """
    model = os.path.join(folder, MODEL)
    if args.spm_model:
        shutil.copyfile(args.spm_model, model)
    else:
        plan = {
            "model": model,
            "files": [os.path.join(text, f"train.{side}") for side in text_sides(args)],
            "documents": documents,
            "sample": args.spm_sample,
            "seed": args.seed,
            "vocab_size": args.vocab_size,
            "type": args.spm_type,
            "user_symbols": args.user_symbols,
            "lowercase": args.lowercase,
        }
        scratch = os.path.dirname(folder)
        path = os.path.join(scratch, "plan.json")
        with open(path, "w", encoding="utf-8") as stream:
            json.dump(plan, stream)
        log = os.path.join(scratch, "sentencepiece.log")
        run_child([sys.executable, TRAINER, path], log, scratch, "training sentencepiece")
    processor = load_model(model, args.spm_model or model)
    with open(os.path.join(folder, VOCABULARY), "w", encoding="utf-8", newline="\n") as stream:
        for number in range(processor.get_piece_size()):
            stream.write(f"{processor.id_to_piece(number)}\t{processor.get_score(number):g}\n")
    pieces = processor.get_piece_size()
    if args.spm_model:
        logger.info("sentencepiece: %s has %d pieces (--vocab-size is ignored)", args.spm_model, pieces)
    elif pieces < args.vocab_size:
        logger.warning("sentencepiece: the corpus gives only %d pieces instead of %d", pieces, args.vocab_size)
    return {"pieces": pieces}


def load_model(path: str, name: str) -> Any:
    """Load a sentencepiece processor; raise PrepareError, with ``name`` in the message, if ``path`` is not a model."""
    import sentencepiece

    with open(path, "rb") as stream:  # sentencepiece cannot open files whose names are not UTF-8
        content = stream.read()
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=content or b"nothing")
    except (OSError, RuntimeError, ValueError):
        raise PrepareError(f"{name} is not a sentencepiece model") from None
