"""Tell people and machines what every task is doing: log lines, status document, verdicts, metrics."""
