"""The history across runs into one output: a record of each, its report, and a page about all of them."""
