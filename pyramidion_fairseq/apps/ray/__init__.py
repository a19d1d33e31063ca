"""Summaries of collections by Ray Data."""
