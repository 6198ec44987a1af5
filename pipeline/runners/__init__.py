"""Where the one pipeline runs."""
