"""Changes that this package makes to fairseq. :mod:`.patches` lists them; the other modules make them."""
