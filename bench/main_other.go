//go:build !linux || !cgo

// Command bench measures a data node beside its peers. It runs where a data
// node is supported: Linux, with cgo.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: error: data nodes, and so their benchmarks, need Linux and cgo")
	os.Exit(1)
}
