"""Families of pretrained encoder-decoders: a file each, with its names and shapes; what they share is in ``base``."""

#: Family -> its name for people, and a line on its command. Without imports: a command's help needs them at once.
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
