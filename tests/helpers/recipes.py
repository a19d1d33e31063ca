"""Read the recipes of examples/ without running them."""

from functools import cache

from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from recipes import command, paper

from pyramidion_fairseq.models.architectures import PUBLISHED

#: Fields that may differ: Hydra counts the GPUs, and the task's lengths come from the model in both.
ELSEWHERE = {("bmuf", "distributed_world_size"), ("distributed_training", "distributed_world_size")}
ELSEWHERE |= {("task", "max_source_positions"), ("task", "max_target_positions")}
ARCHS = list(dict.fromkeys(PUBLISHED.values()))


def parsed(words):
    """Return fairseq-train's configuration of a command line; callers share it and must not change it."""
    return _parsed(tuple(str(word) for word in words))


@cache
def _parsed(words):
    args = options.parse_args_and_arch(options.get_training_parser(), list(words))
    return convert_namespace_to_omegaconf(args)


def training(arch, **settings):
    """Return the words after ``fairseq-train`` of the command line that trains a row."""
    (line,) = command.train(paper.Recipe(arch, "arxiv"), command.Settings(**settings), [])
    return line[line.index("fairseq-train") + 1 :]
