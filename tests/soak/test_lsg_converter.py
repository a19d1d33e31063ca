"""Tests of our LSG models of 4096 tokens against lsg-converter 0.1.9, at the sizes of base with random weights.

It needs an older transformers, which can be installed in a separate folder:

    pip install --no-deps --target FOLDER \\
        lsg-converter==0.1.9 transformers==4.44.2 tokenizers==0.19.1 huggingface_hub==0.25.2 \\
        requests urllib3 idna certifi charset-normalizer
    PYTHONPATH=FOLDER python -m pytest tests/soak/test_lsg_converter.py -p no:xdist -m soak -rP

prints the differences that docs/pretrained.md quotes. Its BART with every selection type is compared in
docs/comparisons.md.
"""

import json

import pytest
import torch

from pyramidion_fairseq.interop.roberta import names, options
from tests.helpers.bart import documents, spread_values, symbols_of
from tests.helpers.families import converted, differences
from tests.helpers.roberta import roberta_of

pytestmark = pytest.mark.soak
WORDS, LENGTHS = 20_000, [4096, 2900]
#: Options of lsg-converter; ours have the same names after "lsg_".
LSG = {"block_size": 128, "sparse_block_size": 128, "sparsity_factor": 2, "sparsity_type": "norm"}
OURS = {**{f"lsg_{name}": value for name, value in LSG.items()}, "attention": "lsg"}
SPECIAL = {"vocab_size": WORDS, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
BASE = {"d_model": 768, "encoder_attention_heads": 12, "decoder_attention_heads": 12, "max_position_embeddings": 1024}
BASE.update(encoder_layers=6, decoder_layers=6, encoder_ffn_dim=3072, decoder_ffn_dim=3072)
#: Family -> (class of transformers, settings).
KINDS = {
    "bart": ("Bart", {}),
    "mbart": ("MBart", {"scale_embedding": True}),
    "pegasus": ("Pegasus", {"scale_embedding": True, "activation_function": "relu"}),
}
GLOBALS = "encoder.global_embeddings.weight"


@pytest.fixture
def converter():
    """Return a function that saves a model and its tokenizer in a folder and converts it by lsg-converter."""
    missing = "lsg-converter is not installed: the first lines of tests/soak/test_lsg_converter.py say how"
    package = pytest.importorskip("lsg_converter", reason=missing, exc_type=ImportError)

    def run(base, folder, architecture, count, **options):
        base.save_pretrained(folder)
        rows = {token: row for row, token in enumerate(symbols_of(WORDS))}
        (folder / "vocab.json").write_text(json.dumps(rows), encoding="utf-8")
        (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BartTokenizer"}', encoding="utf-8")
        made = package.LSGConverter(max_sequence_length=4096)
        return made.convert_from_pretrained(str(folder), architecture, num_global_tokens=count, **{**LSG, **options})[
            0
        ].eval()

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_summariser_of_4096_tokens_equals_lsg_converter(converter, kind, tmp_path):
    import transformers

    name, settings = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(**BASE, **SPECIAL, **settings)
    base = spread_values(getattr(transformers, f"{name}ForConditionalGeneration")(config))
    theirs = converter(base, tmp_path, f"LSG{name}ForConditionalGeneration", 1)
    lengths = {"max_source_positions": 4096, "max_target_positions": 4096}
    tensors = {}
    if config.scale_embedding:  # lsg-converter scales all symbols but those in global tokens
        tensors[GLOBALS] = theirs.model.encoder.global_embeddings.weight.detach()
    model = converted(kind, base, WORDS, {**OURS, **lengths, "lsg_global_tokens": 1}, tensors=tensors)
    states, logits = differences(model, theirs, documents(LENGTHS, WORDS), torch.arange(WORDS))
    print(f"{kind}: states {states:.1e}, logits {logits:.1e}")
    assert max(states, logits) < 1e-4


@pytest.mark.parametrize("count", [1, 9])
@torch.no_grad()
def test_roberta_of_4096_tokens_equals_lsg_converter(converter, count, tmp_path):
    """Compare with a zero token-type embedding, as in published RoBERTas; theirs leaves it out of global tokens.

    Tokens are selected by position. By norm, rounding can change the selection of a token, and the states of its
    block then differ by 4e-3.
    """
    import transformers

    config = transformers.RobertaConfig(
        **SPECIAL,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        num_labels=3,
    )
    base = spread_values(transformers.RobertaForSequenceClassification(config))
    base.roberta.embeddings.token_type_embeddings.weight.zero_()
    state = dict(names.from_hugging_face(base.state_dict()).state)
    theirs = converter(base, tmp_path, "LSGRobertaForSequenceClassification", count, sparsity_type="stride")
    changes = {**OURS, "lsg_sparsity_type": "stride", "lsg_global_tokens": count}
    changes.update(max_positions=4096, load_checkpoint_heads=True)
    model = roberta_of({**options.from_config(config.to_dict()), **changes}, state, WORDS)
    tokens = documents(LENGTHS, WORDS)
    mask = tokens.ne(1)
    ours, published = model(tokens, features_only=True)[0], theirs.roberta(tokens, mask.long())[0]
    states = (ours - published)[mask].abs().max().item()
    logits = (model.classification_heads[names.HEAD](ours) - theirs.classifier(published)).abs().max().item()
    print(f"roberta, {count} global tokens: states {states:.1e}, logits {logits:.1e}")
    assert max(states, logits) < 1e-4
