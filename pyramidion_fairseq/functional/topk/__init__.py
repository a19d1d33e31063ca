"""Selecting k representations: successive halving, its rivals, and the weighted sums that all of them end in."""
