//go:build tools

// Package tools names the programs that the tests build from this module; go.mod and go.sum pin them.
package tools

import (
	_ "github.com/rhysd/actionlint/cmd/actionlint"
)
