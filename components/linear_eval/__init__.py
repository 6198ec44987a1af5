"""LinearEval: the frozen encoder's probes beside their control."""
