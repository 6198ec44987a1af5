"""Repeats the retraining cycle: by the clock, when files appear, and after what may pass by itself."""
