"""The model card of an exported directory."""

from __future__ import annotations

from typing import Any, Mapping

_CARD = """\
---
library_name: transformers
pipeline_tag: summarization
tags:
- long-document
- summarization
- representation-pooling
---

# Summariser of long documents

A BART-like encoder-decoder with a sparse, pooled encoder, exported by
`pyramidion-convert huggingface` of pyramidion_fairseq (trainable representation pooling: Pietruszka, Borchmann,
Garncarek, ACL 2022). The directory includes the model's code, copied from that package. It requires {needs}, but not
fairseq.

| what | value |
|---|---|
{rows}

```python
{torch_import}from transformers import AutoModelForSeq2SeqLM{tokenizer_import}

model = AutoModelForSeq2SeqLM.from_pretrained("PATH", trust_remote_code=True)
{tokenize}
summaries = model.generate(**inputs)  # beam {beam}, length penalty {lenpen}; see generation_config.json
{decode}
```
{remarks}
`pyramidion-convert bart PATH OUT` converts it back to a fairseq checkpoint, bit for bit.

Please add what the model was trained on, and how well it summarises.
"""


#: Remarks in the card of a directory with a sentencepiece model.
_PIECES = """
The tokenizer gives a text the same ids as in training. Longer texts than the model's maximum are cut, with a warning.
An empty text becomes `</s>` alone, from which the model still generates a summary, so leave empty texts out.
"""


def model_card(options: Mapping[str, Any], generation: Mapping[str, Any], parameters: int, tokenizer: str) -> str:
    """Return the text of README.md, which describes the model by its options.

    Args:
        options: all fields of PyramidionConfig.
        generation: all settings of ``GENERATION``.
        parameters: number of parameters.
        tokenizer: "sentencepiece", "BPE" or "none".
    """
    attention = options["attention"]
    if attention == "lsg":
        attention += f" ({options['lsg_sparsity_type']}, blocks of {options['lsg_block_size']})"
    elif attention == "blockwise":
        attention += f", blocks of {options['block_size']}"
    pooled = options["pooling_schedule"]
    rows = {
        "parameters": f"{parameters:,}",
        "layers": f"{options['encoder_layers']} + {options['decoder_layers']} of {options['encoder_embed_dim']}",
        "longest document": f"{options['max_source_positions']:,} tokens",
        "longest summary": f"{options['max_target_positions']:,} tokens",
        "attention of the encoder": attention,
        "poolings (layer:length)": f"{pooled}, {options['pooler']}, {options['scorer']}" if pooled else "none",
        "documents and summaries start with `<s>`": "yes" if options["prepend_bos"] else "no",
    }
    if tokenizer != "none":
        tokenize = 'tokenizer = AutoTokenizer.from_pretrained("PATH", trust_remote_code=True)\n'
        tokenize += 'documents = ["The first document ...", "The second ..."]\n'
        tokenize += 'inputs = tokenizer(documents, padding=True, truncation=True, return_tensors="pt")'
        decode = "texts = tokenizer.batch_decode(summaries, skip_special_tokens=True)"
    else:
        tokenize = "# The vocabulary is dict.txt (ids 0 to 3 are <s>, <pad>, </s>, <unk>; then its lines)\n"
        tokenize += 'inputs = {"input_ids": torch.tensor(documents)}  # ids, with </s> at the end'
        decode = "summaries.tolist()"
    return _CARD.format(
        rows="\n".join(f"| {name} | {value} |" for name, value in rows.items()),
        needs="torch, transformers and sentencepiece" if tokenizer == "sentencepiece" else "torch and transformers",
        torch_import="import torch\n" if tokenizer == "none" else "",
        tokenizer_import=", AutoTokenizer" if tokenizer != "none" else "",
        remarks=_PIECES if tokenizer == "sentencepiece" else "",
        tokenize=tokenize,
        decode=decode,
        beam=generation["beam"],
        lenpen=generation["lenpen"],
    )
