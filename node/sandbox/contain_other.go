//go:build !linux

package sandbox

import (
	"runtime"

	"github.com/liop-project/liop/node/sandbox/wire"
)

// contain has nothing to apply here but the separate process itself.
func contain(containment) (*wire.Containment, error) {
	return &wire.Containment{
		Active:  []string{"process"},
		Missing: []string{"landlock, seccomp and rlimits: not on " + runtime.GOOS},
	}, nil
}
