"""What we know of kubectl: its command line, what it says on stderr, and what it needs around it."""
