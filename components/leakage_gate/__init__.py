"""LeakageGate: stops a run in which an image that is trained on is a test image as well."""
