//go:build !linux

package netlab

import (
	"fmt"
	"os/exec"
	"runtime"
)

// Lab cannot be made here.
type Lab struct{ fail func(error) }

// Namespace cannot be made here.
type Namespace struct{}

// Wire cannot be made here.
type Wire struct{}

// Open returns ErrUnavailable.
func Open() (*Lab, error) {
	return nil, fmt.Errorf("%w: it takes Linux, this is %s", ErrUnavailable, runtime.GOOS)
}

// The methods exist so that tests compile; without Open there is nothing to call
// them on.

func (*Lab) Close()                                                  {}
func (*Lab) Namespace() *Namespace                                   { return nil }
func (*Lab) Join(*Namespace, string, *Namespace, string, Link) *Wire { return nil }
func (*Namespace) Route(string, string)                              {}
func (*Namespace) Forward()                                          {}
func (*Namespace) Masquerade(*Wire, NAT)                             {}
func (*Namespace) Do(func() error) error                             { return ErrUnavailable }
func (*Namespace) Start(*exec.Cmd) error                             { return ErrUnavailable }
func (*Wire) Cut()                                                   {}
func (*Wire) Mend()                                                  {}
func (*Wire) Set(Link)                                               {}
