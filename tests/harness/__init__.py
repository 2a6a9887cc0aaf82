"""What the tests, the checks and the demo stand on: pinned tools, a real control plane, real processes."""
