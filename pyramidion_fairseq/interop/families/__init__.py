"""Families of pretrained encoder-decoders. Each has a file with its names and shapes; ``base`` has what they share."""

#: Family -> (display name, help of its command). This file imports nothing, so that ``--help`` is fast.
TITLES: dict[str, tuple[str, str]] = {
    "bart": (
        "BART",
        "a BART of fairseq or Hugging Face, made long, sparse and pooled; also a directory of 'huggingface'",
    ),
    "mbart": ("mBART", "an mBART or mBART-50 of fairseq or Hugging Face, likewise"),
    "pegasus": ("PEGASUS", "a PEGASUS of Hugging Face, likewise"),
    "led": ("LED", "an LED or PRIMERA of Hugging Face, likewise; its window attention becomes LSG"),
    "bigbird_pegasus": (
        "BigBird-PEGASUS",
        "a BigBird-PEGASUS of Hugging Face, likewise; its block-sparse attention becomes LSG",
    ),
}
