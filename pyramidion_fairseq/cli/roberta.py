"""``pyramidion-convert roberta``: a pretrained encoder, made long, sparse and pooled."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from ..errors import user_errors
from .common import add_pretrained_options

logger = logging.getLogger("pyramidion_fairseq.cli.roberta")

NAME = "roberta"


def add_parser(kinds: Any, model_options: bool) -> None:
    """Add the subcommand; with every option of the model if asked for, which takes fairseq and seconds."""
    parser = kinds.add_parser(
        NAME,
        help="a RoBERTa, CamemBERT or XLM-R of fairseq or Hugging Face, for classification of long documents",
        description="Make a pretrained encoder read long documents: positions are repeated, attention becomes LSG or "
        "another one (--attention), poolings are added (--pooling-schedule). A classification head comes along. Every "
        "other option of the model is a flag as well (docs/classification.md). The result is a folder for fairseq "
        "with --user-dir pyramidion_fairseq and for pyramidion-classify, with dictionary, BPE and conversion.json, "
        "which says what became of every tensor.",
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
    check_free(args.output)  # before the work begins
    with user_errors(args.input):
        source = read_source(args.input, args.dictionary, args.bpe)
    if "lsg_global_tokens" not in source.options:  # not one of ours, which knows its length
        changes.setdefault("max_positions", roberta.LONG)
    with user_errors(args.input, "converted"):
        converted = roberta.convert(source, changes)
    roberta.write(converted, source, args.output)
    if source.bpe is None:
        logger.warning(f"no BPE beside {args.input}: {args.output} cannot read texts (--bpe)")
    model = converted.checkpoint["cfg"]["model"]
    for change in converted.changes:
        logger.info(change.text)
    logger.info(
        f"wrote {args.output}: {len(converted.copied)} tensors copied bit for bit, {model['encoder_layers']} layers, "
        f"{model['max_positions']:,} positions, pooling schedule {model['pooling_schedule'] or 'empty'}"
    )
