"""The command line: one file per verb; the only place that parses, prints and configures logging."""
