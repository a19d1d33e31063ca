"""Fixtures: small encoders of transformers with random weights, and their vocabularies."""

import os

import pytest
import sentencepiece

from pyramidion_fairseq.cli.convert import main
from tests.helpers import bart
from tests.helpers.bart import randomise, write_bpe
from tests.helpers.preprocessing import WORDS

rows = bart.rows  # a fixture
symbols = bart.symbols  # a fixture
#: Width 32, 3 layers, 64 positions.
SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
SHAPE.update(max_position_embeddings=66, type_vocab_size=1, layer_norm_eps=1e-5)
LABELS = {0: "bad", 1: "so so", 2: "good"}
CLASSES = {"roberta": "Roberta", "camembert": "Camembert", "xlm-roberta": "XLMRoberta"}


@pytest.fixture(scope="session")
def transformers(tmp_path_factory):
    """Return the package, or skip. The cache for models' code has to be set before its import."""
    os.environ.update(HF_MODULES_CACHE=str(tmp_path_factory.mktemp("modules")), HF_HUB_OFFLINE="1")
    return pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def pieces(tmp_path_factory):
    """Train a small sentencepiece model for CamemBERT and XLM-R; return its path."""
    prefix = tmp_path_factory.mktemp("pieces") / "sentencepiece.bpe"
    text = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text * 5), model_prefix=str(prefix), vocab_size=40, minloglevel=2
    )
    return prefix.with_suffix(".bpe.model")


@pytest.fixture(scope="session")
def hugging_face(transformers, rows, pieces, tmp_path_factory):
    """Return hugging_face(kind) -> (directory, transformers' classifier): "roberta", "camembert", "xlm-roberta"."""
    made = {}

    def build(kind, what="ForSequenceClassification", **more):
        key = (kind, what, *sorted(map(str, more.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp(kind)
            size = len(rows) if kind == "roberta" else 40 + (5 if kind == "camembert" else 2)
            labels = {"id2label": LABELS, "label2id": {name: i for i, name in LABELS.items()}}
            config = getattr(transformers, CLASSES[kind] + "Config")
            config = config(**{"vocab_size": size, "pad_token_id": 1, **SHAPE, **labels, **more})
            model = randomise(getattr(transformers, CLASSES[kind] + what)(config))
            model.save_pretrained(folder)
            if kind == "roberta":
                write_bpe(folder, rows)
            else:
                (folder / "sentencepiece.bpe.model").write_bytes(pieces.read_bytes())
            made[key] = folder, model
        return made[key]

    return build


@pytest.fixture
def convert(tmp_path):
    """Return convert("roberta", IN, *flags), which runs the command and returns the path of the new folder."""
    count = iter(range(100))

    def run(kind, given, *flags):
        out = tmp_path / f"{kind}_{next(count)}"
        main([kind, str(given), str(out), *map(str, flags)])
        return out

    return run
