"""Models for Hugging Face's transformers. ``interop/huggingface`` copies this code to exported directories.

The modules need transformers, but not fairseq, and are not imported here.
"""
