"""Slow, straightforward counterparts of the functions of this package, as references for the tests."""
