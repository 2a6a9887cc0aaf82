"""Hear of changes in the cluster through `kubectl get --watch`."""
