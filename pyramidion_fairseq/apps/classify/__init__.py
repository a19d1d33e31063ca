"""Labels for documents, with probabilities: ``pyramidion-classify``."""
