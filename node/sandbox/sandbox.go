// Package sandbox is the worker side of the engine: the processes in which
// modules are compiled and run. It is the only package that imports Wasmtime.
//
// A worker is this same binary, started again under another name with an empty
// environment, one end of a socket pair as descriptor 3, and nothing else. It
// holds no key and no token. A compiler gets one module and no data; a runner
// binds itself to one compiled module and one set of directories, locks itself
// down to exactly these, and runs that module as often as the node asks.
//
// Nothing here is trusted by the node: the pinned engine has known defects
// (docs/THREATS.md), so the boundary is the process, not the engine.
package sandbox

import (
	"fmt"
	"os"
	"runtime"

	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/sandbox/wire"
)

// A process that was started as a worker is one from here on, and never gets to
// main: importing this package is all that a program, or the TestMain of a
// test, must do to be able to run modules.
//
// It happens while packages are initialised, and not in main, because most of
// the packages that the node is made of come after this one in the order of
// initialisation, and a worker needs none of them: it starts in two thirds of
// the time.
func init() {
	if !wire.IsWorker(os.Args[0]) {
		return
	}
	work := map[string]func(*wire.Conn, isolation) error{
		wire.CompilerName:  compiler,
		wire.RunnerName:    runner,
		wire.RehearsalName: rehearse,
	}[os.Args[0]]
	// A worker does one thing at a time; idle Ps would only make the runtime
	// wake threads to look for more.
	runtime.GOMAXPROCS(1)
	iso := parseIsolation(os.Args)
	err := enter(iso)
	if err == nil {
		err = work(socket(), iso)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err) // the node keeps the first lines for its own log
		os.Exit(1)
	}
	os.Exit(0)
}

// socket is descriptor 3, which the node put there. It stays in blocking mode:
// a worker has nothing else to wait for.
func socket() *wire.Conn { return wire.NewConn(os.NewFile(3, "node")) }

// rehearse does what a worker does to itself before a module comes near, so
// that the node knows whether this machine lets it.
func rehearse(c *wire.Conn, iso isolation) error {
	contained, err := contain(iso, containment{calls: words(commonCalls), memory: bounds.HostMemory})
	if err != nil {
		return err
	}
	return c.Send(&wire.Bound{Ok: true, Containment: contained}, nil)
}
