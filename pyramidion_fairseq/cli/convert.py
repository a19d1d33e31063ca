"""``pyramidion-convert``: checkpoints of other code, made ours."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from ..checkpoints import load_checkpoint, save_checkpoint
from ..conversion import convert_published
from ..errors import PyramidionError

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="pyramidion-convert", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    published = kinds.add_parser(
        "published",
        help="a checkpoint of the authors' published code (applicaai/pyramidions)",
        description="Map the names and arguments of a checkpoint of the authors' published code to ours. The result "
        "serves fairseq-generate and --finetune-from-model with --user-dir pyramidion_fairseq.",
    )
    published.add_argument("input", metavar="IN.pt", help="the published checkpoint")
    published.add_argument("output", metavar="OUT.pt", help="where to write ours; must not exist")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command; bad input ends it with one line on stderr and exit status 1."""
    logging.basicConfig(format="%(levelname)s | %(message)s", level=logging.INFO)
    args = build_parser().parse_args(argv)
    try:
        if os.path.exists(args.output):
            raise PyramidionError(f"{args.output} exists: remove it, or choose another name")
        converted = convert_published(load_checkpoint(args.input))
        save_checkpoint(converted, args.output)
    except (PyramidionError, OSError) as error:
        sys.exit(f"pyramidion-convert: error: {error}")
    model = converted["cfg"]["model"]
    parameters = sum(tensor.numel() for tensor in converted["model"].values())
    logger.info(
        f"wrote {args.output}: {parameters:,} values, {model['encoder_layers']}+{model['decoder_layers']} layers, "
        f"pooling schedule {model['pooling_schedule']}"
    )


if __name__ == "__main__":
    main()
