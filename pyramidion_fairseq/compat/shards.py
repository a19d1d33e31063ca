"""Selection of the documents of ``fairseq-generate``: all, or those of ``--num-shards N --shard-id I``.

Stock fairseq accepts these two options but ignores them. With its own tasks it silently skips the last batch unless
its size is a multiple of ``--required-batch-size-multiple`` (8).
"""

import argparse
import functools
import os
import sys
from typing import Any

from ..errors import PyramidionError
from .marks import mark


def install() -> None:
    """Make ``fairseq-generate`` honour the options, and other commands refuse them. Further calls do nothing."""
    from fairseq import options

    stock = options.parse_args_and_arch
    if getattr(stock, "honours_shards", False):
        return

    @functools.wraps(stock)
    def parse_args_and_arch(*args: Any, **kwargs: Any) -> Any:
        parsed = stock(*args, **kwargs)
        options = parsed[0] if isinstance(parsed, tuple) else parsed
        honour_shards(options)
        keep_last_batch(options, sys.argv[1:])
        return parsed

    options.parse_args_and_arch = mark(parse_args_and_arch, "honours_shards")


def honour_shards(args: argparse.Namespace) -> None:
    """Set the rank and the world size, from which ``fairseq-generate`` reads the shard.

    Args:
        args: parsed options of a command of fairseq, which are changed.

    Raises:
        PyramidionError: the shard does not exist, its output would overwrite another's, or the command ignores shards.
    """
    shards, shard = getattr(args, "num_shards", 1), getattr(args, "shard_id", 0)
    # fairseq-eval-lm has a context_window, and honours the options.
    if (shards, shard) in ((1, 0), (None, None)) or hasattr(args, "context_window"):
        return
    if not hasattr(args, "nbest") or hasattr(args, "buffer_size"):
        raise PyramidionError(
            "--num-shards and --shard-id work only with fairseq-generate: for this command, split the input"
        )
    if not 0 <= shard < shards:
        raise PyramidionError(f"--shard-id {shard}: must be at least 0 and less than --num-shards {shards}")
    if args.distributed_world_size > 1:
        raise PyramidionError("--num-shards and --distributed-world-size both split the corpus: use one of them")
    if args.results_path:
        output = os.path.join(args.results_path, f"generate-{args.gen_subset}.txt")
        if os.path.exists(output):
            raise PyramidionError(f"{output} exists: give each shard its own --results-path, or remove the file")
    args.distributed_world_size, args.distributed_rank = shards, shard


def keep_last_batch(args: argparse.Namespace, words: list[str]) -> None:
    """Let ``fairseq-generate`` read every document, unless ``--required-batch-size-multiple`` is given.

    Args:
        args: parsed options of a command of fairseq, which are changed.
        words: the words of the command line.
    """
    generates = hasattr(args, "nbest") and not hasattr(args, "buffer_size")
    if generates and not any(word.startswith("--required-batch-size-multiple") for word in words):
        args.required_batch_size_multiple = 1
