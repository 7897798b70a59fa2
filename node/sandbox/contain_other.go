//go:build !linux

package sandbox

import (
	"runtime"

	"github.com/liop-project/liop/node/sandbox/wire"
)

var commonCalls, compilerCalls, runnerCalls []string

func enter(isolation) error { return nil }

func forbidNewCode(*wire.Containment) error { return nil }

// contain has nothing to apply here but the separate process itself.
func contain(isolation, containment) (*wire.Containment, error) {
	return &wire.Containment{
		Active: []string{"process"},
		Gaps: []*wire.Gap{{Feature: "platform", Reason: "workers cannot be locked down on " + runtime.GOOS,
			Mend: "run the data node on Linux"}},
	}, nil
}
