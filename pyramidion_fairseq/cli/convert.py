"""``pyramidion-convert``: checkpoints of other code, made ours."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PyramidionError, user_errors
from ..interop.families import TITLES
from ..interop.huggingface import GENERATION
from ..utils import interrupts
from . import roberta
from .common import Parser, add_pretrained_options, one_line_exit_and_log

logger = logging.getLogger("pyramidion_fairseq.cli.convert")  # also where it is run as __main__

COMMAND = "pyramidion-convert"

if TYPE_CHECKING:  # argparse's own class takes no argument when it runs
    Kinds = argparse._SubParsersAction[Parser]

#: Tokens that a converted BART reads unless --max-source-positions says otherwise.
LONG = 8192


def build_parser(model_options: bool = False) -> argparse.ArgumentParser:
    """Return the command's options.

    Those of a model, for families, take fairseq and seconds, and are there if asked for.
    """
    parser = Parser(prog=COMMAND, description=__doc__)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    _add_published(kinds)
    for family in TITLES:
        _add_family(kinds, family, model_options)
    _add_hugging_face(kinds)
    roberta.add_parser(kinds, model_options)
    return parser


def _add_published(kinds: Kinds) -> None:
    parser = kinds.add_parser(
        "published",
        help="a checkpoint of the authors' published code (applicaai/pyramidions)",
        description="Map the names and arguments of a checkpoint of the authors' published code to ours. The result "
        "serves fairseq-generate and --finetune-from-model with --user-dir pyramidion_fairseq.",
    )
    parser.add_argument("input", metavar="IN.pt", help="the published checkpoint")
    parser.add_argument("output", metavar="OUT.pt", help="where to write ours; must not exist")
    parser.add_argument(
        "--data", metavar="DIR", help="folder with the dict.*.txt of its training (default: the one that IN.pt names)"
    )
    parser.set_defaults(run=run_published)


def _add_family(kinds: Kinds, family: str, model_options: bool) -> None:
    title, what = TITLES[family]
    parser = kinds.add_parser(
        family,
        help=what,
        description=f"Make a pretrained {title} read long documents: positions are repeated, attention becomes "
        "sparse (--attention), poolings are added (--pool-lengths or --pooling-schedule). Every other option of the "
        "model is a flag as well (docs/options.md). The result is a folder for fairseq with --user-dir "
        "pyramidion_fairseq, with dictionary, BPE and conversion.json, which says what became of every tensor.",
        argument_default=argparse.SUPPRESS,
    )
    add_pretrained_options(parser)
    parser.add_argument(
        "--pool-lengths", metavar="N[,N...]", help="pool to these lengths after the last encoder layers"
    )
    parser.set_defaults(run=run_family)
    if model_options:
        _add_model_options(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    from fairseq.dataclass.utils import gen_parser_from_dataclass

    from .. import registered  # noqa: F401
    from ..config import PyramidionConfig

    gen_parser_from_dataclass(parser, PyramidionConfig(), delete_default=True)


def _add_hugging_face(kinds: Kinds) -> None:
    parser = kinds.add_parser(
        "huggingface",
        help="a checkpoint of ours as a directory that transformers loads",
        description="Write a directory for transformers' from_pretrained(..., trust_remote_code=True): weights as "
        "safetensors, the model's code, configuration, tokenizer, model card. 'bart' makes a checkpoint of it again.",
    )
    add = parser.add_argument
    add("input", metavar="IN.pt", help="a checkpoint of ours, or its folder")
    add("output", metavar="OUT", type=Path, help="folder to write; must not exist or be empty")
    what = "dict.txt (default: beside the checkpoint, or where training found it)"
    add("--dictionary", metavar="FILE", type=Path, help=what)
    what = "with a sentencepiece model, or encoder.json and vocab.bpe; or that model's file (default: those folders)"
    add("--bpe", metavar="FOLDER", type=Path, help=what)
    for name, value in GENERATION.items():
        what = f"as of fairseq-generate (default: as generation.json beside IN.pt says, else {value})"
        add("--" + name.replace("_", "-"), type=type(value), help=what)
    parser.set_defaults(run=run_hugging_face)


def run_published(args: argparse.Namespace) -> None:
    """Run ``pyramidion-convert published``."""
    from .. import vocabularies
    from ..checkpoints import load_checkpoint, save_checkpoint
    from ..interop.published import convert_published

    if os.path.exists(args.output):
        raise PyramidionError(f"{args.output} exists: remove it, or choose another name")
    with user_errors(args.input, "converted"):
        converted = convert_published(load_checkpoint(args.input), args.data)
    if vocabularies.recorded(converted["extra_state"]) is None:
        message = f"no dictionaries with the sizes of {args.input}'s embeddings in {args.data or 'the data it names'}"
        if args.data:
            raise PyramidionError(message)
        logger.warning(f"{message}: {args.output} carries none, so that only sizes can be compared (--data)")
    save_checkpoint(converted, args.output)
    _log_size(args.output, converted)


def run_family(args: argparse.Namespace) -> None:
    """Run ``pyramidion-convert bart``, or that of another family."""
    from ..interop.bart import convert as bart
    from ..interop.bart.sources import read_source
    from ..interop.families.every import FAMILIES

    family = FAMILIES[args.kind]
    given = dict(vars(args))
    ours = {"kind", "input", "output", "dictionary", "bpe", "pool_lengths", "run"}
    bart.check_free(args.output)  # before the work begins
    changes = {name: value for name, value in given.items() if name not in ours}
    with user_errors(args.input):
        source = read_source(args.input, args.dictionary, args.bpe, family)
    if "pool_lengths" in given:
        if "pooling_schedule" in changes:
            raise PyramidionError("give --pool-lengths or --pooling-schedule, not both")
        lengths = _lengths(given["pool_lengths"])
        changes["pooling_schedule"] = bart.last_layers(lengths, source.options["encoder_layers"])
    if "pooling_schedule" not in source.options:  # not one of ours, which knows its length
        changes.setdefault("max_source_positions", max(LONG, source.options["max_source_positions"]))
    family.check({**source.options, **changes})
    with user_errors(args.input, "converted"):
        converted = bart.convert(source, changes)
    bart.write(converted, source, args.output)
    logger.info(f"copied {len(converted.copied)} tensors of {args.input} bit for bit")
    _log_size(args.output, converted.checkpoint)


def run_hugging_face(args: argparse.Namespace) -> None:
    """Run ``pyramidion-convert huggingface``."""
    from .. import pretrained
    from ..inference.loading import find_checkpoint
    from ..interop.huggingface.export import export

    given = {name: getattr(args, name) for name in GENERATION if getattr(args, name) is not None}
    checkpoint = Path(find_checkpoint(pretrained.find(args.input)))
    loader = export(checkpoint, args.output, given, args.dictionary, args.bpe)
    logger.info(f"wrote {args.output}: {loader}.from_pretrained(..., trust_remote_code=True) loads it")


def _lengths(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise PyramidionError(f"--pool-lengths must be lengths with commas between them, got {text!r}") from None


def _log_size(output: os.PathLike[str] | str, checkpoint: dict[str, Any]) -> None:
    model = checkpoint["cfg"]["model"]
    parameters = sum(tensor.numel() for tensor in checkpoint["model"].values())
    logger.info(
        f"wrote {output}: {parameters:,} values, {model['encoder_layers']}+{model['decoder_layers']} layers, "
        f"pooling schedule {model['pooling_schedule'] or 'empty'}"
    )


def main(argv: list[str] | None = None) -> None:
    """Run the command; bad input ends it with one line on stderr and exit status 1."""
    with one_line_exit_and_log(COMMAND):
        given = sys.argv[1:] if argv is None else argv
        asks_for_help = any(word in ("-h", "--help") for word in given)
        with_options = given[:1] in ([family] for family in (*TITLES, roberta.NAME)) and not asks_for_help
        args = build_parser(with_options).parse_args(given)
        from .. import registered  # noqa: F401 -- safe loading is a part of it

        interrupts.check()
        args.run(args)


if __name__ == "__main__":
    main()
