"""Slow, obvious counterparts of the functions of this package, for tests to compare with."""
