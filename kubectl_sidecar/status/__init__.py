"""Tell people and machines what every task is doing: log lines, the status document, the probes' verdicts."""
