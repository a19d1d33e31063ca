"""Test of a user's commands from SumPubMed to a report in a browser; it is skipped without the corpus."""

import gzip
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.reports import check_report, read

CORPUS = Path(os.environ.get("SUMPUBMED", ROOT.parent / "shared" / "data" / "sumpubmed"))
MODEL = shlex.split(
    """--arch deeppyramidion --encoder-layers 3 --decoder-layers 2 --encoder-embed-dim 64 --decoder-embed-dim 64
    --encoder-ffn-embed-dim 128 --decoder-ffn-embed-dim 128 --encoder-attention-heads 4 --decoder-attention-heads 4
    --block-size 128 --pooling-schedule 2:512,3:128 --max-source-positions 2048 --max-target-positions 256
    --share-all-embeddings --dropout 0"""
)
TRAINING = shlex.split(
    """--criterion cross_entropy --optimizer adam --lr 3e-3 --clip-norm 1 --batch-size 4 --max-update 40
    --lr-scheduler inverse_sqrt --warmup-updates 20 --no-epoch-checkpoints --disable-validation --cpu
    --num-workers 0"""
)

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not CORPUS.is_dir(), reason="needs SumPubMed: say where it is in SUMPUBMED"),
]


def run(*arguments):
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


def test_report_of_a_held_out_article_shows_the_numbers_of_its_json(tmp_path, new_page):
    splits = {"train": "train.jsonl.gz", "valid": "val.jsonl.gz", "test": "test.jsonl.gz"}
    corpus = [text for split, name in splits.items() for text in (f"--{split}", CORPUS / name)]
    small = ["--max-documents", 160, "--vocab-size", 2000, "--workers", 1]
    run("preprocess/prepare.py", tmp_path / "data", *corpus, *small)
    data, task = tmp_path / "data" / "data-bin", ["--task", "long_document_summarization"]
    plugin = ["--user-dir", "pyramidion_fairseq", *task]
    run("-m", "fairseq_cli.train", data, *plugin, *MODEL, *TRAINING, "--save-dir", tmp_path / "checkpoints")

    with gzip.open(CORPUS / "test.jsonl.gz", "rt", encoding="utf-8") as lines:
        (tmp_path / "article.jsonl").write_text(next(lines), encoding="utf-8")
    report, numbers = tmp_path / "report.html", tmp_path / "numbers.json"
    files = ["--input", tmp_path / "article.jsonl", "--output", report, "--json", numbers]
    checkpoint = ["--checkpoint", tmp_path / "checkpoints", "--data", data, "--device", "cpu"]
    run("-m", "pyramidion_fairseq.cli.explain", *checkpoint, *files, "--no-repeat-ngram-size", 3, "--max-len-b", 100)
    explanation = read(numbers)
    assert [length.tokens for length in explanation.lengths] == [2048, 512, 128]
    assert explanation.model.exact and len(explanation.document.sections) == 3 and explanation.truncated > 0
    page = new_page()
    page.goto(report.as_uri())
    check_report(page, explanation)
