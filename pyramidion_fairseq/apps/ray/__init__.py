"""Summarise collections of documents with Ray Data."""
