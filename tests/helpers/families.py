"""Small models of other families with random weights, as transformers saves them, and their tokenizers."""

import io
import json
from argparse import Namespace

import sentencepiece
import torch
from fairseq.models.bart import BARTModel
from fairseq.models.bart.model import mbart_large_architecture

from pyramidion_fairseq.interop import byte_level, dictionary_files
from pyramidion_fairseq.interop.bart.convert import convert
from pyramidion_fairseq.interop.bart.sources import PretrainedSummarizer
from pyramidion_fairseq.interop.dictionary_files import make_dictionary
from pyramidion_fairseq.interop.families.base import reorder, sentencepieces
from pyramidion_fairseq.interop.families.every import FAMILIES
from pyramidion_fairseq.interop.families.mbart import LANGUAGES, LANGUAGES_50
from pyramidion_fairseq.models import PyramidionModel
from tests.helpers.bart import documents, old_checkpoint, randomise, symbols_of, task_of, write_bpe

SIZES = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
SIZES.update(encoder_attention_heads=4, decoder_attention_heads=4)
WORDS = ["hello world we read long documents", "and write short summaries of them", "the quick brown fox jumps"]
#: Name -> (class of transformers, settings, languages of mBART's vocabulary).
KINDS = {
    "mbart": ("MBart", {"scale_embedding": True}, LANGUAGES),
    "mbart-50": ("MBart", {"scale_embedding": True}, LANGUAGES_50),
    "pegasus": ("Pegasus", {"scale_embedding": True, "activation_function": "relu"}, None),
    "led": ("LED", {"attention_window": [32, 32], "scale_embedding": True}, None),  # which transformers does not read
    "bigbird_pegasus": ("BigBirdPegasus", {"attention_type": "original_full"}, None),
}
LENGTH = 64
#: Number that is added to the logit of ``</s>``.
ENDING = 5.0
#: Flags of the conversion that keep full attention, as in transformers' model.
FULL = ["--attention", "full", "--max-source-positions", str(LENGTH)]
#: The offset of PEGASUS's vocabulary; 103 in the real one.
PEGASUS_OFFSET = 6


def family_of(kind):
    """Return the family's name as in the command: mBART-50 belongs to mBART's family."""
    return kind.replace("-50", "")


def write_pieces(path, first, defined=()):
    """Write a sentencepiece model whose special pieces have a family's numbers; return its size.

    ``defined`` pieces have the first numbers that are left.
    """
    numbers = dict(zip(("unk_id", "bos_id", "eos_id", "pad_id"), first))
    numbers["user_defined_symbols"] = list(defined)
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
    if kind == "bigbird_pegasus":  # as in the published models, the numbers of pieces are rows
        (folder / "tokenizer_config.json").write_text(json.dumps({"offset": 0}), encoding="utf-8")
        return write_pieces(folder / "spiece.model", (6, 2, 1, 0), ("<unk_2>", "[CLS]", "[MASK]"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"offset": PEGASUS_OFFSET}), encoding="utf-8")
    return write_pieces(folder / "spiece.model", (2, -1, 1, 0)) + PEGASUS_OFFSET


def start_of(kind, size):
    """Return the settings with which generation starts in a kind of model."""
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


@torch.no_grad()
def compute_positions(model):
    """Restore PEGASUS's positions, which are computed and not learned."""
    for side in (model.model.encoder, model.model.decoder):
        side.embed_positions.weight.copy_(side.embed_positions.create_weight())


@torch.no_grad()
def let_end(model):
    """Raise the logit of ``</s>`` everywhere, so that summaries end by themselves, at different lengths."""
    decoder = model.get_decoder()
    names = [name for name in ("layer_norm", "layernorm_embedding") if hasattr(decoder, name)]
    norm = decoder.layers[-1].final_layer_norm if model.config.model_type == "led" else getattr(decoder, names[0])
    end = model.get_input_embeddings().weight[model.config.eos_token_id]
    norm.bias += ENDING * end / end.square().sum()


def make(transformers, kind, folder, rows, values=randomise):
    """Make transformers' model of a kind and save it; return the folder and the model.

    ``rows`` are those of a byte-level vocabulary, for LED.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = write_tokenizer(kind, folder, rows)
    config = config_of(transformers, kind, size)
    model = values(getattr(transformers, f"{KINDS[kind][0]}ForConditionalGeneration")(config))
    if kind == "pegasus":
        compute_positions(model)
    for name, value in start_of(kind, size).items():
        setattr(model.generation_config, name, value)
    if kind in ("mbart", "pegasus"):  # as in PEGASUS; fairseq counts </s>, not the start, in n-grams
        with torch.no_grad():
            model.get_input_embeddings().weight[start_of(kind, size).get("decoder_start_token_id", 0)] = 0
    let_end(model)
    model.generation_config.update(num_beams=2, length_penalty=0.8, no_repeat_ngram_size=3, max_length=22)
    model.save_pretrained(folder)
    return folder, model


def rows_of(folder, kind):
    """Return the row of the pretrained embedding for each of our symbols."""
    family = FAMILIES[family_of(kind)]
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    found = family.vocabulary(folder, size, byte_level.find_byte_level(folder))
    return torch.tensor(found.rows if found.rows is not None else range(size))


def encode(theirs, tokens, rows):
    """Return transformers' ids and mask for our tokens."""
    mask = tokens.ne(1).long()
    ids = rows[tokens].masked_fill(mask == 0, theirs.config.pad_token_id)
    more = {"global_attention_mask": torch.zeros_like(mask)} if theirs.config.model_type == "led" else {}
    return {"input_ids": ids, "attention_mask": mask, **more}


def summaries_of(model, size):
    """Return two summaries that begin with the symbol from which our decoder starts."""
    summaries = documents([9, 9], size, seed=1)
    summaries[:, 0] = model.decoder.dictionary.eos()
    return summaries


@torch.no_grad()
def differences(model, theirs, tokens, rows):
    """Return the largest differences of the encoder's states and of the logits, symbol by symbol."""
    summaries = summaries_of(model, len(rows))
    start = model.decoder.start_symbol
    read = rows[summaries if start is None else summaries.masked_fill(summaries == 2, start)]
    out = theirs(**encode(theirs, tokens, rows), decoder_input_ids=read, use_cache=False)
    encoded = model.encoder(tokens, None)
    visible = ~encoded["encoder_padding_mask"][0]
    states = encoded["encoder_out"][0].transpose(0, 1)
    states = states - out.encoder_last_hidden_state[:, : states.size(1)]
    logits = model(tokens, None, summaries)[0] - out.logits[..., rows]
    return states[visible].abs().max().item(), logits.abs().max().item()


def converted(kind, theirs, words, changes, rows=None, tensors=None):
    """Convert transformers' model to ours without files, with a vocabulary of ``words`` made-up symbols.

    Args:
        kind: a family's name.
        theirs: the model of transformers.
        words: rows of its embedding.
        changes: options of ours.
        rows: row of the embedding for each of our symbols, if their order differs.
        tensors: tensors by fairseq's names that replace those of the conversion.
    """
    family, markers = FAMILIES[kind], {"document_marker": "7", "summary_marker": "7"}
    given = family.from_config({**theirs.config.to_dict(), "model_type": kind})
    given.update(markers if kind == "mbart" else {})
    state, done = family.tensors(theirs.state_dict(), given)
    if rows is not None:
        done.append(reorder(state, rows))
    state.update(tensors or {})
    checkpoint = convert(PretrainedSummarizer(given, state, symbols_of(words), None, tuple(done)), changes).checkpoint
    model = PyramidionModel.build_model(Namespace(**checkpoint["cfg"]["model"]), task_of(words)).eval()
    torch.nn.Module.load_state_dict(model, checkpoint["model"], strict=True)
    return model


class Forced:
    """A processor that forces the first and last symbol as fairseq does, with the model's probability, not 1."""

    def __init__(self, settings):
        """Take the forced symbols out of transformers' ``settings``, in place."""
        self.at = {1: settings.forced_bos_token_id, settings.max_length - 1: settings.eos_token_id}
        settings.forced_bos_token_id = settings.forced_eos_token_id = None

    def __call__(self, ids, scores):
        symbol = self.at.get(ids.size(1))
        if symbol is None:
            return scores
        forced = torch.full_like(scores, -torch.inf)
        forced[:, symbol] = scores[:, symbol]
        return forced


def write_fairseq_mbart(folder, languages, style="[{}]", last=("<mask>",), **told):
    """Write fairseq's own mBART with dict.txt and a sentencepiece model; return its path, the model and its symbols.

    ``style`` makes a symbol of a language, ``last`` follows them; ``told`` are arguments of its task, such as
    ``source_lang``.
    """
    write_pieces(folder / "sentencepiece.bpe.model", (0, 1, 2, -1))
    known = [*dictionary_files.SPECIALS, *sentencepieces(folder)[3:]]
    dictionary_files.write_dictionary(known, folder / "dict.txt")
    symbols = [*known, *(style.format(language) for language in languages), *last]  # as fairseq's task adds them
    sizes = {name.replace("ffn_dim", "ffn_embed_dim"): value for name, value in SIZES.items() if name != "d_model"}
    args = Namespace(arch="mbart_large", task="translation_from_pretrained_bart", encoder_embed_dim=32, **sizes)
    args = Namespace(**vars(args), encoder_normalize_before=True, decoder_normalize_before=True, **told)
    args.max_source_positions = args.max_target_positions = args.tokens_per_sample = LENGTH
    mbart_large_architecture(args)
    dictionary = make_dictionary(symbols)
    model = BARTModel.build_model(args, Namespace(source_dictionary=dictionary, target_dictionary=dictionary))
    randomise(model)
    torch.save(old_checkpoint(args, model.state_dict()), folder / "model.pt")
    return folder / "model.pt", model, symbols
