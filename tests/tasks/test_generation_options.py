"""Tests of options of fairseq-generate that stock fairseq ignores or fails with."""

import math
import re
from argparse import Namespace

import pytest

from pyramidion_fairseq.cli.summaries import main as summaries_command
from pyramidion_fairseq.compat.shards import honour_shards
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.tasks.generation_options import refuse_generation
from tests.helpers.training import TASK, TRAIN, USER_DIR, summaries, write_corpus

DOCUMENTS = 11
LONG = ["--beam", 2, "--min-len", 20, "--max-len-b", 24]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder, words=40, test=[9, 60, 1, 30, 12, 44, 3, 21, 55, 7, 18])  # not sorted by length
    return folder


@pytest.fixture(scope="module")
def using(command, data, tmp_path_factory):
    """Return options of generation with a model that was trained for two updates and so repeats itself."""
    folder = tmp_path_factory.mktemp("checkpoints")
    command("train", data, *TASK, *TRAIN, "--save-dir", folder, "--max-update", 2)
    return [*USER_DIR, *TASK, "--path", folder / "checkpoint_last.pt", "--cpu", "--num-workers", 0]


def hypotheses(stdout, best=1):
    """Return the first ``best`` hypotheses of each document, in the order of the log."""
    found = {}
    for number, text in re.findall(r"^H-(\d+)\t\S+\t(.*)$", stdout, re.M):
        found.setdefault(int(number), []).append(text)
    return {number: texts[:best] for number, texts in found.items()}


def last_line(done):
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def free(command, data, using):
    """Return the log of a run without any of these options."""
    return command("generate", data, *using, *LONG, "--batch-size", 2).stdout


def test_every_document_is_in_exactly_one_shard(command, data, using, free, tmp_path):
    found, logs = {}, []
    for shard in range(3):
        chosen = ["--num-shards", 3, "--shard-id", shard, "--results-path", tmp_path / str(shard)]
        command("generate", data, *using, *LONG, "--batch-size", 2, *chosen)
        logs.append(tmp_path / str(shard) / "generate-test.txt")
        part = summaries(logs[-1].read_text(encoding="utf-8"))
        assert 0 < len(part) < DOCUMENTS and not part.keys() & found.keys()
        found.update(part)
    assert found == summaries(free) and sorted(found) == list(range(DOCUMENTS))
    for inputs in ([tmp_path], reversed(logs)):  # the folder of --results-path, or the logs in another order
        arguments = ["--output", str(tmp_path / "all.txt"), "--expected", str(DOCUMENTS), "--strict"]
        summaries_command([*map(str, inputs), *arguments])
        texts = (tmp_path / "all.txt").read_text(encoding="utf-8").splitlines()
        assert texts == [found[number] for number in range(DOCUMENTS)]


def test_shard_without_documents_is_refused(command, data, using):
    done = command("generate", data, *using, *LONG, "--num-shards", 9, "--shard-id", 8, check=False)
    assert "error: shard 8 of 9 has no documents, there are 1 batches: use fewer --num-shards" in last_line(done)


GENERATE = {"nbest": 1, "distributed_world_size": 1, "distributed_rank": 0, "results_path": None, "gen_subset": "test"}


@pytest.mark.parametrize(
    "chosen, message",
    [
        (
            {**GENERATE, "num_shards": 2, "shard_id": 2},
            "--shard-id 2: must be at least 0 and less than",
        ),
        (
            {**GENERATE, "num_shards": 2, "shard_id": -1},
            "--shard-id -1: must be at least 0 and less than",
        ),
        (
            {**GENERATE, "num_shards": 0, "shard_id": 0},
            "--shard-id 0: must be at least 0 and less than",
        ),
        (
            {**GENERATE, "num_shards": 1, "shard_id": 1},
            "--shard-id 1: must be at least 0 and less than",
        ),
        ({**GENERATE, "num_shards": 2, "shard_id": 0, "distributed_world_size": 2}, "both split the corpus"),
        (
            {**GENERATE, "num_shards": 2, "shard_id": 0, "buffer_size": 1},
            "only with fairseq-generate",
        ),  # interactive
        ({"num_shards": 2, "shard_id": 0}, "only with fairseq-generate"),  # train, validate
    ],
)
def test_invalid_shards_are_refused(chosen, message):
    with pytest.raises(PyramidionError, match=message):
        honour_shards(Namespace(**chosen))


def test_shard_does_not_overwrite_the_results_of_another(tmp_path):
    args = Namespace(**{**GENERATE, "results_path": str(tmp_path)}, num_shards=2, shard_id=1)
    honour_shards(args)
    assert (args.distributed_world_size, args.distributed_rank) == (2, 1)
    (tmp_path / "generate-test.txt").touch()
    args.distributed_world_size = 1
    with pytest.raises(PyramidionError, match=r"generate-test\.txt exists: give each shard its own --results-path"):
        honour_shards(args)


@pytest.mark.parametrize(
    "name, chosen, message",
    [
        ("interactive", ["--num-shards", 2], "only with fairseq-generate"),
        (
            "generate",
            ["--retain-iter-history"],
            "--retain-iter-history: not supported, because summaries are generated token by token",
        ),
        ("generate", ["--beam", 0], "--beam must be at least 1, got 0"),
        (
            "generate",
            ["--constraints"],
            "--constraints works only with fairseq-interactive, which reads the words that a summary must contain",
        ),
        ("generate", ["--temperature", 0], "--temperature must be greater than 0"),
        ("generate", ["--sampling"], "--sampling requires --nbest to be equal to --beam"),
        ("generate", ["--sampling-topk", 3], "--sampling-topk requires --sampling"),
        ("generate", ["--match-source-len", "--diverse-beam-groups", 5], "are searches that exclude each other"),
        ("interactive", ["--batch-size", 4], "--batch-size cannot be larger than --buffer-size"),
    ],
)
def test_commands_refuse_unsupported_generation_options_in_one_line(command, data, using, name, chosen, message):
    line = last_line(command(name, data, *using, *chosen, stdin="w1 w2\n", check=False))
    assert line.startswith("error: ") and message in line


def test_interactive_applies_constraints_given_with_a_document(command, data, using):
    words = ["--constraints", "--max-len-b", 6, "--buffer-size", 2]
    done = command("interactive", data, *using, *words, stdin="w1 w2\tw7\nw3 w4\n")
    first, second = (text for (text,) in hypotheses(done.stdout).values())
    assert "w7" in first.split() and second


@pytest.mark.parametrize(
    "chosen, message",
    [
        ({"print_step": True}, "--print-step: not supported, because summaries are generated token by token"),
        ({"replace_unk": ""}, "--replace-unk: not supported, because the decoder attends to pooled vectors"),
        (
            {"print_alignment": "hard"},
            "--print-alignment: not supported, because the decoder attends to pooled vectors",
        ),
        ({"diverse_beam_groups": 3, "beam": 4}, "--diverse-beam-groups 3 does not divide --beam 4"),
        ({"beam": -1}, "--beam must be at least 1, got -1"),
        ({"lenpen": math.nan}, "--lenpen nan is not a finite number"),
        ({"lenpen": 1e308}, r"--lenpen must be between -50 and 50, got 1e\+308"),
        ({"temperature": math.inf}, "--temperature inf is not a finite number"),
        ({"temperature": 0.0}, "--temperature must be greater than 0, got 0.0"),
        ({"sampling_topk": 5}, "--sampling-topk requires --sampling"),
        ({"sampling_topp": 0.9, "sampling": False}, "--sampling-topp requires --sampling"),
    ],
)
def test_refuse_generation_refuses_unsupported_options(chosen, message):
    with pytest.raises(PyramidionError, match=message):
        refuse_generation(Namespace(**chosen))


def repeats(stdout, size):
    """Return the number of repeated n-grams in each summary."""
    texts = [text.split() for (text,) in hypotheses(stdout).values()]
    ngrams = [[tuple(words[i : i + size]) for i in range(len(words) - size + 1)] for words in texts]
    return [len(found) - len(set(found)) for found in ngrams]


def test_no_repeat_ngram_size_prevents_repeated_ngrams(command, data, using, free):
    blocked = command("generate", data, *using, *LONG, "--batch-size", 3, "--no-repeat-ngram-size", 2)
    single = command("interactive", data, *using, *LONG, "--no-repeat-ngram-size", 1, stdin="w1 w2 w3\nw4\n")
    assert min(repeats(free, 2)) > 0
    assert repeats(blocked.stdout, 2) == [0] * DOCUMENTS and repeats(single.stdout, 1) == [0, 0]


def test_diverse_beams_do_not_depend_on_the_batch(command, data, using):
    """Compare the hypotheses of batches with those of each document alone."""
    chosen = ["--beam", 4, "--nbest", 4, "--diverse-beam-groups", 2, "--min-len", 8, "--max-len-b", 12]
    alone, batches = (
        hypotheses(command("generate", data, *using, *chosen, "--batch-size", size).stdout, best=4) for size in (1, 4)
    )
    assert sorted(alone) == list(range(DOCUMENTS)) and all(len(set(texts)) > 1 for texts in alone.values())
    assert batches == alone
