"""Tests of the replacements of fairseq's extensions, compared with an oracle and with the extensions' answers."""

import importlib
import json
import logging
import re
import sys
import time

import fairseq.data
import fairseq.data.data_utils
import fairseq.scoring  # noqa: F401  makes the registry's entry
import numpy as np
import pytest
import torch
from fairseq.ngram_repeat_block import NGramRepeatBlock
from fairseq.registry import REGISTRIES
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidion_fairseq.compat import data_utils_fast as ours
from pyramidion_fairseq.compat import missing_extensions, patches
from pyramidion_fairseq.compat import token_block_utils_fast as blocks
from tests.helpers.paths import DATA

MODULE, BLOCKS = "fairseq.data.data_utils_fast", "fairseq.data.token_block_utils_fast"

# Answers of the extension of fairseq-fixed 0.12.3.1 (Cython 3.3.1, numpy 2.4.6, gcc): rows of function, documents,
# their lengths, limits or shapes, and the batches or the error.
RECORDED = json.loads((DATA / "data_utils_fast.json").read_text(encoding="utf-8"))


def oracle_batches(lengths, max_tokens, max_sentences, multiple):
    """Return batches of positions by the rules alone, with lists of documents instead of running sums."""

    def too_big(batch):
        return 0 < max_sentences < len(batch) or 0 < max_tokens < len(batch) * max(lengths[i] for i in batch)

    done, batch, tail = [], [], []
    for position in range(len(lengths)):
        tail = [*tail, position]
        if too_big(batch + tail):
            done.append(batch)
            if 0 < max_tokens < len(tail) * max(lengths[i] for i in tail):
                done.append(tail[:-1])
                tail = tail[-1:]
            batch, tail = tail, []
        elif len(batch + tail) < multiple or len(batch + tail) % multiple == 0:
            batch, tail = batch + tail, []
    return [*done, batch, tail] if tail else [*done, batch]


def oracle_shapes(lengths, shapes):
    """Return batches of positions for fixed shapes, searching all shapes for every document."""
    done, batch, longest = [], [], 0
    for position, length in enumerate(lengths):
        longest = max(longest, length)
        if not any(len(batch) + 1 <= size and longest <= width for size, width in shapes):
            done, batch, longest = [*done, batch], [], 0
        batch = [*batch, position]
    return [*done, batch] if batch else done


LENGTHS = st.one_of(st.lists(st.integers(0, 12), max_size=40), st.lists(st.integers(0, 12), max_size=40).map(sorted))


@settings(deadline=None, max_examples=400)
@given(
    lengths=LENGTHS,
    spare=st.one_of(st.none(), st.integers(0, 60)),
    max_sentences=st.sampled_from([-1, 0, 1, 2, 3, 5, 8, 17]),
    multiple=st.sampled_from([1, 2, 3, 4, 8, 16]),
)
def test_batch_by_size_equals_the_oracle(lengths, spare, max_sentences, multiple):
    max_tokens = -1 if spare is None else max([*lengths, 1]) + spare
    documents = np.arange(len(lengths), dtype=np.int64) * 3 + 7
    vector = np.array(lengths, dtype=np.int64)
    limits = (max_tokens, max_sentences, multiple)
    batches = ours.batch_by_size_vec(documents, vector, *limits)
    expected = oracle_batches(lengths, *limits) if lengths else []
    assert [batch.tolist() for batch in batches] == [[i * 3 + 7 for i in batch] for batch in expected]
    assert all(batch.dtype == np.int64 and batch.base is documents for batch in batches)
    again = ours.batch_by_size_fn(documents, lambda document: lengths[(document - 7) // 3], *limits)
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in batches]


def test_tail_that_exceeds_the_limit_becomes_its_own_batch():
    # Four short documents make a batch. Documents 5 to 7 wait for document 8, which is too long to join them.
    lengths = np.array([1, 1, 1, 1, 2, 2, 2, 7], dtype=np.int64)
    batches = ours.batch_by_size_vec(np.arange(8), lengths, 14, -1, 4)
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6], [7]]


@settings(deadline=None, max_examples=200)
@given(LENGTHS, st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12)), max_size=4).map(sorted))
def test_batch_fixed_shapes_equals_the_oracle(lengths, shapes):
    documents = np.arange(len(lengths), dtype=np.int64)
    table = np.array(shapes, dtype=np.int64).reshape(-1, 2)
    batches = ours.batch_fixed_shapes_fast(documents, lengths.__getitem__, table)
    assert batches == oracle_shapes(lengths, shapes)
    assert all(type(document) is int for batch in batches for document in batch)


def answer(function, *arguments):
    try:
        return [[int(document) for document in batch] for batch in function(*arguments)]
    except AssertionError as error:
        return f"AssertionError: {error}"


@pytest.mark.parametrize("function", sorted({row[0] for row in RECORDED}))
def test_batching_equals_recorded_answers_of_the_compiled_extension(function):
    rows = [row[1:] for row in RECORDED if row[0] == function]
    assert len(rows) == 120
    for documents, lengths, limits, expected in rows:
        length_of = dict(zip(documents, lengths)).__getitem__
        second = np.array(lengths, dtype=np.int64) if function == "batch_by_size_vec" else length_of
        rest = [np.array(limits, dtype=np.int64)] if function == "batch_fixed_shapes_fast" else limits
        got = answer(getattr(ours, function), np.array(documents, dtype=np.int64), second, *rest)
        assert got == expected, (documents, lengths, limits)


@pytest.mark.parametrize(
    "documents, lengths, error",
    [
        ([0, 1], np.zeros(2, dtype=np.int64), TypeError),
        (np.zeros(2, dtype=np.int32), np.zeros(2, dtype=np.int64), ValueError),
        (np.zeros((1, 2), dtype=np.int64), np.zeros(2, dtype=np.int64), ValueError),
        (np.zeros(2, dtype=np.int64), np.zeros(2), ValueError),
        (np.zeros(2, dtype=np.int64), np.zeros(1, dtype=np.int64), ValueError),
        (np.zeros(2, dtype=np.int64), np.full(2, 11, dtype=np.int64), AssertionError),
    ],
)
def test_batch_by_size_vec_refuses_invalid_arguments_as_the_extension_does(documents, lengths, error):
    with pytest.raises(error):
        ours.batch_by_size_vec(documents, lengths, 10, -1, 1)


@pytest.mark.parametrize("limits", [(16384, -1, 1), (8192, 1, 1), (-1, 64, 8)])
def test_batching_200000_documents_takes_under_2_seconds_of_computing(limits):
    lengths = np.random.default_rng(0).integers(1, 8192, 200_000)
    begin = time.process_time()
    batches = ours.batch_by_size_vec(np.arange(200_000), lengths, *limits)
    assert time.process_time() - begin < 2
    assert sum(map(len, batches)) == 200_000


def oracle_blocks(sizes, mode, size, separator):
    """Return [(text, token), ...] of every block, going through the tokens one after another."""
    texts = [[(text, token) for token in range(count)] for text, count in enumerate(sizes)]
    if mode == "eos":
        return texts
    if mode == "none":
        tokens = [token for text in texts for token in text]
        return [tokens[start : start + size] for start in range(0, len(tokens), size)]
    out = [[]]
    for text in texts:
        ends = mode == "complete_doc" and len(text) == separator
        if ends or (out[-1] and len(out[-1]) + len(text) > size):
            out.append([])
        if not ends:
            out[-1] = out[-1] + text
    return [block for block in out if len(block) >= (2 if mode == "complete_doc" else 1)]


@settings(deadline=None, max_examples=300)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=20),
    mode=st.sampled_from(["none", "complete", "complete_doc", "eos"]),
    size=st.integers(1, 20),
    separator=st.sampled_from([0, 1]),
)
def test_token_blocks_equal_the_oracle(sizes, mode, size, separator):
    """Check the blocks; they also equalled those of fairseq-fixed 0.12.3.1's extension in 19,979 random cases."""
    vector = np.array(sizes, dtype=np.int64)
    slices = blocks._get_slice_indices_fast(vector, mode, size, separator)
    expected = oracle_blocks(sizes, mode, size, separator)
    assert slices.dtype == np.int64 and slices.shape == (len(expected), 2)
    assert [end - start for start, end in slices.tolist()] == [len(block) for block in expected]
    found = blocks._get_block_to_dataset_index_fast(vector, slices)
    assert found.tolist() == [[*block[0], block[-1][0]] for block in expected]


def test_token_block_dataset_of_fairseq_uses_our_blocks():
    from fairseq.data import TokenBlockDataset

    texts = [torch.arange(10, 17), torch.arange(20, 22), torch.arange(30, 35)]
    data = TokenBlockDataset(texts, [7, 2, 5], 6, pad=1, eos=2, break_mode=None)
    assert [block.tolist() for block in data] == [[10, 11, 12, 13, 14, 15], [16, 20, 21, 30, 31, 32], [33, 34]]
    with pytest.raises(ValueError, match="Invalid break_mode: words"):
        blocks._get_slice_indices_fast(np.ones(2, dtype=np.int64), "words", 4, 0)


@pytest.fixture
def missing(monkeypatch):
    """Make the extensions look missing or present; restore everything afterwards."""
    present = set()
    monkeypatch.setattr(missing_extensions, "_importable", lambda module: module in present)
    for module in (MODULE, BLOCKS):
        monkeypatch.setitem(sys.modules, module, sys.modules.get(module))
    monkeypatch.setattr(fairseq.data, "data_utils_fast", "before", raising=False)
    monkeypatch.setitem(REGISTRIES["scoring"], "default", "bleu")
    return present


def test_install_replaces_missing_extensions(missing, caplog):
    with caplog.at_level(logging.DEBUG, logger="pyramidion_fairseq.compat"):
        missing_extensions.install()
        missing_extensions.install()
    assert sys.modules[BLOCKS] is blocks and sys.modules[MODULE] is ours and fairseq.data.data_utils_fast is ours
    assert REGISTRIES["scoring"]["default"] == "sacrebleu"
    assert sum("libbleu" in record.message for record in caplog.records) == 1
    batches = fairseq.data.data_utils.batch_by_size(range(5), None, num_tokens_vec=[3, 3, 3, 4, 4], max_tokens=9)
    assert [batch.tolist() for batch in batches] == [[0, 1, 2], [3, 4]]


def test_install_keeps_available_extensions(missing):
    missing.update({MODULE, BLOCKS, "fairseq.libbleu"})
    sys.modules[BLOCKS] = "before"
    missing_extensions.install()
    assert sys.modules[BLOCKS] == "before"
    assert fairseq.data.data_utils_fast == "before"
    assert REGISTRIES["scoring"]["default"] == "bleu"


def test_install_keeps_the_default_score_of_another_plugin(missing):
    REGISTRIES["scoring"]["default"] = "wer"
    missing_extensions.install()
    assert REGISTRIES["scoring"]["default"] == "wer"


@pytest.mark.parametrize("error", [ImportError, ValueError])
def test_extension_that_fails_to_import_counts_as_missing(monkeypatch, error):
    def refuse(module):
        raise error("numpy.dtype size changed")

    monkeypatch.setattr(missing_extensions.importlib, "import_module", refuse)
    assert not missing_extensions._importable(MODULE)


def test_ngram_repeat_block_forbids_a_repeated_trigram():
    """Check that after 5 6 7 5 6, with room for four more tokens, trigram blocking forbids only 7."""
    missing_extensions.install()
    missing_extensions.install()  # a second call does nothing
    tokens = torch.tensor([[2, 5, 6, 7, 5, 6, 1, 1, 1, 1], [2, 5, 6, 7, 8, 9, 1, 1, 1, 1]])
    block = NGramRepeatBlock(3, use_extension=False)
    lprobs = block(tokens, torch.zeros(2, 10), bsz=1, beam_size=2, step=5)
    assert lprobs[0].isinf().nonzero().flatten().tolist() == [7] and not lprobs[1].isinf().any()


@given(st.lists(st.lists(st.integers(4, 7), min_size=9, max_size=9), min_size=1, max_size=4), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_ngram_repeat_block_matches_the_definition(size, rows, step):
    """Check every step of a summary against the definition; the </s> at its start is not a repeated unigram."""
    tokens = torch.tensor([[2, *row[:step], *[1] * (9 - step)] for row in rows])
    found = NGramRepeatBlock(size, use_extension=False)(tokens, torch.zeros(len(rows), 10), len(rows), 1, step)
    for row, lprobs in zip(rows, found):
        known = [tuple(row[i : i + size]) for i in range(step - size + 1)]
        blocked = [token for token in range(10) if (*row[step - size + 1 : step], token) in known and step >= size]
        assert lprobs.isinf().nonzero().flatten().tolist() == blocked
        assert lprobs[~lprobs.isinf()].eq(0).all()


def resolve(name):
    """Return the object with a dotted name: a module or something in one."""
    parts, owner = name.split("."), None
    for end in range(len(parts), 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            owner = getattr(owner, part)
        return owner
    raise ImportError(name)


def patched_names():
    targets = [change.target for patch in patches.PATCHES for change in patch.changes]
    return [target for target in targets if re.fullmatch(r"[\w.]+", target)]


def test_targets_of_the_patch_table_exist():
    """Check targets that are plain dotted names; the others are described in words."""
    names = patched_names()
    assert len(names) > 15 and all(resolve(name) is not None for name in names)


def test_patches_are_installed_once():
    """Check that a second installation wraps nothing again."""
    names = patched_names()
    before = [resolve(name) for name in names]
    patches.install()
    assert [resolve(name) for name in names] == before
