"""What the stock Transform computes."""
