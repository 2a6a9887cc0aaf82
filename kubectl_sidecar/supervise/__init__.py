"""Keep the outputs up to date: one worker a task, and one supervisor that owns them all."""
