"""Tests of ``--eval-rouge``: its documents, its scores, and that it does not change training."""

import json
import re

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary
from fairseq.logging import metrics

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.scoring import METRICS, rouge_scores
from pyramidion_fairseq.tasks.rouge_validation import (
    RougeValidation,
    generation_arguments,
    log_rouge,
    spread,
    subword_marks,
)
from tests.helpers.paths import ROOT
from tests.helpers.training import SIZES, TASK, TRAIN, USER_DIR, summaries, training_log, write_corpus

FAST = ["--data-buffer-size", "0"]
EVAL = ["--eval-rouge", "--eval-rouge-args", '{"beam": 2, "max_len_b": 8}']


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder, words=6)  # few words, so that some match by chance
    return folder


def validations(stdout):
    rows = [json.loads(row) for row in re.findall(r"\| valid \| (\{.*\})", stdout)]
    return [{name[6:]: float(value) for name, value in row.items() if name.startswith("valid_")} for row in rows]


@pytest.fixture(scope="module")
def trained(command, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    best = ["--best-checkpoint-metric", "rouge2", "--maximize-best-checkpoint-metric", "--patience", "7"]
    args = [*TASK, *TRAIN, *FAST, *EVAL, *best, "--save-dir", folder, "--max-epoch", 3]
    return folder, command("train", data, *args).stdout


@pytest.mark.paper("validation-metric")
def test_eval_rouge_logs_scores_and_keeps_the_best_checkpoint(trained):
    folder, stdout = trained
    rows = validations(stdout)
    assert len(rows) == 3 and all({"rouge1", "rouge2", "rougeL", "rougeLsum", "loss"} <= set(row) for row in rows)
    assert all(0 < row["rouge2"] < row["rouge1"] < 100 for row in rows)
    assert rows[-1]["best_rouge2"] == max(row["rouge2"] for row in rows)
    assert "valid: ROUGE on 5 of 5 documents" in stdout
    state = torch.load(folder / "checkpoint_best.pt", weights_only=False)
    assert state["extra_state"]["best"] == pytest.approx(max(row["rouge2"] for row in rows))
    ours = {"gb_peak", "src_wps", "pool1_winner", "pool2_entropy", "pool2_spread"}
    meters = {name: meter for _, name, _, meter in state["extra_state"]["metrics"]["train"] if name in ours}
    assert meters.keys() == ours
    assert {type(value) for meter in meters.values() for value in meter.values()} <= {int, float, type(None)}


def test_logged_rouge_equals_the_rouge_of_fairseq_generate(command, data, trained):
    """Compare training's log with fairseq-generate on the last checkpoint, scored by itself and by rouge_scores."""
    folder, stdout = trained
    using = [*USER_DIR, *TASK, "--path", folder / "checkpoint_last.pt", "--cpu", *FAST, "--num-workers", 0]
    beam = ["--gen-subset", "valid", "--beam", 2, "--min-len", 8, "--max-len-b", 8, "--scoring", "rouge"]
    done = command("generate", data, *using, *beam, "--batch-size", 3)
    hypotheses = summaries(done.stdout)
    references = {int(i): text for i, text in re.findall(r"^T-(\d+)\t(.*)$", done.stdout, re.M)}
    scores = rouge_scores(*([texts[i] for i in range(5)] for texts in (references, hypotheses)))
    last = validations(stdout)[-1]
    for metric in METRICS:
        assert last[metric] == pytest.approx(scores.get(metric)[0], abs=0.001)
    assert f"Generate valid with beam=2: {scores} | {scores.signature}" in done.stdout


def test_eval_rouge_does_not_change_training_losses(command, data, trained, tmp_path):
    """Check that losses are equal with dropout, and also with sampling in generation."""
    without = command("train", data, *TASK, *TRAIN, *FAST, "--save-dir", tmp_path / "a", "--max-epoch", 3)
    sampling = ["--eval-rouge", "--eval-rouge-args", '{"sampling": true, "beam": 1, "max_len_b": 5, "min_len": 1}']
    done = command("train", data, *TASK, *TRAIN, *FAST, *sampling, "--save-dir", tmp_path / "b", "--max-epoch", 3)
    assert training_log(trained[1]) == training_log(without.stdout) == training_log(done.stdout)
    assert "rouge2" not in without.stdout


def test_fairseq_validate_scores_all_or_some_documents(command, data, trained):
    using = [*USER_DIR, *TASK, "--path", trained[0] / "checkpoint_last.pt", "--cpu", *FAST, "--num-workers", 0]
    done = command("validate", data, *using, *EVAL, "--batch-size", 2)
    assert re.search(rf"valid \|.*rouge2 {validations(trained[1])[-1]['rouge2']:.6g}", done.stdout)
    done = command("validate", data, *using, *EVAL, "--batch-size", 2, "--eval-rouge-samples", 2)
    assert "valid: ROUGE on 2 of 5 documents" in done.stdout


def test_hydra_train_accepts_eval_rouge_options(command, data, tmp_path):
    small = [f"+model.{name}={value}" for name, value in SIZES.items() if not name.endswith(("layers", "positions"))]
    arguments = """'{"beam": 1, "max_len_b": 4}'"""  # without quotes Hydra would make it a dictionary
    done = command("hydra-train", f"common.user_dir={ROOT}/pyramidion_fairseq", "common.cpu=true",
        "criterion=cross_entropy", "optimizer=adam", "lr_scheduler=fixed", "optimization.lr=[0.003]",
        "optimization.max_update=1", "dataset.batch_size=4", f"checkpoint.save_dir={tmp_path}/checkpoints",
        "dataset.num_workers=0", "dataset.data_buffer_size=0", "checkpoint.best_checkpoint_metric=rouge2",
        "checkpoint.maximize_best_checkpoint_metric=true",
        "+task._name=long_document_summarization", f"+task.data={data}", "+model._name=deeppyramidion", *small,
        "+task.eval_rouge=true", f"+task.eval_rouge_args={arguments}", f"hydra.run.dir={tmp_path}")  # fmt: skip
    state = torch.load(tmp_path / "checkpoints" / "checkpoint_best.pt", weights_only=False)
    assert state["cfg"]["task"]["eval_rouge_args"] == '{"beam": 1, "max_len_b": 4}', done.stdout
    assert 0 <= state["extra_state"]["best"] <= 100


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("{beam: 4}", "is not JSON"),
        ("[4]", "must be a JSON object"),
        ('{"beams": 4, "beam": 2}', "unknown options beams; known: "),
    ],
)
def test_invalid_eval_rouge_args_are_refused(arguments, message):
    with pytest.raises(PyramidionError, match=message):
        generation_arguments(arguments, None)


def test_invalid_eval_rouge_args_stop_training_with_one_line(command, data, tmp_path):
    args = ["--eval-rouge", "--eval-rouge-args", "{beam: 4}", "--save-dir", tmp_path]
    done = command("train", data, *TASK, *TRAIN, *args, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("error: --eval-rouge-args is not JSON")


@pytest.mark.paper("hp-beam")
def test_generation_arguments_default_to_those_of_the_paper():
    paper = {"beam": 2, "lenpen": 1.0, "min_len": 72, "max_len_a": 0.0, "max_len_b": 966}
    assert vars(generation_arguments("{}", 1024)) == paper
    assert vars(generation_arguments(None, None))["min_len"] == 72
    changed = generation_arguments('{"beam": 8, "max_len_b": 40}', 1024)
    assert (changed.beam, changed.min_len, changed.max_len_b) == (8, 40, 40)
    assert generation_arguments("{}", 32).min_len == 31
    assert generation_arguments('{"min_len": 5}', 32).min_len == 5
    with pytest.raises(PyramidionError, match="beam and max_len_b must be at least 1, got 2, 0"):
        generation_arguments('{"max_len_b": 0}', 32)


def test_spread_chooses_evenly_spaced_documents():
    assert spread(10, 0).tolist() == spread(10, 10).tolist() == spread(10, 99).tolist() == list(range(10))
    assert spread(10, 1).tolist() == [5] and spread(10, 2).tolist() == [2, 7]
    chosen = spread(6633, 512)
    assert len(set(chosen.tolist())) == 512 and set(np.diff(chosen)) == {12, 13}
    assert chosen[0] < 13 and chosen[-1] > 6633 - 13


def test_subword_marks_recognises_the_kind_of_pieces():
    def dictionary(*symbols):
        made = Dictionary()
        for symbol in symbols:
            made.add_symbol(symbol)
        return made

    assert subword_marks(dictionary("\u2581the", "cat")) == "sentencepiece"
    assert subword_marks(dictionary("the", "c@@", "at")) == "subword_nmt"
    assert subword_marks(dictionary("the", "cat")) is None


def test_rouge_validation_joins_pieces_and_matches_no_unknown_words():
    dictionary = Dictionary()
    for symbol in ("\u2581the", "\u2581c", "at"):
        dictionary.add_symbol(symbol)
    rouge = RougeValidation(dictionary)
    target = torch.tensor([[4, 5, 6, 3, 2, 1]])  # the cat<unk> </s> <pad>
    assert rouge.text(target[0], "<unk>") == "the cat<unk>"
    same = rouge.logged(lambda batch: [[{"tokens": target[0][:5]}]], {"summarised": True, "target": target})
    assert same["_rouge_documents"] == 1
    assert same["_rouge1_sum"] == pytest.approx(2 * 100 / 5)  # "the" of 2 and 3 words
    nothing = rouge.logged(None, {"summarised": False, "target": target})
    assert nothing.keys() == same.keys() and not any(nothing.values())


def test_rouge_validation_does_not_score_the_symbol_of_the_language():
    dictionary = Dictionary()
    for symbol in ("\u2581the", "\u2581cat", "\u2581dog", "en_XX"):
        dictionary.add_symbol(symbol)
    rouge = RougeValidation(dictionary)
    batch = {"summarised": True, "target": torch.tensor([[7, 4, 5, 2]])}
    logged = rouge.logged(lambda batch: [[{"tokens": torch.tensor([7, 4, 6, 2])}]], batch, marker=7)
    assert logged["_rouge1_sum"] == pytest.approx(50) and logged["_rouge2_sum"] == 0


def test_rouge_validation_decodes_a_byte_level_bpe(tmp_path):
    tokens = ["the", "Ġc", "at", ".", "ĠA"]
    dictionary = Dictionary()
    for number in range(len(tokens)):
        dictionary.add_symbol(str(number))
    rouge = RougeValidation(dictionary, data=str(tmp_path))
    with pytest.raises(PyramidionError, match=f"no encoder.json with vocab.bpe is in {tmp_path}: copy both there"):
        rouge.find_byte_level()
    (tmp_path / "encoder.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\nt h\nth e\n", encoding="utf-8")
    rouge.find_byte_level()
    assert rouge.text(torch.tensor([4, 5, 6, 7, 8, 3, 2, 1]), "<unk>") == "the cat. A<unk>"
    for other in ("@@", "sentencepiece"):
        RougeValidation(dictionary, other).find_byte_level()  # the user has said how pieces are joined


def test_eval_rouge_tokenizer_decides_the_score_of_other_scripts(caplog):
    """Check that the default tokenizer scores 0 with one warning, and the unicode one 100."""
    dictionary = Dictionary()
    for symbol in ("\u2581модель", "\u2581чита", "ет"):
        dictionary.add_symbol(symbol)
    target = torch.tensor([[4, 5, 6, 2]])
    batch = {"summarised": True, "target": target}
    for tokenizer, score in (("unicode", 100), ("rouge-score", 0)):
        rouge = RougeValidation(dictionary, tokenizer=tokenizer)
        for _ in range(2):
            logged = rouge.logged(lambda batch: [[{"tokens": target[0]}]], batch)
            assert logged["_rouge1_sum"] == logged["_rouge2_sum"] == score
        assert caplog.text.count("1 of 1 texts score 0, as they have letters but no words") == (
            tokenizer == "rouge-score"
        )


def test_document_without_hypothesis_scores_0():
    rouge = RougeValidation(Dictionary())
    logged = rouge.logged(lambda batch: [[]], {"summarised": True, "target": torch.tensor([[3, 2]])})
    assert logged["_rouge_documents"] == 1 and logged["_rouge1_sum"] == 0


def test_logged_rouge_is_a_mean_over_documents_not_batches():
    with metrics.aggregate(new_root=True) as agg:
        for documents, total in ((3, 30.0), (1, 50.0), (0, 0.0)):
            keys = {f"_{name}_sum": torch.tensor(total).double() for name in METRICS}
            log_rouge([{"_rouge_documents": torch.tensor(documents), **keys}])
    assert agg.get_smoothed_values()["rouge1"] == 20.0
