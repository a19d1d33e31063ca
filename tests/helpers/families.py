"""Small models of other families with random weights, as transformers saves them, with tokenizers made of a text."""

import io
import json

import sentencepiece
import torch

from pyramidion_fairseq.interop.bart import vocabulary
from pyramidion_fairseq.interop.families.mbart import LANGUAGES, LANGUAGES_50
from tests.helpers.bart import randomise, write_bpe

SIZES = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
SIZES.update(encoder_attention_heads=4, decoder_attention_heads=4)
WORDS = ["hello world we read long documents", "and write short summaries of them", "the quick brown fox jumps"]
#: Name -> (class of transformers, settings, languages that mBART's vocabulary has).
KINDS = {
    "mbart": ("MBart", {"scale_embedding": True}, LANGUAGES),
    "mbart-50": ("MBart", {"scale_embedding": True}, LANGUAGES_50),
    "pegasus": ("Pegasus", {"scale_embedding": True, "activation_function": "relu"}, None),
    "led": ("LED", {"attention_window": [32, 32]}, None),
    "bigbird_pegasus": ("BigBirdPegasus", {"attention_type": "original_full"}, None),
}
LENGTH = 64
#: The offset of PEGASUS's vocabulary; 103 in the real one.
PEGASUS_OFFSET = 6


def family_of(kind):
    """The command's name: mBART-50 is of mBART's family."""
    return kind.replace("-50", "")


def write_pieces(path, first):
    """A sentencepiece model whose special pieces have the numbers that a family's have."""
    numbers = dict(zip(("unk_id", "bos_id", "eos_id", "pad_id"), first))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 20), model_writer=model, vocab_size=34, minloglevel=2, **numbers
    )
    path.write_bytes(model.getvalue())
    return 34


def write_tokenizer(kind, folder, rows):
    """Write the tokenizer's files; return how many rows the embedding has."""
    if kind == "led":
        write_bpe(folder, rows)
        return len(rows)
    if kind.startswith("mbart"):
        languages = KINDS[kind][2]
        return write_pieces(folder / "sentencepiece.bpe.model", (0, 1, 2, -1)) + 1 + len(languages) + 1
    (folder / "tokenizer_config.json").write_text(json.dumps({"offset": PEGASUS_OFFSET}), encoding="utf-8")
    return write_pieces(folder / "spiece.model", (2, -1, 1, 0)) + PEGASUS_OFFSET


def start_of(kind, size):
    """(settings of generation, language of a document) of a kind."""
    if kind == "mbart":
        return {"decoder_start_token_id": size - 1 - len(LANGUAGES) + LANGUAGES.index("en_XX")}
    if kind == "mbart-50":
        row = size - 1 - len(LANGUAGES_50) + LANGUAGES_50.index("fr_XX")
        return {"decoder_start_token_id": 2, "forced_bos_token_id": row}
    return {"forced_bos_token_id": 0} if kind == "led" else {}


def config_of(transformers, kind, size, **sizes):
    name, settings, _ = KINDS[kind]
    lengths = {"max_position_embeddings": LENGTH}
    if kind == "led":
        lengths = {"max_encoder_position_embeddings": LENGTH, "max_decoder_position_embeddings": LENGTH}
    return getattr(transformers, f"{name}Config")(**{**SIZES, **lengths, **settings, "vocab_size": size, **sizes})


def make(transformers, kind, folder, rows, values=randomise):
    """(directory, transformers' model) of a kind; ``rows`` of a byte-level vocabulary, for LED."""
    folder.mkdir(parents=True, exist_ok=True)
    size = write_tokenizer(kind, folder, rows)
    config = config_of(transformers, kind, size)
    model = values(getattr(transformers, f"{KINDS[kind][0]}ForConditionalGeneration")(config))
    if kind == "pegasus":  # positions are no parameters that are learned
        for side in (model.model.encoder, model.model.decoder):
            with torch.no_grad():
                side.embed_positions.weight.copy_(side.embed_positions.create_weight())
    for name, value in start_of(kind, size).items():
        setattr(model.generation_config, name, value)
    if kind in ("mbart", "pegasus"):  # as in PEGASUS's own; fairseq counts </s>, not the start, in n-grams
        with torch.no_grad():
            model.get_input_embeddings().weight[start_of(kind, size).get("decoder_start_token_id", 0)] = 0
    model.generation_config.update(num_beams=2, length_penalty=0.8, no_repeat_ngram_size=3, max_length=22)
    model.save_pretrained(folder)
    return folder, model


def rows_of(folder, kind):
    """The row of the pretrained embedding for each of our symbols."""
    from pyramidion_fairseq.interop.families.every import FAMILIES

    family = FAMILIES[family_of(kind)]
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    found = family.vocabulary(folder, size, vocabulary.find_bpe(folder))
    return torch.tensor(found.rows if found.rows is not None else range(size))
