"""The stand-ins for fairseq's compiled parts: against a plain oracle, and against what the compiled ones answered."""

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

# What fairseq-fixed 0.12.3.1's own extension answered (Cython 3.3.1, numpy 2.4.6, gcc): rows of function, documents,
# their lengths, limits or shapes, and the batches or the error.
RECORDED = json.loads((DATA / "data_utils_fast.json").read_text(encoding="utf-8"))


def oracle_batches(lengths, max_tokens, max_sentences, multiple):
    """Positions in batches, from the rules alone: keeps lists of documents instead of running sums."""

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
    """Positions in batches of fixed shapes, searching all shapes for every document."""
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
def test_batches_equal_the_oracle(lengths, spare, max_sentences, multiple):
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


def test_a_tail_that_overflows_by_itself_is_a_batch_of_its_own():
    # Four short documents make a batch. The fifth to seventh wait for an eighth; it is long, and does not fit them.
    lengths = np.array([1, 1, 1, 1, 2, 2, 2, 7], dtype=np.int64)
    batches = ours.batch_by_size_vec(np.arange(8), lengths, 14, -1, 4)
    assert [batch.tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6], [7]]


@settings(deadline=None, max_examples=200)
@given(LENGTHS, st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12)), max_size=4).map(sorted))
def test_fixed_shapes_equal_the_oracle(lengths, shapes):
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
def test_equals_the_compiled_extension(function):
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
def test_refuses_what_the_extension_refuses(documents, lengths, error):
    with pytest.raises(error):
        ours.batch_by_size_vec(documents, lengths, 10, -1, 1)


@pytest.mark.parametrize("limits", [(16384, -1, 1), (8192, 1, 1), (-1, 64, 8)])
def test_200_000_documents_take_a_moment(limits):
    lengths = np.random.default_rng(0).integers(1, 8192, 200_000)
    begin = time.perf_counter()
    batches = ours.batch_by_size_vec(np.arange(200_000), lengths, *limits)
    assert time.perf_counter() - begin < 2
    assert sum(map(len, batches)) == 200_000


def oracle_blocks(sizes, mode, size, separator):
    """[(text, token), ...] of every block, by going through the tokens one after another."""
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
def test_blocks_equal_the_oracle(sizes, mode, size, separator):
    """They equal the compiled extension of fairseq-fixed 0.12.3.1 as well: run once, on 19,979 random cases."""
    vector = np.array(sizes, dtype=np.int64)
    slices = blocks._get_slice_indices_fast(vector, mode, size, separator)
    expected = oracle_blocks(sizes, mode, size, separator)
    assert slices.dtype == np.int64 and slices.shape == (len(expected), 2)
    assert [end - start for start, end in slices.tolist()] == [len(block) for block in expected]
    found = blocks._get_block_to_dataset_index_fast(vector, slices)
    assert found.tolist() == [[*block[0], block[-1][0]] for block in expected]


def test_blocks_are_read_by_fairseq():
    from fairseq.data import TokenBlockDataset

    texts = [torch.arange(10, 17), torch.arange(20, 22), torch.arange(30, 35)]
    data = TokenBlockDataset(texts, [7, 2, 5], 6, pad=1, eos=2, break_mode=None)
    assert [block.tolist() for block in data] == [[10, 11, 12, 13, 14, 15], [16, 20, 21, 30, 31, 32], [33, 34]]
    with pytest.raises(ValueError, match="Invalid break_mode: words"):
        blocks._get_slice_indices_fast(np.ones(2, dtype=np.int64), "words", 4, 0)


@pytest.fixture
def missing(monkeypatch):
    """Makes the extensions look missing or present; everything is put back afterwards."""
    present = set()
    monkeypatch.setattr(missing_extensions, "_importable", lambda module: module in present)
    for module in (MODULE, BLOCKS):
        monkeypatch.setitem(sys.modules, module, sys.modules.get(module))
    monkeypatch.setattr(fairseq.data, "data_utils_fast", "before", raising=False)
    monkeypatch.setitem(REGISTRIES["scoring"], "default", "bleu")
    return present


def test_install_stands_in_where_extensions_are_missing(missing, caplog):
    with caplog.at_level(logging.DEBUG, logger="pyramidion_fairseq.compat"):
        missing_extensions.install()
        missing_extensions.install()
    assert sys.modules[BLOCKS] is blocks and sys.modules[MODULE] is ours and fairseq.data.data_utils_fast is ours
    assert REGISTRIES["scoring"]["default"] == "sacrebleu"
    assert sum("libbleu" in record.message for record in caplog.records) == 1
    batches = fairseq.data.data_utils.batch_by_size(range(5), None, num_tokens_vec=[3, 3, 3, 4, 4], max_tokens=9)
    assert [batch.tolist() for batch in batches] == [[0, 1, 2], [3, 4]]


def test_install_changes_nothing_where_extensions_are_there(missing):
    missing.update({MODULE, BLOCKS, "fairseq.libbleu"})
    sys.modules[BLOCKS] = "before"
    missing_extensions.install()
    assert sys.modules[BLOCKS] == "before"
    assert fairseq.data.data_utils_fast == "before"
    assert REGISTRIES["scoring"]["default"] == "bleu"


def test_install_keeps_another_plugins_default_score(missing):
    REGISTRIES["scoring"]["default"] = "wer"
    missing_extensions.install()
    assert REGISTRIES["scoring"]["default"] == "wer"


@pytest.mark.parametrize("error", [ImportError, ValueError])
def test_an_extension_that_does_not_fit_counts_as_missing(monkeypatch, error):
    def refuse(module):
        raise error("numpy.dtype size changed")

    monkeypatch.setattr(missing_extensions.importlib, "import_module", refuse)
    assert not missing_extensions._importable(MODULE)


def test_repeated_ngrams_are_blocked():
    """Of the tokens 5 6 7 5 6, with room for four more, trigram blocking forbids 7 to be next, and nothing else."""
    missing_extensions.install()
    missing_extensions.install()  # once is enough
    tokens = torch.tensor([[2, 5, 6, 7, 5, 6, 1, 1, 1, 1], [2, 5, 6, 7, 8, 9, 1, 1, 1, 1]])
    block = NGramRepeatBlock(3, use_extension=False)
    lprobs = block(tokens, torch.zeros(2, 10), bsz=1, beam_size=2, step=5)
    assert lprobs[0].isinf().nonzero().flatten().tolist() == [7] and not lprobs[1].isinf().any()


@given(st.lists(st.lists(st.integers(4, 7), min_size=9, max_size=9), min_size=1, max_size=4), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_blocked_are_the_tokens_that_would_repeat_an_ngram(size, rows, step):
    """Against the definition, for every step of a summary; of one token, the </s> at its start is none."""
    tokens = torch.tensor([[2, *row[:step], *[1] * (9 - step)] for row in rows])
    found = NGramRepeatBlock(size, use_extension=False)(tokens, torch.zeros(len(rows), 10), len(rows), 1, step)
    for row, lprobs in zip(rows, found):
        known = [tuple(row[i : i + size]) for i in range(step - size + 1)]
        blocked = [token for token in range(10) if (*row[step - size + 1 : step], token) in known and step >= size]
        assert lprobs.isinf().nonzero().flatten().tolist() == blocked
        assert lprobs[~lprobs.isinf()].eq(0).all()


def resolve(name):
    """The object with a dotted name, a module or in one."""
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


def test_the_table_of_patches_names_what_is_there():
    """What is no plain dotted name is described in words, and what is one exists."""
    names = patched_names()
    assert len(names) > 15 and all(resolve(name) is not None for name in names)


def test_patches_are_installed_once():
    """Installed again, nothing is wrapped once more."""
    names = patched_names()
    before = [resolve(name) for name in names]
    patches.install()
    assert [resolve(name) for name in names] == before
