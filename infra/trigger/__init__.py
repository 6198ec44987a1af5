"""The service on Cloud Run that starts runs: when an upload is whole, and by the clock.

Its image holds this folder, `pipeline.runners.vertex_jobs` and what that needs, and neither TFX nor TensorFlow.
"""
