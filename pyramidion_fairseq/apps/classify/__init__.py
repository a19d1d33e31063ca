"""Classification of documents, for ``pyramidion-classify``."""
