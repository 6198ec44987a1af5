"""RunSummary: what became of a run, written whether it succeeded or not."""
