"""Which documents ``fairseq-generate`` takes: all, or those of ``--num-shards N --shard-id I``.

Stock fairseq takes these two options and ignores them. With its own tasks it leaves out the last batch, without a
word, where that has no multiple of ``--required-batch-size-multiple`` documents (8).
"""

import argparse
import functools
import os
import sys
from typing import Any

from ..errors import PyramidionError
from .marks import mark


def install() -> None:
    """Make ``fairseq-generate`` honour the options, and the other commands refuse them."""
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
    """Put a shard where fairseq-generate looks for it: into the place of a process among others.

    Args:
        args: parsed options of a command of fairseq.

    Raises:
        PyramidionError: there is no such shard, its output would replace another's, or the command is another one.
    """
    shards, shard = getattr(args, "num_shards", 1), getattr(args, "shard_id", 0)
    # fairseq-eval-lm has a context_window, and honours the options.
    if (shards, shard) in ((1, 0), (None, None)) or hasattr(args, "context_window"):
        return
    if not hasattr(args, "nbest") or hasattr(args, "buffer_size"):
        raise PyramidionError(
            "--num-shards and --shard-id go with fairseq-generate: this command would ignore them (split its input)"
        )
    if not 0 <= shard < shards:
        raise PyramidionError(f"--shard-id {shard}: the shards of --num-shards {shards} are 0 to {shards - 1}")
    if args.distributed_world_size > 1:
        raise PyramidionError("--num-shards and --distributed-world-size both split the corpus: give one of them")
    if args.results_path:
        output = os.path.join(args.results_path, f"generate-{args.gen_subset}.txt")
        if os.path.exists(output):
            raise PyramidionError(f"{output} is there, another shard's output?: give each shard a --results-path")
    args.distributed_world_size, args.distributed_rank = shards, shard


def keep_last_batch(args: argparse.Namespace, words: list[str]) -> None:
    """Let ``fairseq-generate`` take every document, unless its command line says a multiple.

    Args:
        args: parsed options of a command of fairseq.
        words: of the command line.
    """
    generates = hasattr(args, "nbest") and not hasattr(args, "buffer_size")
    if generates and not any(word.startswith("--required-batch-size-multiple") for word in words):
        args.required_batch_size_multiple = 1
