"""Models for Hugging Face's transformers: the code that an exported directory carries; interop/huggingface writes it.

``modeling_pyramidion`` needs transformers and nothing of fairseq; it is not imported here.
"""
