"""The export to transformers; the code that an exported directory carries is in ``pyramidion_fairseq/huggingface``."""
