"""Registers pushed models with Vertex AI, and moves its aliases and its endpoint's traffic between versions."""
