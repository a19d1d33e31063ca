"""Export of a classifier to a directory that transformers loads with AutoModelForSequenceClassification."""

from __future__ import annotations

import logging
from argparse import Namespace
from pathlib import Path
from typing import Any, Mapping

from ... import class_labels, vocabularies
from ...errors import PyramidionError
from ...models.encoder_config import FIELDS, complete_encoder
from ..bart.sources import import_safetensors
from ..roberta import names
from ..roberta.adapt import EMBEDDING
from ..roberta.symbols import read_dictionary
from ..subwords import find_subwords
from . import ACTIVATIONS
from .bundle import bundle
from .tokenizer import usable_subwords, write_json, write_tokenizer

logger = logging.getLogger(__name__)

_MODULE = "huggingface.modeling_pyramidion_roberta"
_CLASS = "PyramidionRobertaForSequenceClassification"
_CARD = """\
---
library_name: transformers
pipeline_tag: text-classification
tags:
- long-document
- representation-pooling
---

# Classifier of long documents

A RoBERTa with {attention} attention, {positions:,} tokens, poolings {schedule}; exported by
`pyramidion-convert huggingface` of pyramidion_fairseq. The directory includes the model's code.

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained("PATH", trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained("PATH", trust_remote_code=True)
logits = model(**tokenizer(["The document ..."], padding=True, truncation=True, return_tensors="pt")).logits
```

`pyramidion-convert roberta PATH OUT` converts it back to a fairseq checkpoint, bit for bit.

Please add what the model was trained on, and how well it classifies.
"""


def export_classifier(
    checkpoint: Path, state: Mapping[str, Any], folder: Path, dictionary: Path | None, bpe: Path | None
) -> None:
    """Write the directory.

    Args:
        checkpoint: path of the checkpoint.
        state: its content.
        folder: the output folder, which exists.
        dictionary: dict.txt; by default the symbols recorded in the checkpoint, or the file next to it.
        bpe: a sentencepiece model, or a folder with one or a BPE; by default next to the checkpoint or its data.

    Raises:
        PyramidionError: there is no head, transformers cannot represent the model, or a file is missing.
        OSError: a file cannot be written.
    """
    safetensors = import_safetensors()
    given = vocabularies.options_of(state, "model")
    chosen = vars(complete_encoder(Namespace(**{name: given[name] for name in FIELDS if name in given})))
    task, tensors = vocabularies.options_of(state, "task"), names.of_today(state["model"])
    if chosen["encoder_normalize_before"] or chosen["untie_weights_roberta"]:
        raise PyramidionError(
            "only models with layer norms after each block and a shared embedding can be exported to transformers"
        )
    for name in ("activation_fn", "pooler_activation_fn"):
        if chosen[name] not in ACTIVATIONS:
            raise PyramidionError(f"transformers has no activation {chosen[name]!r}")
    head = _head(tensors, task, checkpoint)
    record = vocabularies.recorded(state.get("extra_state"))
    size = tensors[EMBEDDING].size(0)
    if record is not None and dictionary is None:
        symbols = record["source"].split("\n")
    else:
        symbols = read_dictionary(dictionary or checkpoint.parent / "dict.txt", size)[0]
    weights = {name: t.contiguous().clone() for name, t in names.to_export(tensors, head).items()}
    data = Path(str(task.get("data") or checkpoint.parent))
    found = find_subwords(
        symbols, bpe, [checkpoint.parent, data, data.absolute().parent], state.get("extra_state"), checkpoint
    )
    found = usable_subwords(symbols, found, chosen)
    config = _config(chosen, state, tensors, head, size)

    for name, text in bundle(chosen["attention"], chosen["scorer"], chosen["pooler"], _MODULE).items():
        (folder / name).write_text(text, encoding="utf-8")
    write_json(folder / "config.json", config)
    starts = task.get("init_token") == 0
    options = {**chosen, "prepend_bos": starts, "separates_pairs": task.get("separator_token") == 2}
    if starts or (isinstance(found, Path) and task.get("init_token") is None):
        write_tokenizer(folder, symbols, found, options)
    else:
        logger.warning(
            "the model was trained without <s> before documents (--init-token 0): the directory gets no tokenizer"
        )
    card = _CARD.format(
        attention=chosen["attention"], positions=chosen["max_positions"], schedule=chosen["pooling_schedule"] or "none"
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    safetensors.save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})


def _head(tensors: Mapping[str, Any], task: Mapping[str, Any], checkpoint: Path) -> str:
    known = sorted({name.split(".")[1] for name in tensors if name.startswith("classification_heads.")})
    wanted = task.get("classification_head_name")
    if wanted in known or len(known) == 1:
        return str(wanted) if wanted in known else known[0]
    raise PyramidionError(f"{checkpoint} has no classification head {wanted!r} to export; it has: {known or 'none'}")


def _config(
    chosen: Mapping[str, Any], state: Mapping[str, Any], tensors: Mapping[str, Any], head: str, size: int
) -> dict[str, Any]:
    """Return config.json."""
    out = tensors[f"classification_heads.{head}.out_proj.weight"]
    regression = bool(vocabularies.options_of(state, "criterion").get("regression_target"))
    labels = [
        class_labels.as_written(label)
        for label in class_labels.labels_of_checkpoint(state.get("extra_state"), head) or []
    ]
    labels += [f"class {number}" for number in range(len(labels), out.size(0))]
    plain = (str, int, float, bool, type(None))
    options = {name: value for name, value in sorted(chosen.items()) if isinstance(value, plain)}
    module = _MODULE.rpartition(".")[2]
    return {
        "architectures": [_CLASS],
        "auto_map": {
            "AutoConfig": f"{module.replace('modeling', 'configuration')}.PyramidionRobertaConfig",
            "AutoModelForSequenceClassification": f"{module}.{_CLASS}",
        },
        "model_type": "pyramidion_roberta",
        "vocab_size": size,
        "activation_function": ACTIVATIONS[chosen["activation_fn"]],
        "head_activation": ACTIVATIONS[chosen["pooler_activation_fn"]],
        "problem_type": "regression" if regression else "single_label_classification",
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
        **{"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2},
        "dtype": str(out.dtype).split(".")[-1],
        "torch_dtype": str(out.dtype).split(".")[-1],
        "pyramidion": {**options, "head_width": out.size(1)},
    }
