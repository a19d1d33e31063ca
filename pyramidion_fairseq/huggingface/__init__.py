"""Models for Hugging Face's transformers: the code that an exported directory carries, and the export.

``modeling_pyramidion`` needs transformers and nothing of fairseq; it is not imported here.
"""
