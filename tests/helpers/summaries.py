"""Write tiny checkpoints with dictionaries and sentencepiece models, which summarise within a second."""

import io

import sentencepiece
import torch
from fairseq import options, tasks
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf

import pyramidion_fairseq  # noqa: F401 -- registers everything with fairseq
from tests.helpers.models import TINY

SENTENCES = [
    "pooling keeps the best vectors of a long document .",
    "the scorer rates every token, and the tournament drops the rest.",
    "each vector is a weighted sum of tokens.",
    "a summary of <dig> words was written by the decoder!",
    "what the decoder reads is known exactly.",
]
SUMMARY = {"max_target_positions": 24, "max_source_positions": 64}


def article(sentences: int, seed: int = 0) -> str:
    """Return a plain text of so many sentences."""
    return " ".join(SENTENCES[(seed + 3 * i) % len(SENTENCES)] for i in range(sentences))


def write_sentencepiece(folder) -> None:
    """Write ``sentencepiece.model`` and both dictionaries, as preprocess/ does."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20), model_writer=model, vocab_size=120, hard_vocab_limit=False,
        character_coverage=1.0, minloglevel=2, user_defined_symbols=["<dig>"],
        bos_id=0, pad_id=1, eos_id=2, unk_id=3,
    )  # fmt: skip
    (folder / "sentencepiece.model").write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    dictionary = Dictionary()
    for number in range(4, processor.get_piece_size()):
        dictionary.add_symbol(processor.id_to_piece(number))
    for side in ("source", "target"):
        dictionary.save(str(folder / f"dict.{side}.txt"))


def write_checkpoint(folder, name="checkpoint_best.pt", seed=0, task="long_document_summarization", **chosen):
    """Write an untrained tiny model to a file as fairseq does, and return its path."""
    flags = [
        str(folder),
        "--task",
        task,
        "--arch",
        "deeppyramidion",
        "--source-lang",
        "source",
        "--target-lang",
        "target",
    ]
    for option, value in {**TINY, **SUMMARY, **chosen}.items():
        flag = "--" + option.replace("_", "-")
        flags += ([flag] if value else []) if isinstance(value, bool) else [flag, str(value)]
    parser = options.get_training_parser()
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, flags))
    torch.manual_seed(seed)
    model = tasks.setup_task(cfg.task).build_model(cfg.model)
    state = {
        "cfg": OmegaConf.to_container(cfg),
        "args": None,
        "model": model.state_dict(),
        "optimizer_history": [
            {"num_updates": 1, "criterion_name": "x", "optimizer_name": "x", "lr_scheduler_state": {}}
        ],
        "extra_state": {"epoch": 1, "train_iterator": {"epoch": 1}},
        "last_optimizer_state": None,
    }
    torch.save(state, folder / name)
    return str(folder / name)


def write_model(folder):
    """Write a sentencepiece model, dictionaries and a checkpoint for pyramidion-summarize; return the folder."""
    write_sentencepiece(folder)
    write_checkpoint(folder)
    return folder
