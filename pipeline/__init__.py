"""The pipeline: its configuration, its wiring, and the runners that carry it out."""
