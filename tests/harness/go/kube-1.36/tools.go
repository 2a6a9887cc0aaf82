//go:build tools

// Package tools names the oldest API server that the pinned kubectl supports; go.mod and go.sum pin it.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
)
