"""Training time, generation time and memory of the rows, measured in turns in one process."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, Callable

import torch
from fairseq.criterions.cross_entropy import CrossEntropyCriterion
from fairseq.data import Dictionary
from fairseq.dataclass.configs import GenerationConfig
from omegaconf import OmegaConf

from pyramidion_fairseq import LongDocumentSummarizationTask, PyramidionModel
from pyramidion_fairseq.tasks.long_document_summarization import LongDocumentSummarizationConfig

from .scales import scaled
from .stages import Run, measure, write_json

FORCED = (256, 512)


def random_batch(words: int, documents: int, source: int, target: int, device: str) -> dict[str, Any]:
    """Return a batch as fairseq's tasks make them, of random tokens, without padding.

    Args:
        words: symbols of the vocabulary.
        documents: in the batch.
        source, target: their length and that of their summaries, in tokens.
        device: "cpu" or "cuda".
    """
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randint(4, words, (documents, length), generator=generator) for length in (source, target)]
    src, tgt = (side.index_fill(1, torch.tensor([side.size(1) - 1]), 2).to(device) for side in tokens)
    lengths = torch.full((documents,), source, device=device)
    net_input = {"src_tokens": src, "src_lengths": lengths, "prev_output_tokens": tgt.roll(1, 1)}
    net_input["document_lengths"] = [source] * documents
    return {"net_input": net_input, "target": tgt, "ntokens": tgt.numel(), "id": torch.arange(documents)}


class Row:
    """One row's model with what is timed of it. Weights are random: no duration here depends on them."""

    def __init__(self, run: Run, arch: str, dictionary: Dictionary):
        self.device, options = run.device, scaled(arch, run.scale)
        self.task = LongDocumentSummarizationTask(LongDocumentSummarizationConfig(), dictionary, dictionary)
        target = options["max_target_positions"]
        options["max_target_positions"] = max(target, 2 * max(FORCED))  # 512 tokens are to be forced
        torch.manual_seed(run.seed)
        self.model = PyramidionModel.build_model(Namespace(**options), self.task).to(run.device)
        self.model.decoder.need_attn = False  # as in fairseq's commands; it plays no part in training
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.criterion = CrossEntropyCriterion(self.task, sentence_avg=False)
        source, (train, infer) = options["max_source_positions"], run.scale.timed_batch
        self.batch = random_batch(len(dictionary), train, source, target, run.device)
        self.documents = random_batch(len(dictionary), infer, source, 1, run.device)
        self.beam = run.scale.beam

    def train_step(self) -> None:
        """Forward, loss, backward, Adam."""
        self.model.train()
        loss = self.criterion(self.model, self.batch)[0] / self.batch["ntokens"]
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def generator(self, tokens: int) -> Callable[[], Any]:
        """Return beam search that writes exactly ``tokens`` tokens for every document of a batch."""
        lengths = {"min_len": tokens, "max_len_a": 0, "max_len_b": tokens}
        settings = OmegaConf.structured(GenerationConfig(beam=self.beam, **lengths))
        search = self.task.build_generator([self.model], settings)

        def generate() -> Any:
            self.model.eval()
            return self.task.inference_step(search, [self.model], self.documents)

        return generate


def measure_rows(run: Run, rows: list[str], rounds: int) -> None:
    """Time the rows and write ``measure.json``; rows measured before, in another run, are replaced or dropped."""
    dictionary = Dictionary.load(str(run.corpus / "data-bin" / "dict.source.txt"))
    built = {arch: Row(run, arch, dictionary) for arch in rows}
    timed = {"train": {arch: row.train_step for arch, row in built.items()}}
    for tokens in FORCED:
        timed[f"generate_{tokens}"] = {arch: row.generator(tokens) for arch, row in built.items()}
    seconds = {name: measure.alternate(calls, rounds, run.device) for name, calls in timed.items()}
    memory = {arch: measure.peak_memory(row.train_step, run.device) for arch, row in built.items()}
    results = {
        arch: {**{name: times[arch]._asdict() for name, times in seconds.items()}, "train_bytes": memory[arch]}
        for arch in rows
    }
    write_json(run.output / "measure.json", {"machine": measure.machine(run.device), "rows": results})
