"""Utilities independent of summaries and models: files, quiet imports, versions of packages."""
