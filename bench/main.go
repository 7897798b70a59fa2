//go:build linux && cgo

// Command bench measures a data node beside its peers: in one run, on one
// machine, in turns, so that what else the machine does happens to both sides
// and the ratios hold where the absolute figures do not.
//
//	go run ./bench [--quick] [--only REGEXP] [--csv-mb N] [--json] [--profile DIR]
//
// The node is `liop node`, built from cmd/liop and started as a process of its
// own, a new one for each group of rows, with no state from before. The client
// is in this process, and everything goes over loopback. The peers are what one
// would use otherwise: gRPC with mutual TLS 1.3 (a child of this process), bare
// Wasmtime, native Go, bare Ed25519. Figures that this run did not measure are
// marked with a star.
//
// The table goes to stdout, progress to stderr. A target that is missed is a
// "no" in the table and no failure. Exit codes: 0 all was measured, 1 something
// could not be, 2 wrong usage.
//
// It runs where a data node is supported: Linux, with cgo.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"syscall"

	_ "github.com/liop-project/liop/node/sandbox" // engines in this process start it again as their workers
)

const (
	// defaultCSV and quickCSV are the sizes of the CSV file in megabytes (10^6).
	defaultCSV = 100
	quickCSV   = 20
	maxCSV     = 10_000
)

func main() {
	maybeChild()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		os.Exit(2)
	}
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %s\n", err)
		os.Exit(1)
	}
}

// maybeChild makes this process one of bench's own children if it was started
// as one, and does not return then.
func maybeChild() {
	var err error
	switch os.Args[0] {
	case peerName:
		err = servePeer(os.Stdin, os.Stdout)
	case floodName:
		err = serveFlood(os.Stdin, os.Stdout)
	case lanesName:
		err = serveLanes(os.Args[1:], os.Stdin, os.Stdout)
	case agentsName:
		err = serveAgents(os.Args[1:], os.Stdin, os.Stdout)
	case neighboursName:
		err = serveNeighbours(os.Args[1:], os.Stdout)
	case nodeName:
		err = serveNode(os.Args[1:])
	default:
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", os.Args[0], err)
		os.Exit(1)
	}
	os.Exit(0)
}

// options are the command line.
type options struct {
	quick   bool
	only    *regexp.Regexp
	csvMB   int
	json    bool
	profile string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.BoolVar(&o.quick, "quick", false, "fewer repetitions: about two minutes, and noisier")
	only := f.String("only", "", "measure only the groups whose name matches this `regexp`: "+groupNames())
	f.IntVar(&o.csvMB, "csv-mb", 0, fmt.Sprintf("size of the CSV file in MB (default %d, with --quick %d)", defaultCSV, quickCSV))
	f.BoolVar(&o.json, "json", false, "print one JSON object instead of a table")
	f.StringVar(&o.profile, "profile", "", "write CPU profiles of client and nodes to this `folder`; the node is then a child of this binary")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	fail := func(format string, args ...any) (options, error) {
		err := fmt.Errorf(format, args...)
		fmt.Fprintf(stderr, "bench: error: %s\n", err)
		return o, err
	}
	if f.NArg() > 0 {
		return fail("unexpected argument %q", f.Arg(0))
	}
	if o.csvMB == 0 {
		o.csvMB = defaultCSV
		if o.quick {
			o.csvMB = quickCSV
		}
	}
	if o.csvMB < 1 || o.csvMB > maxCSV {
		return fail("--csv-mb: want 1 to %d", maxCSV)
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return fail("--only: %w", err)
	}
	return o, nil
}

// group is what is measured with one node: some rows of the table.
type group struct {
	name    string
	measure func(context.Context, *lab) ([]row, error)
}

// groups are all of them, in the order of the table.
func groups() []group {
	return []group{
		{"empty-call", emptyCall},
		{"warm-run", warmRun},
		{"throughput", throughput},
		{"cold-dial", coldDial},
		{"find", find},
		{"cold-module", coldModule},
		{"filter", filter},
		{"kill", kill},
		{"fair", fair},
		{"lanes", lanes},
		{"runner", runnerStart},
		{"receipt", receipts},
		{"footprint", footprint},
		{"agents", agents},
		{"neighbour", neighbour},
	}
}

func groupNames() string {
	s := ""
	for _, g := range groups() {
		if s != "" {
			s += ", "
		}
		s += g.name
	}
	return s
}

// run measures what o selects and prints it. A group that fails leaves an error
// in the table, and the others are measured all the same.
func run(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	l, err := newLab(o, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	stopProfile, err := profileClient(o.profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()

	t := &table{Machine: thisMachine(), Quick: o.quick, CSVMegabytes: o.csvMB}
	failed := 0
	for _, g := range groups() {
		if !o.only.MatchString(g.name) {
			continue
		}
		l.say("%s …", g.name)
		rows, err := g.measure(ctx, l)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err != nil {
			failed++
			l.say("%s: %s", g.name, err)
		}
		t.add(g.name, rows, err)
	}
	if len(t.Groups) == 0 {
		return fmt.Errorf("--only matches none of %s", groupNames())
	}
	t.Machine.LoadAfter = loadAverage()
	if o.json {
		err = t.printJSON(stdout)
	} else {
		err = t.print(stdout)
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d groups could not be measured", failed, len(t.Groups))
	}
	return err
}

// profileClient writes the CPU profile of this process to dir, unless dir is
// empty.
func profileClient(dir string) (stop func() error, err error) {
	if dir == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return profileTo(filepath.Join(dir, "client.pprof"))
}

func profileTo(path string) (stop func() error, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
