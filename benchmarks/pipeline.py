"""fairseq-generate with timed stages, and a corpus and checkpoints for it; used by throughput.py.

python benchmarks/pipeline.py STAGES.json DEVICE ARGUMENTS OF fairseq-generate
"""

from __future__ import annotations

import functools
import io
import json
import math
import random
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

#: The timed stages, in the order of a run.
STAGES = ["start-up", "reading the model", "reading the data", "waiting for batches", "encoding", "decoding", "text"]
#: Lengths of documents: PubMed's median, and a spread for which 10.7% are longer than 8192.
MEDIAN_LENGTH, SIGMA, LONGEST = 5014, 0.395, 20000
#: Words of the artificial language; the vocabulary has as many pieces, plus special ones.
WORDS = 31996


class Clock:
    """Measures the seconds spent in functions; the time of a nested call counts only for the inner function.

    Args:
        device: "cpu" or "cuda"; a function that puts work on a GPU has ended when the GPU is done.
    """

    def __init__(self, device: str):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def watch(self, owner: Any, name: str, stage: str) -> None:
        """Wrap ``owner.name`` so that its time is added to ``stage``."""
        import measure

        call = getattr(owner, name)

        @functools.wraps(call)
        def timed(*args, **kwargs):
            start = time.perf_counter()
            self._inner.append(0.0)
            try:
                return call(*args, **kwargs)
            finally:
                measure.synchronize(self.device)
                elapsed = time.perf_counter() - start
                self.seconds[stage] += elapsed - self._inner.pop()
                self._inner[-1] += elapsed

        setattr(owner, name, timed)


def main() -> None:
    """Run the command, and write the seconds of each stage and the time at which the imports were done."""
    path, device, *arguments = sys.argv[1:]
    from fairseq import checkpoint_utils
    from fairseq.data import Dictionary
    from fairseq.data.encoders.sentencepiece_bpe import SentencepieceBPE
    from fairseq.data.iterators import CountingIterator
    from fairseq.sequence_generator import SequenceGenerator
    from fairseq_cli import generate

    from pyramidion_fairseq import LongDocumentSummarizationTask
    from pyramidion_fairseq.models.encoder import PyramidionEncoder

    started, clock = time.time(), Clock(device)
    clock.watch(checkpoint_utils, "load_model_ensemble", "reading the model")
    clock.watch(LongDocumentSummarizationTask, "load_dataset", "reading the data")
    clock.watch(CountingIterator, "__next__", "waiting for batches")
    clock.watch(PyramidionEncoder, "forward", "encoding")
    clock.watch(SequenceGenerator, "generate", "decoding")
    clock.watch(Dictionary, "string", "text")
    clock.watch(SentencepieceBPE, "decode", "text")
    sys.argv = ["fairseq-generate", *arguments]
    generate.cli_main()
    Path(path).write_text(json.dumps({"started": started, "stages": clock.seconds}), encoding="utf-8")


def words(count: int) -> list[str]:
    """Return distinct artificial words of one to five syllables."""
    syllables, chosen = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"], random.Random(0)
    made: set[str] = set()
    while len(made) < count:
        made.add("".join(chosen.choice(syllables) for _ in range(chosen.randint(1, 5))))
    return sorted(made)


def lengths(documents: int) -> list[int]:
    """Return the tokens of each document: the medians of equally likely parts of a log-normal distribution."""
    import statistics

    normal = statistics.NormalDist()
    quantiles = [normal.inv_cdf((i + 0.5) / documents) for i in range(documents)]
    return [max(2, min(LONGEST, round(MEDIAN_LENGTH * math.exp(SIGMA * q)))) for q in quantiles]


def write_corpus(folder: Path, documents: int, target: int) -> None:
    """Write ``test`` split, dictionaries and ``sentencepiece.model``, as preprocess/prepare.py makes them."""
    import sentencepiece
    import torch
    from fairseq.data import Dictionary
    from fairseq.data.indexed_dataset import make_builder

    model, made = io.BytesIO(), words(WORDS)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(" ".join(made[i : i + 50]) for i in range(0, WORDS, 50)),
        model_writer=model,
        model_type="word",  # which needs no training: the words are the pieces
        vocab_size=WORDS + 4,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3},
    )
    (folder / "sentencepiece.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    dictionary = Dictionary()
    for number in range(4, pieces.get_piece_size()):
        dictionary.add_symbol(pieces.id_to_piece(number))
    generator = torch.Generator().manual_seed(0)
    for side, sizes in (("source", lengths(documents)), ("target", [target] * documents)):
        dictionary.save(str(folder / f"dict.{side}.txt"))
        prefix = folder / f"test.source-target.{side}"
        builder = make_builder(f"{prefix}.bin", "mmap", vocab_size=len(dictionary))
        for size in sizes:
            tokens = torch.randint(4, len(dictionary), (size - 1,), generator=generator)
            builder.add_item(torch.cat([tokens, torch.tensor([dictionary.eos()])]).int())
        builder.finalize(f"{prefix}.idx")


def write_checkpoint(folder: Path, arch: str) -> None:
    """Write ``ARCH.pt``: the architecture at full size with random weights, for the corpus in the same folder."""
    import torch
    from fairseq import options, tasks
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from omegaconf import OmegaConf

    from pyramidion_fairseq.checkpoints import new_checkpoint, save_checkpoint

    flags = [str(folder), "--task", "long_document_summarization", "--arch", arch]
    parsed = options.parse_args_and_arch(options.get_training_parser(), flags)
    cfg = convert_namespace_to_omegaconf(parsed)
    torch.manual_seed(0)
    model = tasks.setup_task(cfg.task).build_model(cfg.model)
    checkpoint = new_checkpoint(OmegaConf.to_container(cfg, enum_to_str=True), model.state_dict(), {})
    save_checkpoint(checkpoint, folder / f"{arch}.pt")


if __name__ == "__main__":
    main()
