"""Small, class-balanced, nested shares of the training labels, decided by a hash of each example's key."""
