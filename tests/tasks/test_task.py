"""Tests of the task on small data: truncation, padding, batches."""

import logging
from argparse import Namespace

import numpy as np
import pytest
import torch
from fairseq import options
from fairseq.data import LanguagePairDataset
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.tasks import setup_task

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.generation import cuda_graphs, plain_generation
from pyramidion_fairseq.tasks.dataset import DocumentPairDataset
from pyramidion_fairseq.tasks.rouge_validation import SampledDataset
from pyramidion_fairseq.tasks.truncation import TruncatedDataset, truncate
from tests.helpers.corpora import write_split
from tests.helpers.models import TINY


@pytest.mark.parametrize(
    "tokens, length, expected",
    [
        ([5, 6, 7, 2], 4, [5, 6, 7, 2]),
        ([5, 6, 7, 2], 3, [5, 6, 2]),
        ([5, 6, 7, 2], 1, [2]),
        ([5, 6, 7], 2, [5, 6]),
        ([5, 6, 7, 2], None, [5, 6, 7, 2]),
    ],
)
def test_truncate_keeps_the_end_symbol(tokens, length, expected):
    assert truncate(torch.tensor(tokens), length, eos=2).tolist() == expected


def test_truncated_dataset_counts_what_it_cuts():
    class Rows(list):
        sizes = np.array([3, 5, 9])

    data = TruncatedDataset(Rows(torch.arange(n) + 10 for n in (3, 5, 9)), 5, eos=18)
    assert data.sizes.tolist() == [3, 5, 5] and data.num_cut == 1
    assert data[2].tolist() == [10, 11, 12, 13, 18] and data[1].tolist() == [10, 11, 12, 13, 14]


@pytest.mark.parametrize("bos, marker", [(None, None), (0, None), (None, 7), (0, 7)])
def test_sizes_are_the_lengths_of_the_truncated_sequences(bos, marker):
    class Rows(list):
        sizes = np.array([3, 4, 5, 6, 9])

    data = TruncatedDataset(Rows(torch.arange(n) + 10 for n in Rows.sizes), 6, 18, bos, marker)
    assert data.sizes.tolist() == [len(data[i]) for i in range(5)]
    assert data.num_cut == 1 + (bos is not None) + (marker is not None)


@pytest.fixture
def task_on(tmp_path, dictionary):
    """Return a function that makes a task on a data folder with one split of documents of given lengths."""

    def make(lengths, split="train", **chosen):
        for side in ("source", "target"):
            dictionary.save(str(tmp_path / f"dict.{side}.txt"))
        write_split(tmp_path, split, [[9] * (n - 1) + [2] for n in lengths], [[8, 7, 2]] * len(lengths))
        flags = [
            f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}") for name, value in chosen.items()
        ]
        arguments = [str(tmp_path), "--task", "long_document_summarization", "--path", "unused", *flags]
        parser = options.get_generation_parser()
        return setup_task(convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments)).task)

    return make


def build_model(task, **changes):
    return task.build_model(Namespace(_name="pooled_transformer", arch="pooled_transformer", **{**TINY, **changes}))


def batches_of(task, split, **kwargs):
    iterator = task.get_batch_iterator(
        task.dataset(split), max_positions=task.max_positions(), required_batch_size_multiple=8, **kwargs
    )
    return list(iterator.next_epoch_itr(shuffle=False))


@pytest.mark.parametrize("count", [1, 5, 60, 6440])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_batch_iterator_loses_no_document(task_on, count, split):
    task = task_on([3 + 7 * i % 90 for i in range(count)], split=split)
    build_model(task)
    task.load_dataset(split)
    ids = torch.cat([batch["id"] for batch in batches_of(task, split, max_tokens=256)])
    assert sorted(ids.tolist()) == list(range(count))


@pytest.mark.parametrize("stop", [2, 6, 8])
@pytest.mark.parametrize("curriculum, seeds", [(0, (3, 3, 3)), (1, (3, 3, 3)), (2, (3, 3, 3)), (0, (4, 5, 6))])
def test_resumed_run_has_the_same_batches_as_an_uninterrupted_one(task_on, curriculum, seeds, stop):
    """Check it as fairseq's trainer makes batches, with ``--curriculum`` and ``--update-ordered-indices-seed``."""
    task = task_on([3 + i for i in range(30)])
    build_model(task)

    def run(most, state):
        """Read batches of three epochs or from a checkpoint's state on; return first documents and the new state."""
        task.load_dataset("train")
        found, epoch = [], state["epoch"] if state else 1
        while epoch <= 3:
            options = {"max_sentences": 5, "seed": seeds[epoch - 1], "epoch": epoch}
            iterator = task.get_batch_iterator(task.dataset("train"), **options)
            if state:
                iterator.load_state_dict(state)
                state = None
            for batch in iterator.next_epoch_itr(shuffle=iterator.next_epoch_idx > curriculum):
                found.append(int(batch["id"].min()))
                if len(found) == most:
                    return found, iterator.state_dict()
            epoch = iterator.next_epoch_idx
        return found, None

    whole, _ = run(100, None)
    first, state = run(stop, None)
    assert [*first, *run(100, state)[0]] == whole
    ordered = [whole[start : start + 6] == [0, 5, 10, 15, 20, 25] for start in (0, 6, 12)]
    assert len(whole) == 18 and ordered == [epoch <= curriculum for epoch in (1, 2, 3)]


def test_documents_are_truncated_to_the_models_length_and_counted(task_on, caplog):
    task = task_on([10, 64, 65, 300])
    build_model(task)
    assert task.max_positions() == (64, 32)
    with caplog.at_level(logging.INFO):
        task.load_dataset("train")
    assert "train: 2 of 4 documents cut to 64 tokens (50.0%)" in caplog.text
    assert "train: 0 of 4 summaries cut to 32 tokens (0.0%)" in caplog.text
    (batch,) = batches_of(task, "train", max_sentences=4)
    tokens = batch["net_input"]["src_tokens"]
    assert tokens.shape == (4, 64) and batch["net_input"]["src_lengths"].tolist() == [64, 64, 64, 10]
    assert tokens[:3, -1].tolist() == [2, 2, 2]
    assert tokens[3].tolist() == [9] * 9 + [2] + [1] * 54  # padded on the right


def test_rouge_validation_keeps_no_attention(task_on):
    """Check it because attention of every step to an unpooled document takes gigabytes and much time."""
    task = task_on([10], eval_rouge=True, eval_rouge_args='{"beam": 1, "min_len": 1, "max_len_b": 2}')
    model = build_model(task, pooling_schedule="").eval()
    tokens = torch.tensor([[5, 6, 7, 2]])
    sample = {"net_input": {"src_tokens": tokens, "src_lengths": torch.tensor([4])}}
    ((hypothesis,),) = task.inference_step(task.rouge_generator, [model], sample)
    assert not hypothesis["attention"].numel()


@pytest.mark.parametrize("options", [{}, {"eval_rouge": True}], ids=str)
@pytest.mark.parametrize("split", ["train", "valid"])
def test_only_the_validation_split_with_rouge_is_sampled(task_on, split, options):
    task = task_on([10, 20], split=split, **options)
    build_model(task)
    task.load_dataset(split)
    sampled = bool(options) and split == "valid"
    assert type(task.dataset(split)) is (SampledDataset if sampled else DocumentPairDataset)
    (batch,) = batches_of(task, split, max_sentences=2)
    assert batch.get("summarised") == (True if sampled else None)
    assert batch["net_input"]["document_lengths"] == [20, 10]


def test_document_that_contains_the_padding_symbol_is_read_to_its_end(task_on):
    """Check it because fairseq gives the word "<pad>" of a corpus the id of padding."""
    task = task_on([10])
    model = build_model(task, pooling_schedule="").eval()
    documents = [torch.tensor([9, 1, 5, 6, 7, 2]), torch.tensor([9, 8, 7, 2])]
    dataset = task.build_dataset_for_inference(documents, [6, 4])
    batch = dataset.collater([dataset[0], dataset[1]])["net_input"]
    with torch.no_grad():
        encoded = model.encoder(**{name: x for name, x in batch.items() if name != "prev_output_tokens"})
        alone = model.encoder(torch.tensor([[9, 5, 6, 7, 2]]))["encoder_out"][0]
    torch.testing.assert_close(encoded["encoder_out"][0][:5, 0], alone[:, 0], rtol=0, atol=1e-5)


def test_max_positions_is_the_smaller_of_task_and_model(task_on):
    task = task_on([10], max_source_positions=48)
    build_model(task)
    assert task.max_positions() == (48, 32)
    build_model(task, max_source_positions=16, max_target_positions=8)
    assert task.max_positions() == (16, 8)


@pytest.mark.parametrize("split, shuffled", [("train", True), ("test", False)])
def test_datasets_keep_the_options_of_fairseq(task_on, split, shuffled):
    task = task_on([10, 20, 30], split=split, left_pad_target=True)
    task.cfg.required_seq_len_multiple = 8
    build_model(task)
    task.load_dataset(split)
    dataset = task.dataset(split)
    assert (dataset.shuffle, dataset.pad_to_multiple, dataset.left_pad_target) == (shuffled, 8, True)


def test_batches_have_no_document_lengths_once_a_model_of_an_ensemble_does_not_accept_them(task_on):
    task = task_on([10])
    build_model(task)
    assert task.with_document_lengths
    task.with_document_lengths = False  # as after a model of fairseq
    build_model(task)
    assert not task.with_document_lengths


def test_inference_documents_are_truncated_and_padded_on_the_right(task_on):
    task = task_on([10])
    build_model(task)
    documents = [torch.tensor([9] * 99 + [2]), torch.tensor([2])]
    dataset = task.build_dataset_for_inference(documents, [100, 1])
    assert isinstance(dataset, LanguagePairDataset)
    tokens = dataset.collater([dataset[0], dataset[1]])["net_input"]["src_tokens"]
    assert tokens[0].tolist() == [9] * 63 + [2] and tokens[1].tolist() == [2] + [1] * 63


def test_missing_and_empty_splits_are_refused_by_name(task_on, tmp_path):
    task = task_on([10])
    with pytest.raises(PyramidionError, match=r"no documents in split 'valid' of .*Dataset not found"):
        task.load_dataset("valid")
    write_split(tmp_path, "valid", [], [])
    with pytest.raises(PyramidionError, match=r"no documents in split 'valid' of .*empty file"):
        task.load_dataset("valid")
    raw = task_on([10], dataset_impl="raw")
    for side in ("source", "target"):
        (tmp_path / f"test.source-target.{side}").write_text("")
    with pytest.raises(PyramidionError, match=r"no documents in split 'test' of .*it is empty"):
        raw.load_dataset("test")


@pytest.mark.parametrize("name, switched", [("cuda_graphs", cuda_graphs), ("plain_generation", plain_generation)])
def test_build_generator_keeps_or_sets_the_way_to_generate(task_on, name, switched):
    task, arguments = task_on([10]), Namespace(beam=2)
    model = build_model(task)
    with switched(model):
        task.build_generator([model], arguments)
        assert getattr(model.decoder, name)
    task.build_generator([model], arguments)
    assert not getattr(model.decoder, name)
    setattr(task.cfg, name, True)
    task.build_generator([model], arguments)
    assert getattr(model.decoder, name)
