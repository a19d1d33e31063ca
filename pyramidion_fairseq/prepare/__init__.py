"""From a corpus to data that fairseq-train takes: the stages of ``pyramidion-prepare``."""
