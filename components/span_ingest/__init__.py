"""SpanIngest: of a source that grows, only what is new; of what was ingested, the window that is pretrained on."""
