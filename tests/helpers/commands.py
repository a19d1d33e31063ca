"""Parse command lines with the parsers of their commands."""

import importlib

from fairseq import options


def parse(words):
    """Parse a command of ours or of fairseq as it does itself; return False for other commands."""
    name, arguments = words[0], words[1:]
    if name in ("fairseq-train", "fairseq-generate"):
        make = options.get_training_parser if name == "fairseq-train" else options.get_generation_parser
        options.parse_args_and_arch(make(), arguments)
    elif name == "pyramidion-prepare":
        importlib.import_module("pyramidion_fairseq.prepare.options").build_parser().parse_args(arguments)
    elif name.startswith("pyramidion-"):
        module = importlib.import_module(f"pyramidion_fairseq.cli.{name.partition('-')[2]}")
        module.build_parser(*arguments[: name.endswith("convert")]).parse_args(arguments)
    elif words[:2] == ["python", "preprocess/prepare.py"]:
        importlib.import_module("pyramidion_fairseq.prepare.options").build_parser().parse_args(arguments[1:])
    else:
        return False
    return True
