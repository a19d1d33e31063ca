"""What this package changes in fairseq: :mod:`.patches` lists it, and the files beside it do it."""
