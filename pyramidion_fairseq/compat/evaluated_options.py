"""Detection of code in those options of a checkpoint that fairseq passes to ``eval``.

When fairseq builds a model or a task, it calls ``eval`` on some options: in ``fairseq.utils.eval_str_list``,
``eval_str_dict`` and ``eval_bool``, and in the convolutional and speech models. When a checkpoint is loaded for
generation, its options and the choice of its model come from the file. ``weights_only`` does not prevent this, because
the options are ordinary strings.
"""

import ast
from argparse import Namespace
from typing import Any, Iterator, Optional, Tuple, Union

# Paths and names that the user has given, or lists of them. fairseq does not evaluate these, and a name such as
# "runs(2)" would otherwise count as code.
_NEVER_EVALUATED = frozenset(
    (
        "bpe_codes",
        "bpe_merges",
        "bpe_vocab",
        "data",
        "finetune_from_model",
        "gen_subset",
        "lang_pairs",
        "langs",
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
# Loops can replace an operator by a function: "[x for T.__class_getitem__ in [f]]", then "T['argument']".
_LOOPS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_RUNS = (ast.Call, ast.Lambda, ast.Await, ast.Yield, ast.YieldFrom, *_LOOPS)
# Powers, shifts and formatting make a large result of a short text. Results of other operators are as long as the
# text.
_GROWS = (ast.Pow, ast.LShift, ast.Mod, ast.MatMult, ast.JoinedStr)
# Attributes that are reachable from fairseq's modules and that an error could print. Others begin with "_".
_PRIVATE = frozenset(("argv", "environ", "environb", "modules", "orig_argv"))
#: Maximum characters of a text that is parsed; options that fairseq evaluates have about a hundred.
MOST_PARSED = 16_384
#: Maximum characters of any option.
MOST_TEXT = 1_000_000
#: Maximum values of an expression; fairseq builds layers from some.
MOST_VALUES = 10_000


def find_code(options: Any) -> Iterator[Tuple[str, str]]:
    """Yield (dotted name, text) of every option, at any depth, that could call or read something, or take for ever.

    Literals, and sums and products of them with at most :data:`MOST_VALUES` values, are not code; this is what such
    options contain. References to other options (``${...}``) count as code in all options, because they could compose
    a call from harmless parts, or read an environment variable. fairseq saves options with all references resolved.

    Args:
        options: a checkpoint's ``cfg`` or ``args``: nested dicts, lists, namespaces.
    """
    for name, text, evaluated in _strings("", options):
        if "${" in str(text) or len(text) > MOST_TEXT or (evaluated and _runs_code(text)):
            yield name, str(text)


def _strings(
    name: str, value: Any, evaluated: bool = True
) -> Iterator[Tuple[str, Union[str, bytes, bytearray], bool]]:
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, (str, bytes, bytearray)):
        yield name, value, evaluated
    elif isinstance(value, dict):
        for key, inner in value.items():
            plain_text = key in _NEVER_EVALUATED and _is_text(inner)
            yield from _strings(f"{name}.{key}" if name else str(key), inner, evaluated and not plain_text)
    elif isinstance(value, (list, tuple, set)):
        for inner in value:
            yield from _strings(name, inner, evaluated)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(inner, str) for inner in value))


def _runs_code(text: Union[str, bytes, bytearray]) -> bool:
    """Return whether ``eval`` of the text would call something, read private names, or make a large result.

    The text is parsed as by ``eval``, but not evaluated.
    """
    if len(text) > MOST_PARSED:
        return True
    try:
        stripped = text.lstrip(" \t") if isinstance(text, str) else text.lstrip(b" \t")
        tree = ast.parse(stripped, mode="eval")
        if any(isinstance(node, _RUNS + _GROWS) or _reads(node) for node in ast.walk(tree)):
            return True
        return _values(tree.body) > MOST_VALUES
    except (SyntaxError, ValueError):
        return False
    except (MemoryError, RecursionError):
        return True  # no option is nested that deep


def _reads(node: ast.AST) -> bool:
    """Return whether a node indexes a name, or reads a private attribute, the environment or the modules."""
    if isinstance(node, ast.Subscript):
        return any(isinstance(inner, ast.Name) for inner in ast.walk(node.value))
    return isinstance(node, ast.Attribute) and (node.attr.startswith("_") or node.attr in _PRIVATE)


def _values(node: ast.AST) -> float:
    """Return an upper bound on the number of values in the result of an expression.

    It is infinity if the expression multiplies by an unknown number.
    """
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _number(node.left), _number(node.right)
        if left is not None and right is not None:
            return 1 if abs(left * right) < 2**64 else float("inf")
        if left is not None:
            return abs(left) * _values(node.right)
        if right is not None:
            return abs(right) * _values(node.left)
        constants = any(isinstance(inner, ast.Constant) for inner in ast.walk(node))
        return float("inf") if constants else 1  # names only, such as "a*b": none of them is a number
    own = len(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)) else 1
    return own + sum(map(_values, ast.iter_child_nodes(node)))


def _number(node: ast.AST) -> Optional[float]:
    """Return an upper bound on the absolute value of a number; None if the node is not a number or not known."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, (int, float)) else None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        return _number(node.operand)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
        left, right = _number(node.left), _number(node.right)
        if left is not None and right is not None:
            return abs(left) + abs(right) if isinstance(node.op, ast.Add) else min(abs(left * right), 2.0**64)
    return None
