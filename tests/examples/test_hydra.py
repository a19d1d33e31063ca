"""Tests of examples/hydra/ARCH.yaml: one file for each row, up to date; test_recipes.py compares the fields."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pyramidion_fairseq.models.architectures import PUBLISHED
from tests.helpers.paths import EXAMPLES, ROOT
from tests.helpers.recipes import ARCHS


def test_every_published_row_has_a_yaml_file():
    files = {path.stem: path.read_text("utf-8") for path in (EXAMPLES / "hydra").glob("*.yaml")}
    assert set(files) == set(ARCHS)
    for (table, row), arch in PUBLISHED.items():
        first = files[arch].splitlines()[0]
        assert re.search(rf"Table {table}, row [^;]*{re.escape(row.split('/')[0])}", first)


@pytest.mark.parametrize("script", ["write_hydra.py", "write_example_pages.py"])
def test_yaml_files_and_example_pages_are_up_to_date(program, script):
    done = program(sys.executable, f"scripts/{script}", "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "where, subset, beam, row",
    [
        ("table2", "valid", 8, "Table 2, row 8, validation split: ROUGE-1 42.7"),
        ("table3", "test", 2, "Table 3, row DeepPyramidion/arXiv, test split: ROUGE-1 47.15"),
        ("pubmed", "test", 2, "Table 3, row DeepPyramidion/PubMed, test split: ROUGE-1 47.81"),
    ],
)
def test_readme_of_an_example_names_its_own_split_beam_and_scores(where, subset, beam, row):
    """Check also that it quotes no log, which only examples/README.md does, once."""
    text = (EXAMPLES / where / "README.md").read_text("utf-8")
    assert f"Summaries** of the {subset} split, beam {beam}," in text
    assert f"`Generate {subset} with beam={beam}: BLEU = ...`" in text and f"The paper, {row}" in text
    assert "| INFO |" not in text and (EXAMPLES / "README.md").read_text("utf-8").count("| INFO | train |") == 1


@pytest.mark.parametrize("arch", ["pyramidion_8k_8k_2k_512"])
def test_yaml_file_trains_with_hydra(command, prepared, tmp_path, arch):
    widths = [f"model.{side}_{width}=8" for side in ("encoder", "decoder") for width in ("embed_dim", "ffn_embed_dim")]
    small = [*widths, "model.encoder_attention_heads=4", "model.decoder_attention_heads=4", "dataset.batch_size=4"]
    small.append("""task.eval_rouge_args='{"beam": 8, "max_len_b": 8}'""")  # the file has 966 tokens
    done = command("hydra-train", "--config-dir", "examples/hydra", "--config-name", arch, *small,
        f"hydra.run.dir={tmp_path}", "hydra.job.chdir=false", f"task.data={prepared}/data-bin", "common.cpu=true",
        "optimization.max_update=2", "dataset.num_workers=0",
        "optimization.update_freq=[1]", f"checkpoint.save_dir={tmp_path}/checkpoints")  # fmt: skip
    state = torch.load(tmp_path / "checkpoints" / "checkpoint_last.pt", weights_only=False)
    assert state["optimizer_history"][-1]["num_updates"] == 2, done.stdout
    assert "| rouge2 " in done.stdout  # validation generates summaries
    assert state["cfg"]["model"]["_name"] == arch and state["cfg"]["optimization"]["lr"] == [5e-4]
    assert {f"encoder.poolings.{layer}.scorer.proj.weight" for layer in (2, 3)} <= set(state["model"])


def test_documented_hydra_commands_print_no_warnings(tmp_path):
    """Run the lines of docs/training.md as they are, with a missing data folder."""
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"^(export PYTHONWARNINGS=.+?)^```$", page, re.M | re.S)
    end = f" common.cpu=true hydra.run.dir={tmp_path}"
    assert lines.count("fairseq-hydra-train") == 2 and "dataset.batch_size=2 ...\n" in lines
    typed = lines.replace(" ...\n", f"{end}\n").replace("$PWD/data/", f"{tmp_path}/").rstrip() + end
    env = dict(os.environ, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", PATH=f"{Path(sys.executable).parent}:/bin")
    env.pop("PYTHONWARNINGS", None)
    done = subprocess.run(["bash", "-c", typed], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    said = [line for line in done.stderr.splitlines() if not line.startswith(("INFO:fairseq.tasks", "DEBUG:hydra."))]
    missing = f"error: there is no data folder '{tmp_path}/arxiv/data-bin': create it with preprocess/prepare.py"
    assert said == [missing] * 2, done.stderr
