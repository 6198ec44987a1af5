"""What RunSummary and the runners agree on."""

# What a runner that is not Vertex AI leaves of a run, in Vertex AI's own form, in a folder of the run's name.
JOB_FILE = "job.json"
