"""Turn what the author wrote, task lines and YAML, into tasks, or into every problem with it."""
