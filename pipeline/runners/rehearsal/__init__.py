"""Executes the JSON that is submitted to Vertex AI on this machine, without Docker: a process for each container."""
