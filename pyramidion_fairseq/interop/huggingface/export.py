"""Export of a checkpoint to a directory that transformers loads (``pyramidion-convert huggingface``)."""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from typing import Any, Mapping

from ... import pretrained, vocabularies
from ...checkpoints import load_checkpoint
from ...config import PyramidionConfig, complete
from ...errors import PyramidionError, user_errors
from ...generation import check_lengths, fit_lengths
from ...markers import Markers, markers_of
from ...models import PyramidionModel
from ...models.architectures import ARCHITECTURES, ENCODERS, config_of
from ...poolers import POOLERS
from ...utils.files import check_empty, complete_folder
from .. import dictionary_files
from ..bart import names
from ..bart.convert import check_tensors, fill_buffers
from ..bart.sources import import_safetensors
from ..subwords import find_subwords
from . import ACTIVATIONS, GENERATION
from .bundle import bundle
from .card import model_card
from .classifier import export_classifier
from .tokenizer import usable_subwords, write_json, write_tokenizer

logger = logging.getLogger(__name__)

_CLASSES = {
    "AutoConfig": "configuration_pyramidion.PyramidionBartConfig",
    "AutoModel": "modeling_pyramidion.PyramidionBartModel",
    "AutoModelForSeq2SeqLM": "modeling_pyramidion.PyramidionBartForConditionalGeneration",
}


def export(
    checkpoint: Path,
    folder: Path,
    generation: Mapping[str, Any] | None = None,
    dictionary: Path | None = None,
    bpe: Path | None = None,
) -> str:
    """Write the directory, and return the name of the class of transformers that loads it.

    Args:
        checkpoint: a checkpoint of one of this package's architectures.
        folder: the output folder, which must not exist or be empty.
        generation: some of ``GENERATION``; the others are read from generation.json next to the checkpoint, or have
            their defaults.
        dictionary: dict.txt; by default dict.txt or dict.source.txt next to the checkpoint or in its data folder.
        bpe: a sentencepiece model, or a folder with one, or with encoder.json and vocab.bpe; by default one next to
            the checkpoint, next to the dictionary, or in the parent folder of the dictionary's.

    Raises:
        PyramidionError: transformers' BART cannot represent the model, a file is missing, or lengths contradict each
            other.
        OSError: a file cannot be read or written.
    """
    safetensors = import_safetensors()
    check_empty(folder)
    with user_errors(checkpoint, "exported"):
        state = load_checkpoint(checkpoint)
        if vocabularies.options_of(state, "model").get("_name") in ENCODERS:
            with complete_folder(folder):
                export_classifier(checkpoint, state, folder, dictionary, bpe)
            return "AutoModelForSequenceClassification"
        options = read_options(state)
        place = dictionary or _find_dictionary(checkpoint, state)
        symbols = dictionary_files.read_dictionary(place)
        remedy = "give its own with --dictionary"
        vocabularies.check_symbols(state.get("extra_state"), symbols, str(checkpoint), str(place), remedy)
        weights = named_weights(options, state["model"], symbols)
        dtype = str(next(iter(weights.values())).dtype).split(".")[-1]
        config = make_config(options, symbols, dtype)
        chosen = choose_generation(checkpoint, generation or {}, options["max_target_positions"])
        folders = [checkpoint.parent, place.parent, place.absolute().parent.parent]
        found = find_subwords(symbols, bpe, folders, state.get("extra_state"), checkpoint)
        found = usable_subwords(symbols, found, options)

    with complete_folder(folder):
        for name, text in bundle(options["attention"], options["scorer"], options["pooler"]).items():
            (folder / name).write_text(text, encoding="utf-8")
        write_json(folder / "config.json", config)
        write_json(folder / "generation_config.json", make_generation(options, chosen, symbols))
        write_tokenizer(folder, symbols, found, options)
        parameters = sum(tensor.numel() for tensor in weights.values())
        kind = "none" if found is None else "sentencepiece" if isinstance(found, Path) else "BPE"
        card = model_card(options, chosen, parameters, kind)
        (folder / "README.md").write_text(card, encoding="utf-8")
        safetensors.save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    return "AutoModelForSeq2SeqLM"


def read_options(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a checkpoint's model; missing ones are those of the architecture.

    Raises:
        PyramidionError: the model is not of this package, or transformers' BART decoder cannot represent it.
    """
    cfg = checkpoint.get("cfg") or {}
    given = dict(cfg.get("model") or {}) or vars(checkpoint.get("args") or Namespace())
    arch = given.get("_name") or given.get("arch")
    if arch not in ARCHITECTURES:
        raise PyramidionError(f"not a checkpoint of this package: its architecture is {arch or 'not named'}")
    defaults = {field.name: field.default for field in fields(config_of(arch)) if field.name != "_name"}
    options = vars(complete(Namespace(**{**defaults, **given})))
    options = {field.name: options[field.name] for field in fields(PyramidionConfig) if field.name != "_name"}
    if options["pooling_schedule"] and POOLERS.get(options["pooler"]).adds_scores_to_attention:
        raise PyramidionError(f"transformers' BART cannot add scores to its attention (--pooler {options['pooler']})")
    if options["pointer"]:
        raise PyramidionError("transformers' BART has no pointer, which this model has (--pointer)")
    if not options["share_all_embeddings"]:
        raise PyramidionError(f"transformers' BART has no share_all_embeddings={options['share_all_embeddings']}")
    if options["encoder_embed_dim"] != options["decoder_embed_dim"]:
        raise PyramidionError("transformers' BART needs encoder and decoder of the same width")
    if options["activation_fn"] not in ACTIVATIONS:
        raise PyramidionError(f"transformers has no activation {options['activation_fn']!r}")
    return options


def named_weights(options: Mapping[str, Any], state: Mapping[str, Any], symbols: list[str]) -> dict[str, Any]:
    """Return contiguous copies of the tensors by transformers' names, checked against the model."""
    dictionary = dictionary_files.make_dictionary(symbols)
    markers_of(Namespace(**options), dictionary, Markers())  # raises if the dictionary lacks a marker
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    model = PyramidionModel.build_model(Namespace(**options), task)
    state = dict(state)
    fill_buffers(model, state)
    check_tensors(model, state)
    return {name: tensor.contiguous().clone() for name, tensor in names.to_hugging_face(state).items()}


def start_of(options: Mapping[str, Any], symbols: list[str]) -> tuple[int, int | None]:
    """Return the id of the decoder's start symbol, and of the first symbol of all summaries, or None."""
    marker = options["summary_marker"]
    if options["prepend_bos"]:
        return 2, symbols.index(marker) if marker else 0
    return symbols.index(marker) if marker else 2, None


def make_config(options: dict[str, Any], symbols: list[str], dtype: str) -> dict[str, Any]:
    """Return config.json."""
    return {
        "architectures": [_CLASSES["AutoModelForSeq2SeqLM"].split(".")[1]],
        "auto_map": _CLASSES,
        "model_type": "pyramidion_bart",
        "vocab_size": len(symbols),
        "d_model": options["decoder_embed_dim"],
        "max_position_embeddings": options["max_target_positions"],
        **{f"{side}_layers": options[f"{side}_layers"] for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": options[f"{side}_ffn_embed_dim"] for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": options[f"{side}_attention_heads"] for side in ("encoder", "decoder")},
        "activation_function": ACTIVATIONS[options["activation_fn"]],
        **{name: options[name] for name in ("dropout", "attention_dropout", "activation_dropout")},
        "scale_embedding": not options["no_scale_embedding"],
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
        **{"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2},
        "decoder_start_token_id": start_of(options, symbols)[0],
        "forced_eos_token_id": None,  # set in generation_config.json
        "dtype": dtype,
        "torch_dtype": dtype,
        "pyramidion": options,
    }


def make_generation(options: Mapping[str, Any], generation: Mapping[str, Any], symbols: list[str]) -> dict[str, Any]:
    """Return generation_config.json with the same effect as these settings of fairseq-generate."""
    start, first = start_of(options, symbols)
    longest = min(generation["max_len_b"], options["max_target_positions"] - 1)
    return {
        "num_beams": generation["beam"],
        "length_penalty": float(generation["lenpen"]),
        "early_stopping": True,
        # transformers counts the first </s>, from which generation starts, and max_length also counts the last </s>.
        "min_length": min(generation["min_len"], longest) + 1,
        "max_length": longest + 2,
        "no_repeat_ngram_size": generation["no_repeat_ngram_size"],
        "suppress_tokens": [1],  # fairseq never generates padding
        **({} if first is None else {"forced_bos_token_id": first}),
        "forced_eos_token_id": 2,
        **{"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": start},
    }


def choose_generation(checkpoint: Path, given: Mapping[str, Any], model_length: int) -> dict[str, Any]:
    """Return all settings of ``GENERATION``, with precedence to given ones, then those in generation.json.

    A minimum length that is not given is lowered if necessary.

    Args:
        checkpoint: the checkpoint, whose folder may contain generation.json.
        given: settings by the names of ``GENERATION``.
        model_length: maximum tokens of the model's summaries, including ``</s>``.

    Raises:
        PyramidionError: generation.json is invalid, or the lengths are impossible.
    """
    settings = pretrained.generation_settings(str(checkpoint.parent))
    if settings.pop("max_len_a", 0):
        logger.warning(f"{pretrained.GENERATION} sets max_len_a, which transformers does not support: it is ignored")
    chosen = {**GENERATION, **settings, **given}
    fit_lengths(chosen, given, model_length)
    check_lengths(Namespace(**chosen), model_length)
    return chosen


def _find_dictionary(checkpoint: Path, state: Mapping[str, Any]) -> Path:
    data = str(vocabularies.options_of(state, "task").get("data") or "").split(os.pathsep)[0]
    for folder in (checkpoint.parent, *([Path(data)] if data else [])):
        for name in ("dict.txt", "dict.source.txt"):
            if (folder / name).is_file():
                return folder / name
    raise PyramidionError(f"no dict.txt or dict.source.txt next to {checkpoint}: give its path with --dictionary")
