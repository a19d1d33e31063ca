"""``pyramidion-convert``: convert checkpoints between this package, the published code, fairseq and Hugging Face."""

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

if TYPE_CHECKING:  # the class cannot be subscripted at run time
    Kinds = argparse._SubParsersAction[Parser]

#: Default --max-source-positions of a converted model, in tokens.
LONG = 8192


def build_parser(model_options: bool = False) -> argparse.ArgumentParser:
    """Return the command's parser.

    Args:
        model_options: whether to add every option of the model; this imports fairseq, which takes seconds.
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
        help="convert a checkpoint of the authors' published code (applicaai/pyramidions)",
        description="Convert a checkpoint of the authors' published code to this package's names and arguments. Use "
        "the result with fairseq-generate or --finetune-from-model, and --user-dir pyramidion_fairseq.",
    )
    parser.add_argument("input", metavar="IN.pt", help="the published checkpoint")
    parser.add_argument("output", metavar="OUT.pt", help="converted checkpoint to write; must not exist")
    parser.add_argument(
        "--data", metavar="DIR", help="folder with the dict.*.txt of its training (default: the folder named in IN.pt)"
    )
    parser.set_defaults(run=run_published)


def _add_family(kinds: Kinds, family: str, model_options: bool) -> None:
    title, what = TITLES[family]
    parser = kinds.add_parser(
        family,
        help=what,
        description=f"Extend a pretrained {title} to long documents. Its positions are repeated, its attention "
        "becomes sparse (--attention), and poolings are added (--pool-lengths or --pooling-schedule). Every other "
        "option of the model can be given, too (docs/options.md). The output folder is for fairseq with --user-dir "
        "pyramidion_fairseq. It contains the dictionary, the BPE and conversion.json, which lists how each tensor was "
        "converted.",
        argument_default=argparse.SUPPRESS,
    )
    add_pretrained_options(parser)
    parser.add_argument(
        "--pool-lengths", metavar="N[,N...]", help="lengths to pool to after the last encoder layers, one per layer"
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
        help="export a checkpoint of this package to a directory that transformers can load",
        description="Write a directory for transformers' from_pretrained(..., trust_remote_code=True): weights as "
        "safetensors, model code, configuration, tokenizer, model card. 'pyramidion-convert bart' converts it back.",
    )
    add = parser.add_argument
    add("input", metavar="IN.pt", help="checkpoint of this package, or its folder")
    add("output", metavar="OUT", type=Path, help="output folder; must be empty or not exist")
    what = "dict.txt (default: next to the checkpoint, or in the data folder of its training)"
    add("--dictionary", metavar="FILE", type=Path, help=what)
    what = "folder with encoder.json and vocab.bpe or with a sentencepiece model, or the latter's file"
    add("--bpe", metavar="FOLDER", type=Path, help=f"{what} (default: the folders of the dictionary)")
    for name, value in GENERATION.items():
        what = f"as in fairseq-generate (default: from generation.json next to IN.pt, otherwise {value})"
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
        data = args.data or "the data folder named in it"
        message = f"found no dictionaries in {data} whose sizes match the embeddings of {args.input}"
        if args.data:
            raise PyramidionError(message)
        logger.warning(
            f"{message}: {args.output} contains no dictionaries, so only their sizes can be checked later (use --data)"
        )
    save_checkpoint(converted, args.output)
    _log_size(args.output, converted)


def run_family(args: argparse.Namespace) -> None:
    """Run ``pyramidion-convert bart`` or the command of another family."""
    from ..interop.bart import convert as bart
    from ..interop.bart.sources import read_source
    from ..interop.families.every import FAMILIES

    family = FAMILIES[args.kind]
    given = dict(vars(args))
    ours = {"kind", "input", "output", "dictionary", "bpe", "pool_lengths", "run"}
    bart.check_free(args.output)  # fail before the slow part
    changes = {name: value for name, value in given.items() if name not in ours}
    with user_errors(args.input):
        source = read_source(args.input, args.dictionary, args.bpe, family)
    if "pool_lengths" in given:
        if "pooling_schedule" in changes:
            raise PyramidionError("--pool-lengths and --pooling-schedule cannot be used together: give only one")
        lengths = _lengths(given["pool_lengths"])
        changes["pooling_schedule"] = bart.last_layers(lengths, source.options["encoder_layers"])
    if "pooling_schedule" not in source.options:  # a checkpoint of this package keeps its length
        changes.setdefault("max_source_positions", max(LONG, source.options["max_source_positions"]))
    family.check_options({**source.options, **changes})
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
    logger.info(f"wrote {args.output}: load it with {loader}.from_pretrained(..., trust_remote_code=True)")


def _lengths(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise PyramidionError(f"--pool-lengths must be integers separated by commas, got {text!r}") from None


def _log_size(output: os.PathLike[str] | str, checkpoint: dict[str, Any]) -> None:
    model = checkpoint["cfg"]["model"]
    parameters = sum(tensor.numel() for tensor in checkpoint["model"].values())
    logger.info(
        f"wrote {output}: {parameters:,} parameters, {model['encoder_layers']}+{model['decoder_layers']} layers, "
        f"pooling schedule {model['pooling_schedule'] or 'empty'}"
    )


def main(argv: list[str] | None = None) -> None:
    """Run the command; invalid input prints one line to stderr and exits with status 1."""
    with one_line_exit_and_log(COMMAND):
        given = sys.argv[1:] if argv is None else argv
        asks_for_help = any(word in ("-h", "--help") for word in given)
        with_options = given[:1] in ([family] for family in (*TITLES, roberta.NAME)) and not asks_for_help
        args = build_parser(with_options).parse_args(given)
        from .. import registered  # noqa: F401 -- also installs safe loading

        interrupts.raise_swallowed()
        args.run(args)


if __name__ == "__main__":
    main()
