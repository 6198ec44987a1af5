"""The `run_fn`s of the stock Trainer: files and configuration in, `trainer.stages`, artifacts out."""
