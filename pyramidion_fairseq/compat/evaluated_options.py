"""Options that fairseq evaluates: which of those that a checkpoint brings along could run code.

Building a model or a task, fairseq calls ``eval`` on some options: ``fairseq.utils.eval_str_list``, ``eval_str_dict``
and ``eval_bool`` do, and the convolutional and speech models do it themselves. When a checkpoint is loaded to generate
from it, the options come out of the checkpoint, and so does the choice of the model. ``weights_only`` does not help,
because to it they are strings like any other.
"""

import ast
from argparse import Namespace
from typing import Any, Iterator, Tuple, Union

from omegaconf import Container, Node, OmegaConf

# Places and names, as the user has typed them, or lists of them. fairseq evaluates none, and "runs(2)" would read as
# Python.
_NEVER_EVALUATED = frozenset(
    (
        "bpe_codes",
        "bpe_merges",
        "bpe_vocab",
        "data",
        "finetune_from_model",
        "gen_subset",
        "log_file",
        "path",
        "plasma_path",
        "restore_file",
        "results_path",
        "save_dir",
        "sentencepiece_model",
        "source_lang",
        "target_lang",
        "tensorboard_logdir",
        "train_subset",
        "user_dir",
        "valid_subset",
        "wandb_project",
    )
)
# Loops can put a function in the place of an operator: "[x for T.__class_getitem__ in [f]]", then "T['argument']".
_LOOPS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_RUNS = (ast.Call, ast.Lambda, ast.Await, ast.Yield, ast.YieldFrom, *_LOOPS)


def find_code(options: Any) -> Iterator[Tuple[str, str]]:
    """(dotted name, text) of every option, at any depth, whose evaluation could call something.

    Literals and sums of them, which is what such options hold, are no code. A reference to other options (``${...}``)
    counts as code, since it could put a call together from harmless parts; fairseq saves options with all references
    resolved.

    Args:
        options: a checkpoint's ``cfg`` or ``args``: nested dicts, lists, namespaces, omegaconf containers.
    """
    for name, text in _strings("", options):
        if "${" in str(text) or _runs_code(text):
            yield name, str(text)


def _strings(name: str, value: Any) -> Iterator[Tuple[str, Union[str, bytes]]]:
    if isinstance(value, Namespace):
        value = vars(value)
    elif isinstance(value, Container):
        value = OmegaConf.to_container(value, resolve=False)
    elif isinstance(value, Node):
        value = value._value()  # one that stands in a plain dict gives its content once fairseq makes that a config
    if isinstance(value, (str, bytes, bytearray)):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not (key in _NEVER_EVALUATED and _is_text(inner)):
                yield from _strings(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, (list, tuple, set)):
        for inner in value:
            yield from _strings(name, inner)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(inner, str) for inner in value))


def _runs_code(text: Union[str, bytes]) -> bool:
    """Whether ``eval`` of the text would call anything. Parses it as ``eval`` does, and does not run it."""
    try:
        tree = ast.parse(text.lstrip(" \t" if isinstance(text, str) else b" \t"), mode="eval")
    except (SyntaxError, ValueError):
        return False
    except (MemoryError, RecursionError):
        return True  # no option is nested that deep
    return any(isinstance(node, _RUNS) for node in ast.walk(tree))
