"""What a node raises whose training was told to end and has saved its step, for the runner that waits for it."""

from trainer.loop import PreemptedError

__all__ = ["PreemptedError"]
