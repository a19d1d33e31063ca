"""Tests that RoBERTa, CamemBERT and XLM-R of base and large size equal those of transformers, with random weights."""

import gc

import pytest
import torch

from pyramidion_fairseq.interop.roberta import names, options
from tests.helpers.bart import documents, spread_values
from tests.helpers.roberta import roberta_of

pytestmark = pytest.mark.soak
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
#: Rows of the embedding; XLM-R's 250,002 would take a gigabyte and test nothing more.
WORDS = {"Roberta": 50265, "Camembert": 32005, "XLMRoberta": 50002}


@pytest.mark.parametrize("size", [BASE, LARGE], ids=["base", "large"])
@pytest.mark.parametrize("family", WORDS)
@torch.no_grad()
def test_encoder_of_real_size_equals_transformers_within_512_tokens(family, size):
    transformers = pytest.importorskip("transformers")
    words = WORDS[family]
    more = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}
    config = getattr(transformers, family + "Config")(vocab_size=words, num_labels=3, **size, **more)
    theirs = spread_values(getattr(transformers, family + "ForSequenceClassification")(config))
    renamed = names.from_hugging_face(theirs.state_dict())
    given = options.from_config({**config.to_dict(), "model_type": config.model_type})
    changes = {"max_positions": 4096, "attention": "blockwise", "block_size": 512, "load_checkpoint_heads": True}
    state = dict(renamed.state)
    model = roberta_of({**given, **changes}, state, words)
    tokens = documents([512, 100, 7], words)
    out = theirs(tokens, tokens.ne(1).long(), output_hidden_states=True)
    states = model(tokens, features_only=True)[0]
    logits = model.predict(names.HEAD, tokens)[0]
    assert (states - out.hidden_states[-1])[tokens.ne(1)].abs().max() < 1e-4
    assert (logits - out.logits).abs().max() < 1e-4
    alone = model.predict(names.HEAD, tokens[1:2, :100])[0]
    assert (alone[0] - logits[1]).abs().max() < 1e-4
    del theirs, model, state, renamed
    gc.collect()
