"""Small RoBERTas with random weights, fairseq's and ours."""

from argparse import Namespace

import torch
from fairseq.models.roberta import RobertaModel

from pyramidion_fairseq.interop.roberta.adapt import EMBEDDING
from pyramidion_fairseq.models.roberta import LSGRobertaModel
from tests.helpers.bart import randomise, task_of

#: Width 32, 3 layers, 64 positions.
SHAPE = {
    "encoder_layers": 3,
    "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 64,
    "encoder_attention_heads": 4,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}
WORDS = 60
HEAD = "sentence_classification_head"
#: Options of LSG attention small enough for the sizes above.
SMALL_LSG = {"lsg_block_size": 8, "lsg_sparse_block_size": 8}


def build_stock(classes=3, positions=64, words=WORDS, **options):
    """Build fairseq's own RoBERTa with a classification head and random values."""
    args = Namespace(**{**SHAPE, "max_positions": positions, **options})
    model = RobertaModel.build_model(args, task_of(words))
    model.register_classification_head(HEAD, num_classes=classes)
    return randomise(model)


def build(classes=3, words=WORDS, seed=0, **options):
    """Build our RoBERTa with a classification head, in evaluation mode."""
    torch.manual_seed(seed)
    options = {**SHAPE, **SMALL_LSG, "max_positions": 64, **options}
    model = LSGRobertaModel.build_model(Namespace(**options), task_of(words))
    model.register_classification_head(HEAD, num_classes=classes)
    return model.eval()


def load_state(model, state):
    """Load a state strictly after adapting its names and lengths, as fairseq does."""
    state = dict(state)
    model.upgrade_state_dict_named(state, "")
    torch.nn.Module.load_state_dict(model, state, strict=True)
    return model


def roberta_of(given, state, words):
    """Build our model of these options and tensors; tie a missing language model's head to the embedding."""
    model = LSGRobertaModel.build_model(Namespace(**given), task_of(words))
    for name, value in model.state_dict().items():
        if "lm_head" in name:
            state.setdefault(name, state[EMBEDDING] if name.endswith("lm_head.weight") else value)
    return load_state(model, state).eval()  # the head, which was loaded with the tensors, too
