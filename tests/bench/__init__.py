"""What kubectl-sidecar costs, as ratios against what it replaces, measured in turn in one run."""
