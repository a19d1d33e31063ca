"""``pyramidion-convert roberta``: extend a pretrained encoder to long documents, with sparse attention and pooling."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from ..errors import user_errors
from .common import add_pretrained_options

logger = logging.getLogger("pyramidion_fairseq.cli.roberta")

NAME = "roberta"


def add_parser(kinds: Any, model_options: bool) -> None:
    """Add the subcommand; ``model_options`` adds every option of the model, which imports fairseq (seconds)."""
    parser = kinds.add_parser(
        NAME,
        help="convert a RoBERTa, CamemBERT or XLM-R of fairseq or Hugging Face, to classify long documents",
        description="Extend a pretrained encoder to long documents. Its positions are repeated, its attention becomes "
        "LSG or another one (--attention), and poolings are added (--pooling-schedule). Classification heads stay. "
        "Every other option of the model can be given, too (docs/classification.md). The output folder is for fairseq "
        "with --user-dir pyramidion_fairseq and for pyramidion-classify. It contains the dictionary, the BPE and "
        "conversion.json, which lists how each tensor was converted.",
        argument_default=argparse.SUPPRESS,
    )
    add_pretrained_options(parser)
    parser.set_defaults(run=run)
    if model_options:
        from fairseq.dataclass.utils import gen_parser_from_dataclass

        from .. import registered  # noqa: F401
        from ..models.encoder_config import EncoderConfig

        gen_parser_from_dataclass(parser, EncoderConfig(), delete_default=True)


def run(args: argparse.Namespace) -> None:
    """Run ``pyramidion-convert roberta``."""
    from ..interop.bart.convert import check_free
    from ..interop.roberta import convert as roberta
    from ..interop.roberta.sources import read_source

    ours = {"kind", "input", "output", "dictionary", "bpe", "run"}
    changes = {name: value for name, value in vars(args).items() if name not in ours}
    check_free(args.output)  # fail before the slow part
    with user_errors(args.input):
        source = read_source(args.input, args.dictionary, args.bpe)
    if "lsg_global_tokens" not in source.options:  # a checkpoint of this package keeps its length
        changes.setdefault("max_positions", roberta.LONG)
    with user_errors(args.input, "converted"):
        converted = roberta.convert(source, changes)
    roberta.write(converted, source, args.output)
    if source.bpe is None:
        logger.warning(f"no BPE found next to {args.input}: {args.output} cannot tokenize text; give it with --bpe")
    model = converted.checkpoint["cfg"]["model"]
    for change in converted.changes:
        logger.info(change.text)
    logger.info(
        f"wrote {args.output}: {len(converted.copied)} tensors copied bit for bit, {model['encoder_layers']} layers, "
        f"{model['max_positions']:,} positions, pooling schedule {model['pooling_schedule'] or 'empty'}"
    )
