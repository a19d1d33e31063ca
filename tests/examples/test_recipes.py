"""Tests that every row's command is accepted by fairseq, agrees with the paper, and trains and generates."""

import re
import shutil
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from fairseq.dataclass.initialize import add_defaults, hydra_init
from fairseq_cli import generate, train
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pyramidion_fairseq.checkpoints import load_checkpoint
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.models import PyramidionModel
from pyramidion_fairseq.models.architectures import PUBLISHED, fields_of
from pyramidion_fairseq.schedule import PoolingSchedule
from pyramidion_fairseq.tasks.rouge_validation import generation_arguments
from tests.helpers.architectures import NARROW, distinct, run
from tests.helpers.models import make_dictionary
from tests.helpers.paths import EXAMPLES, ROOT

import recipe  # isort: skip
from recipes import command, memory, paper  # isort: skip
from tests.helpers.recipes import ARCHS, ELSEWHERE, parsed, training

OTHERS = ("quickstart", "bart_long", "pubmed_small")
SCRIPTS = sorted(path.relative_to(ROOT) for path in EXAMPLES.glob("*/*.sh") if path.parent.name not in OTHERS)


def composed(arch, *changes):
    """Return fairseq's whole configuration as fairseq-hydra-train makes it."""
    hydra_init(arch)
    with initialize_config_dir(str(EXAMPLES / "hydra"), version_base="1.1"):
        cfg = compose(arch, overrides=list(changes))
    add_defaults(cfg)
    return OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)


def test_row_without_published_scores_is_refused(monkeypatch):
    monkeypatch.setitem(PUBLISHED, ("7", "99"), "pyramidion_2k")
    with pytest.raises(PyramidionError, match=r"tables\.tsv has no row '99' of table '7', which PUBLISHED names"):
        paper.find("table7", "99").published  # noqa: B018


@pytest.mark.paper("table-2-vanilla", "table-3-own", "hp-beam", "shallow-scores", "input-length", "deep-subset")
@pytest.mark.parametrize("key", sorted(PUBLISHED), ids="-".join)
def test_every_published_row_is_found_with_its_generation_and_split(key):
    table, row = key
    found = paper.find(f"table{table}", row.split("/")[0].upper(), row.split("/")[1].lower() if "/" in row else None)
    assert found.arch == PUBLISHED[key] and found.published is not None
    if table != "4":  # in Table 4 the row with times is used instead
        same = [k for k, arch in PUBLISHED.items() if arch == found.arch]
        assert (found.published["table"], found.published["row"]) in same
    assert found.generation == {
        **{"lenpen": 1, "min_len": 72, "max_len_a": 0, "max_len_b": 966},
        "beam": 2 if table == "3" else 8,
    }
    assert found.subset == ("test" if table == "3" else "valid")


@pytest.mark.paper(
    "claim-end-to-end",
    "from-scratch",
    "hp-lr",
    "hp-weight-decay",
    "hp-adam",
    "shared-rest",
    "power-warmup",
    "validation-interval",
    "precision",
)
@pytest.mark.parametrize("arch", ARCHS)
def test_fairseq_parses_every_training_command_and_builds_its_model(arch):
    cfg = parsed(training(arch, gpus=8))
    assert cfg.model._name == arch
    assert all(getattr(cfg.model, name) == value for name, value in fields_of(arch).items())
    power = arch.startswith("power")
    assert (cfg.dataset.validate_interval, cfg.checkpoint.save_interval) == ((1, 1) if power else (3, 3))
    assert (cfg.optimization.lr, cfg.optimizer.weight_decay) == ([5e-4], 0.1)
    assert cfg.checkpoint.patience == (-1 if power else 7)
    assert cfg.lr_scheduler.warmup_updates == (500 if power else 5000)
    assert (cfg.criterion._name, cfg.optimizer._name, cfg.lr_scheduler._name) == ("cross_entropy", "adam", "fixed")
    base = {"power_2k_1k_512": "blockwise_2k"}.get(arch, "blockwise_8k")
    from_model = f"checkpoints/arxiv/{base}/checkpoint_best.pt" if power else None
    assert cfg.checkpoint.finetune_from_model == from_model
    assert not (cfg.common.fp16 or cfg.common.bf16 or cfg.common.cpu)
    dictionary = make_dictionary(100)
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    with torch.device("meta"):
        model = PyramidionModel.build_model(cfg.model, task)
    assert str(model.encoder.schedule) == fields_of(arch).get("pooling_schedule", "")


@pytest.mark.paper("hp-warmup")
@pytest.mark.parametrize("arch", ARCHS)
def test_yaml_and_training_command_agree_field_by_field(arch):
    ours = composed(arch, "task.data=data/arxiv/data-bin")
    theirs = OmegaConf.to_container(parsed(training(arch, gpus=8)), resolve=True, enum_to_str=True)
    assert {name: ours["model"][name] for name in fields_of(arch)} == fields_of(arch)
    ours["scoring"] = theirs["scoring"]  # used by fairseq-generate, not in training
    for group in theirs:
        if not isinstance(theirs[group], dict):
            assert ours[group] == theirs[group], group
            continue
        assert set(ours[group]) == set(theirs[group]), group
        for name, value in theirs[group].items():
            assert (group, name) in ELSEWHERE or ours[group][name] == value, (group, name)
    assert ours["dataset"]["batch_size"] * ours["optimization"]["update_freq"][0] * 8 == 256


@pytest.mark.parametrize(
    "data, name", [("", "arxiv"), ("corpora/mine", "mine"), ("corpora/mine/", "mine"), (".", Path.cwd().name)]
)
def test_checkpoint_folder_is_named_after_the_data_folder(data, name):
    """Check it so that training on another corpus does not continue from this model."""
    chosen = paper.Recipe("deeppyramidion", "arxiv")
    assert command.folders(chosen, command.Settings(data=data))[1] == Path("checkpoints") / name / "deeppyramidion"
    assert command.folders(chosen, command.Settings(data=data, save="here"))[1] == Path("here")


@pytest.mark.paper("hp-batch")
@pytest.mark.parametrize("gpus, nodes", [(0, 1), (1, 1), (2, 1), (8, 1), (8, 2), (8, 8)])
@pytest.mark.parametrize("arch", ["vanilla_512", "deep_blockwise", "deeppyramidion"])
@pytest.mark.parametrize("gigabytes", [40, 80])
def test_training_command_has_256_documents_an_update_and_fits_memory(arch, gpus, nodes, gigabytes, monkeypatch):
    monkeypatch.setenv("NODE_RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "first")
    words = training(arch, gpus=gpus, nodes=nodes, memory=gigabytes)
    processes = max(1, gpus) * nodes
    batch, frequency = (int(words[words.index(name) + 1]) for name in ("--batch-size", "--update-freq"))
    assert words.count("--batch-size") == words.count("--update-freq") == 1
    assert batch * frequency * processes == 256
    assert ("--cpu" in words) == (gpus == 0)
    if arch == "deeppyramidion" and gigabytes == 80:  # only here parsed by fairseq, which takes half a second
        cfg = parsed(words)
        assert (cfg.dataset.batch_size, cfg.optimization.update_freq) == (batch, [frequency])
        assert cfg.common.cpu == (gpus == 0)
    if gpus:
        assert words[words.index("--distributed-world-size") + 1] == str(processes)
    fixed, document = memory.need(arch)
    assert fixed + batch * document < gigabytes * 2**30


def test_batches_that_do_not_divide_256_are_refused():
    for settings in ({"gpus": 3}, {"gpus": 8, "batch": 3}, {"gpus": 8, "batch": 64}, {"gpus": 8, "nodes": 64}):
        with pytest.raises(PyramidionError, match="256 documents cannot be divided into"):
            training("deeppyramidion", **settings)


@pytest.mark.parametrize("data", ["elsewhere/mine", "elsewhere/mine/", "/data/sets/mine", "x/../mine"])
def test_all_stages_use_checkpoints_named_after_the_data(data):
    """Check paths of training, generation and evaluation, also of the model that PoWER starts from."""
    power = paper.Recipe("power_2k_1k_512", "arxiv")
    settings = command.Settings(data=data, gpus=0)
    (line,) = command.train(power, settings, [])
    assert line[line.index("--save-dir") + 1] == "checkpoints/mine/power_2k_1k_512"
    assert line[line.index("--finetune-from-model") + 1] == "checkpoints/mine/blockwise_2k/checkpoint_best.pt"
    (line,) = command.generate(power, settings, [])
    assert line[line.index("--path") + 1] == "checkpoints/mine/power_2k_1k_512/checkpoint_best.pt"
    (collect, score) = command.evaluate(power, settings, [])
    assert all("checkpoints/mine/power_2k_1k_512/" in " ".join(line) for line in (collect, score))
    assert command.folders(power, command.Settings())[1].as_posix() == "checkpoints/arxiv/power_2k_1k_512"
    assert command.folders(power, command.Settings(data=data, save="here"))[1].as_posix() == "here"


def test_memory_estimate_shrinks_with_pooling_and_low_precision():
    assert memory.need("deeppyramidion").document < memory.need("deep_blockwise").document / 2
    assert memory.need("vanilla_8k").document > 3 * memory.need("blockwise_8k").document
    assert memory.need("deeppyramidion", "bf16").document * 2 == pytest.approx(memory.need("deeppyramidion").document)
    assert memory.documents("deep_blockwise", 80) == 2 * memory.documents("deep_blockwise", 40)
    assert memory.documents("vanilla_8k", 1) == 1 and memory.documents("vanilla_512", 10**6) == 256


@pytest.mark.paper("hardware")
def test_training_command_of_several_nodes_uses_torchrun_or_slurm(monkeypatch):
    monkeypatch.setenv("NODE_RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "first")
    deep = paper.Recipe("deeppyramidion", "pubmed")
    (line,) = command.train(deep, command.Settings(gpus=8, nodes=2), ["--dropout", "0.2"])
    text = " ".join(line)
    assert text.startswith("torchrun --nnodes 2 --nproc_per_node 8 --node_rank 1 --master_addr first --master_port ")
    assert "--no_python fairseq-train data/pubmed/data-bin" in text and text.endswith("--dropout 0.2")
    (line,) = command.train(deep, command.Settings(gpus=8, nodes=2, launch="slurm", precision="bf16"), [])
    assert line[0] == "fairseq-train" and "--bf16" in line
    assert line[line.index("--distributed-port") + 1].isdigit()
    (line,) = command.train(deep, command.Settings(gpus=8, nodes=2, precision="tf32"), [])
    assert line[:3] == ["env", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1", "torchrun"]
    assert not {"--bf16", "--fp16"} & set(line)
    with pytest.raises(PyramidionError, match="LAUNCH="):
        command.train(deep, command.Settings(gpus=8, nodes=2, launch="local"), [])
    for launch in ("torchrun", "slurm"):  # without GPUs, each node has one process
        (line,) = command.train(deep, command.Settings(gpus=0, nodes=2, launch=launch, batch=4), [])
        assert "--cpu" in line and line[line.index("--distributed-world-size") + 1] == "2"
        assert line[line.index("--update-freq") + 1] == "32" and ("1" in line[3:5]) == (launch == "torchrun")
    monkeypatch.delenv("NODE_RANK")
    with pytest.raises(PyramidionError, match="NODES=2 needs on each node NODE_RANK"):
        command.train(deep, command.Settings(gpus=0, nodes=2), [])


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_every_script_is_valid_bash_and_calls_its_own_stage(program, script):
    assert program("bash", "-n", script).returncode == 0
    text, stage, where = (ROOT / script).read_text("utf-8"), script.stem, script.parent.name
    assert text.endswith(f'exec python "$here/../recipe.py" {stage} {where} "$@"\n')
    (example,) = re.findall(rf"bash examples/{where}/{stage}\.sh ([\w-]+) \[DATA", text)
    paper.find(where, example)
    assert len(SCRIPTS) == 21


def test_dry_run_of_a_script_prints_its_command(program):
    done = program("bash", "examples/pubmed/train.sh", "deeppyramidion", "some/data", DRY_RUN="1", GPUS="8", BATCH="2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("fairseq-train some/data/data-bin --user-dir pyramidion_fairseq --task ")
    assert "--batch-size 2 --update-freq 16 --save-dir checkpoints/data/deeppyramidion" in done.stdout


def test_slurm_file_is_valid_bash_and_calls_existing_scripts(program):
    path = EXAMPLES / "slurm" / "train.sbatch"
    assert program("bash", "-n", path).returncode == 0
    assert all(
        (ROOT / script).exists() for script in re.findall(r"examples/[\w/]+\.(?:sh|py)", path.read_text("utf-8"))
    )


@pytest.mark.parametrize(
    "words, message",
    [
        (["train", "table2", "99"], "table2 has no row '99'; it has: 1, 2, 3"),
        (["train", "table9", "1"], "this is how: recipe.py"),
        (["train", "table2"], "this is how: recipe.py"),
        (["train", "arxiv", "bart"], "no architecture 'bart'"),
        (["train", "table2", "8", "GPU=8"], "GPU= is no setting; there are: DATA"),
        (["train", "table2", "8", "GPUS=many"], "GPUS=many is not a whole number"),
        (["train", "table2", "8", "PRECISION=int8"], "PRECISION=int8: one of full, float32, tf32, fp16, bf16"),
        (["train", "table2", "8", "GPUS=0", "PRECISION=tf32"], "PRECISION=tf32 needs a GPU"),
        (["train", "table2", "8", "CORPUS=news"], "CORPUS=news: there are arxiv and pubmed"),
        (["train", "table2", "8", "/nowhere"], "/nowhere has no data-bin/"),
    ],
)
def test_invalid_arguments_of_recipe_are_refused(words, message):
    with pytest.raises(PyramidionError, match=re.escape(message)):
        recipe.main(words)


def test_file_in_place_of_the_checkpoint_folder_is_refused(tmp_path):
    (tmp_path / "data-bin").mkdir()
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(PyramidionError, match="mine cannot be a folder: File exists"):
        recipe.main(["train", "table2", "8", str(tmp_path), "GPUS=0", f"SAVE={tmp_path / 'mine'}"])


def test_generate_keeps_the_old_log_until_the_new_one_is_complete(tmp_path):
    log = tmp_path / "generate-test.log"
    log.write_text("precious")
    write = [sys.executable, "-c", "import sys; print('H-0'); sys.exit(int(sys.argv[1]))"]
    assert recipe.generate([*write, "3"], log) == 3
    assert log.read_text() == "precious" and (tmp_path / "generate-test.log.part").read_text() == "H-0\n"
    assert recipe.generate([*write, "0"], log) == 0
    assert log.read_text() == "H-0\n" and list(tmp_path.iterdir()) == [log]


@pytest.mark.paper("power-start")
def test_power_without_its_blockwise_checkpoint_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "data-bin").mkdir(parents=True)
    with pytest.raises(PyramidionError) as error:
        recipe.main(["train", "table2", "16", "mine", "GPUS=0"])
    assert str(error.value) == (
        "power_8k_2k_512 goes on from the model of Table 2, row 5, and checkpoints/mine/blockwise_8k/"
        "checkpoint_best.pt is not there: train that row first (bash examples/table2/train.sh 5 mine), or say "
        "INIT=its checkpoint"
    )
    assert not (tmp_path / "checkpoints").exists()


def test_recipe_program_ends_with_one_line_for_an_invalid_row(program):
    done = program(sys.executable, "examples/recipe.py", "train", "table2", "99")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: table2 has no row '99'")


def test_recipe_reads_settings_from_environment_and_arguments(monkeypatch, capsys):
    monkeypatch.setenv("GPUS", "8")
    monkeypatch.setenv("DRY_RUN", "1")
    recipe.main(["train", "table2", "8", "DATA=some/where", "GPUS=4", "--", "--lr", "0.1"])
    shown = capsys.readouterr().out
    assert "some/where/data-bin" in shown and "--distributed-world-size 4 --lr 0.1" in shown
    recipe.main(["evaluate", "table4", "mean pooling", "data/x"])
    assert "pyramidion-rouge data/x/text/valid.target" in capsys.readouterr().out


@pytest.mark.paper("validation-metric")
def test_best_checkpoint_is_chosen_by_rouge2_by_default():
    """Check Appendix C.1: scores with the row's own beam decide; METRIC and SAMPLES change it."""
    for arch, beam in (("deeppyramidion", 2), ("transpooler_8k_2k", 8), ("power_8k_2k_512", 8)):
        cfg = parsed(training(arch))
        assert (cfg.checkpoint.best_checkpoint_metric, cfg.checkpoint.maximize_best_checkpoint_metric) == (
            "rouge2",
            True,
        )
        assert (cfg.task.eval_rouge, cfg.task.eval_rouge_samples) == (True, 512)
        assert generation_arguments(cfg.task.eval_rouge_args, 1024).beam == beam
    cfg = parsed(training("deeppyramidion", metric="rouge1", samples=0))
    assert (cfg.checkpoint.best_checkpoint_metric, cfg.task.eval_rouge_samples) == ("rouge1", 0)
    cfg = parsed(training("deeppyramidion", metric="loss"))
    assert cfg.checkpoint.best_checkpoint_metric == "loss" and not cfg.checkpoint.maximize_best_checkpoint_metric
    assert not cfg.task.eval_rouge


@pytest.mark.paper("validation-metric")
def test_validation_share_matches_a_hand_computed_value():
    """Check row 8: 512 summaries at 5.51 s for 8, after three epochs of 203,037 documents at 1.26 s for 64."""
    row_8 = paper.Recipe("transpooler_8k_2k", "arxiv")
    assert row_8.validation_share(512) == pytest.approx(64 * 5.51 / (3 * 203037 / 64 * 1.26))
    assert row_8.validation_share(0) == row_8.validation_share(10**6) == pytest.approx(0.37, abs=0.005)
    assert paper.Recipe("transpooler_2k_512_random", "arxiv").validation_share(512) is None


@pytest.mark.paper("power-warmup")
def test_warm_up_of_fine_tuning_is_shorter_than_its_training():
    """Check also that ten epochs of PubMed have fewer updates than the 5,000 of the usual warm-up."""
    for corpus, (documents, _) in paper.DOCUMENTS.items():
        training_ = paper.Recipe("power_8k_2k_512", corpus).training
        updates = training_["max_epoch"] * documents / paper.EFFECTIVE_BATCH
        assert training_["warmup_updates"] < updates / 5
        assert corpus == "arxiv" or updates < paper.TRAINING["warmup_updates"]


def tiny(words, folder):
    """Return the words of a recipe's command with options that make it run in a second."""
    here = ["--user-dir", ROOT / "pyramidion_fairseq", "--num-workers", 0, "--data-buffer-size", 0, "--cpu"]
    out = [*words, *here]
    if "--arch" in words:
        out += [*NARROW, "--max-update", 2, "--update-freq", 1, "--batch-size", 4, "--no-epoch-checkpoints"]
        out += ["--save-dir", folder, "--disable-validation"]
    return out


@pytest.mark.paper("claim-sota", "related-funnel", "quality-kept")
@pytest.mark.parametrize("arch", distinct(ARCHS))
def test_command_of_every_kind_of_row_trains_and_generates(monkeypatch, prepared, tmp_path, arch):
    """Run the commands with small sizes and few updates."""
    row = paper.Recipe(arch, "arxiv")
    settings = command.Settings(gpus=0, data=str(prepared), save=str(tmp_path), subset="test")
    words = command.train(row, settings, [])[0][1:]
    if row.initial:
        base = paper.Recipe(row.initial, "arxiv")
        run(monkeypatch, train.cli_main, *tiny(command.train(base, settings, [])[0][1:], tmp_path / "base"))
        words[words.index("--finetune-from-model") + 1] = tmp_path / "base" / "checkpoint_last.pt"
    run(monkeypatch, train.cli_main, *tiny(words, tmp_path))
    state = load_checkpoint(tmp_path / "checkpoint_last.pt")
    assert state["cfg"]["model"]["_name"] == arch and state["optimizer_history"][-1]["num_updates"] == 2
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    steps = PoolingSchedule.parse(fields_of(arch).get("pooling_schedule", "")).steps
    scored = {name.split(".")[2] for name in state["model"] if ".scorer." in name}
    assert scored in (set(), {str(layer) for layer, _ in steps})
    shutil.copy(tmp_path / "checkpoint_last.pt", tmp_path / "checkpoint_best.pt")
    words = [*tiny(command.generate(row, settings, [])[0][1:], tmp_path), "--min-len", 1, "--max-len-b", 4]
    out = run(monkeypatch, generate.cli_main, *words, "--scoring", "sacrebleu")
    assert sorted(re.findall(r"^D-(\d+)", out, re.M)) == list("012345")


def test_recipe_trains_generates_and_evaluates(program, prepared, tmp_path):
    """Run the program that the scripts call, on a CPU with small sizes and few updates."""

    def stage(name, *options):
        done = program(sys.executable, "examples/recipe.py", name, "pubmed", "deeppyramidion", *settings, *options)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    settings = [f"DATA={prepared}", f"SAVE={tmp_path / 'checkpoints'}"]
    small = [*NARROW, "--encoder-layers", 3, "--decoder-layers", 1, "--batch-size", 8, "--update-freq", 1]
    fast = ["--num-workers", 0, "--max-update", 3, "--validate-interval", 1, "--save-interval", 1]
    fast += ["--eval-rouge-args", '{"beam": 2, "max_len_b": 8}']
    stage("train", *small, *fast)
    stage("generate", "--min-len", 2, "--max-len-b", 8)
    shown = stage("evaluate", "--samples", 100)
    assert re.search(r"F1 +[\d.]+ \[ *[\d.]+, *[\d.]+\]", shown)
    expected = "The paper, Table 3, row DeepPyramidion/PubMed, test split: ROUGE-1 47.81, ROUGE-2 21.14"
    assert shown.splitlines()[-1] == expected
    assert len((tmp_path / "checkpoints" / "summaries-test.txt").read_text("utf-8").splitlines()) == 6
