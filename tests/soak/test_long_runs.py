"""Tests of long runs: memory does not grow, and losses in bfloat16 follow those in float32."""

import time

import numpy as np
import pytest
import torch

from pyramidion_fairseq.cli import summarize
from pyramidion_fairseq.inference import summarizer as hub_interface
from tests.helpers import needs
from tests.helpers.forked import Forked, fairseq_command
from tests.helpers.summaries import article, write_model
from tests.helpers.training import TASK, TRAIN, training_log, write_corpus

pytestmark = pytest.mark.soak

UPDATES, DOCUMENTS = 2000, 500
#: Largest growth of memory from the first fifth of a run to its end, by a straight line through the samples, in MB. A
#: leak of one float32 activation (6 documents x 64 tokens x 8) in an update would be 25 MB.
GROWTH_MB = 8


def watched(process, log):
    """Wait for the end; return samples (seconds, resident MB) of the process, fifty a second."""
    samples, begin = [], time.monotonic()
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status") as status:
                resident = [int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS")]
        except OSError:
            resident = []
        samples += [(time.monotonic() - begin, megabytes) for megabytes in resident]
        time.sleep(0.02)
    assert process.returncode == 0, log.read_text()[-3000:]
    return np.array(samples)


def growth(samples):
    """Return by how many MB the straight line through the last four fifths of the samples rises."""
    times, megabytes = samples[len(samples) // 5 :].T
    slope, _ = np.polyfit(times, megabytes, 1)
    return slope * (times[-1] - times[0])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder, words=40)
    return folder


def train(data, folder, *flags):
    log = folder / "log"
    arguments = [data, *TASK, *TRAIN, "--save-dir", folder / "checkpoints", "--no-save", *flags]
    with open(log, "wb") as file:
        return Forked(fairseq_command("train"), ["fairseq-train", *arguments], file, file), log


def test_growth_detects_a_leak_in_noisy_samples():
    times = np.linspace(0, 100, 1000)
    noise = np.random.default_rng(0).normal(0, 1, 1000)
    leak = np.column_stack([times, 400 + noise + 0.2 * times])
    assert growth(leak) > GROWTH_MB > abs(growth(np.column_stack([times, 400 + noise])))


def test_memory_does_not_grow_in_2000_updates(data, tmp_path):
    process, log = train(data, tmp_path, "--max-update", UPDATES, "--log-interval", 100)
    samples = watched(process, log)
    print(f"{UPDATES} updates: {growth(samples):+.2f} MB at {samples[-1, 1]:.0f} MB, {len(samples)} samples")
    assert len(samples) > 100 and growth(samples) < GROWTH_MB


def test_memory_does_not_grow_in_500_summaries(tmp_path):
    write_model(tmp_path)
    log = tmp_path / "log"
    (tmp_path / "in.txt").write_text("".join(article(1 + n % 9, seed=n) + "\n" for n in range(DOCUMENTS)))
    arguments = ["--checkpoint", tmp_path, "--device", "cpu", "--min-len", 20, "--max-len-b", 22, "--batch-size", 4]
    arguments += ["--input", tmp_path / "in.txt", "--output", tmp_path / "out", "--format", "jsonl", "--sources"]

    def main():
        hub_interface.BUFFER = 16
        summarize.main(list(map(str, arguments)))

    with open(log, "wb") as file:
        samples = watched(Forked(main, ["pyramidion-summarize"], file, file), log)
    assert len((tmp_path / "out").read_text().splitlines()) == DOCUMENTS
    print(f"{DOCUMENTS} summaries: {growth(samples):+.2f} MB at {samples[-1, 1]:.0f} MB, {len(samples)} samples")
    assert len(samples) > 100 and growth(samples) < GROWTH_MB


def curve(data, folder, *flags):
    """Return the losses of 300 updates with the same dropout and order of batches every time."""
    folder.mkdir()
    process, log = train(data, folder, "--max-update", 300, "--disable-validation", *flags)
    assert process.wait() == 0, log.read_text()[-3000:]
    losses = training_log(log.read_text())
    assert len(losses) == 300
    return np.array([losses["train", update] for update in range(1, 301)])


@pytest.fixture(scope="module")
def float32(data, tmp_path_factory):
    losses = curve(data, tmp_path_factory.mktemp("curve") / "float32")
    assert losses[-20:].mean() < 0.75 * losses[0]  # it has learned something
    return losses


def follow(losses, float32):
    apart = np.abs(losses - float32) / float32
    print(f"300 updates: {apart.mean():.2%} apart on average, {apart.max():.2%} at most")
    assert losses.tolist() != float32.tolist()
    assert apart.mean() < 0.01 and apart.max() < 0.05


def test_300_updates_in_bf16_follow_float32(data, tmp_path, float32):
    follow(curve(data, tmp_path / "bf16", "--autocast", "bf16"), float32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason=needs.A_GPU)
def test_300_updates_in_fp16_follow_float32(data, tmp_path, command):
    runs = []
    for flags in ([], ["--fp16", "--fp16-init-scale", "4"]):
        gpu = [text for text in TRAIN if text != "--cpu"]
        arguments = [data, *TASK, *gpu, "--no-save", "--max-update", "300", "--disable-validation", *flags]
        done = command("train", *arguments, fresh=True, visible="0")
        losses = training_log(done.stdout)
        runs.append(np.array([losses["train", update] for update in range(1, 301)]))
    follow(runs[1], runs[0])
