"""Stops the run when stock ExampleValidator found the examples unfit, and says why in words."""
