"""Selection of k representations: successive halving, other selections, and the weighted sums that they share."""
