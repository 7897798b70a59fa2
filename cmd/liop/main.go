// Command liop pushes logic to data instead of pulling data to logic: it is the
// data node, the agent, and the owner's and issuer's tool.
//
// Answers and other data go to stdout, everything said about them to stderr.
// Exit codes: 0 an answer, 1 failed, 2 wrong usage, 3 denied, 4 a limit was
// hit, 5 verification failed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/liop-project/liop/core/fault"
	_ "github.com/liop-project/liop/node/sandbox" // a worker of the node is this binary, too
)

const (
	exitFailed     = 1
	exitUsage      = 2
	exitDenied     = 3
	exitLimit      = 4
	exitUnverified = 5
)

func main() { os.Exit(run()) }

// run is main without the exit, for the tests of the command line.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	began := false
	note(root, &began)
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if !began { // cobra refused flags, arguments or the command's name
		err = usage(c, err)
	}
	report(os.Stderr, err)
	return exitCode(err)
}

// note sets began when a command of c's tree begins to run.
func note(c *cobra.Command, began *bool) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*began = true
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		note(sub, began)
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "liop",
		Short:         "push logic to data, get a verified answer back",
		Long:          "liop runs small sandboxed WebAssembly next to data that cannot move, and returns only the answer, with a signed receipt.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddCommand(idCmd(), nodeCmd(), grantCmd(), memberCmd(), runCmd(), findCmd(), peerCmd(), verifyCmd(), attackCmd(), doctorCmd(),
		demoCmd(), versionCmd())
	return root
}

// usageError is about the command line itself.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(c *cobra.Command, err error) error {
	return &usageError{err, "usage: " + c.UseLine()}
}

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

func hint(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// report says what went wrong the way every command does: no capitals, no full
// stop, and a hint where there is one.
func report(w io.Writer, err error) {
	msg, help := err.Error(), ""
	var u *usageError
	var h *hinted
	if f, ok := fault.From(err); ok {
		msg, help = f.Message, f.Hint
		if f.Rule != "" {
			msg += fmt.Sprintf(" (%s; rule %s of the %s)", f.Code, f.Rule, f.Owner)
		}
	} else if errors.As(err, &u) {
		help = u.hint
	} else if errors.As(err, &h) {
		help = h.hint
	}
	fmt.Fprintf(w, "liop: error: %s\n", msg)
	if help != "" {
		fmt.Fprintf(w, "liop: hint: %s\n", help)
	}
}

func exitCode(err error) int {
	var u *usageError
	if errors.As(err, &u) {
		return exitUsage
	}
	f, ok := fault.From(err)
	if !ok {
		return exitFailed
	}
	switch f.Code {
	case fault.GrantInvalid, fault.MemberInvalid, fault.Denied, fault.SessionUnknown:
		return exitDenied
	case fault.LimitTime, fault.LimitMemory, fault.LimitOutput, fault.LimitFuel, fault.LimitStack, fault.LimitCompile, fault.LimitRuns:
		return exitLimit
	case fault.Unverified:
		return exitUnverified
	}
	return exitFailed
}

// missing turns "file not found" into an error that says how to make it.
func missing(err error, format string, args ...any) error {
	if errors.Is(err, fs.ErrNotExist) {
		return hint(err, format, args...)
	}
	return err
}
