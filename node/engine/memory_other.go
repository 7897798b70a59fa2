//go:build !linux

package engine

import "github.com/liop-project/liop/node/bounds"

func physicalMemory() uint64 { return bounds.AssumedMemory }
