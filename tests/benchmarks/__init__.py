"""How fast the trainer is, and beside what; see `__main__`."""
