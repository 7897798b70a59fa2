package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/filters"
)

const (
	maxModuleFile = 64 << 20 // bytes; the node's limit is smaller
	maxInputFile  = 64 << 20
	grantFile     = "grant.jwt" // in the home folder
)

type runFlags struct {
	agentFlags
	grants, datasets, inputs []string
	receipt, pick            string
	json                     bool
	timeout                  time.Duration
	retries                  int

	all              bool
	reduce           string
	reduceArgs       []string
	minNodes, atOnce int
}

func runCmd() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run NODE FILTER.wasm [--home DIR] [--grant FILE]... [--dataset NAME]... [--input K=V|K=@FILE]... [-- ARGS...]",
		Short: "push a filter to a node and print its verified answer",
		Long: `Push a filter to a node and print its verified answer.

NODE is a multiaddr that ends in /p2p/PEER, as liop node prints it; or a peer id,
or @NAME for a node that serves the dataset NAME: these two are looked up in the
mesh, which needs --bootstrap or its like. FILTER is a .wasm file, or the name of
a ready filter: ` + strings.Join(filters.ReadyNames(), ", ") + `.

With --all, the filter runs on every node that serves the dataset, and every
node's answer is printed after a line with its id; a node that failed is named on
stderr, and is an error unless --min-nodes says that fewer are enough. With
--reduce, a second filter makes one answer of them: it runs on this machine, in
the same sandbox, and finds each node's answer as the input of the node's id.

The answer goes to stdout exactly as it came, everything else to stderr. A node
of a closed mesh is shown HOME/member.jwt, if that is there.`,
		Args: func(c *cobra.Command, args []string) error {
			own := len(args)
			if dash := c.ArgsLenAtDash(); dash >= 0 {
				own = dash
			}
			if own != 2 {
				return fmt.Errorf("want NODE and FILTER.wasm, then -- before the filter's own arguments; got %d", own)
			}
			return nil
		},
	}
	fs := c.Flags()
	f.register(c)
	fs.StringArrayVar(&f.grants, "grant", nil, "file with one or more grants (default HOME/"+grantFile+")")
	fs.StringArrayVar(&f.datasets, "dataset", nil, "dataset to open (default: that of @NAME, else all that the grant names)")
	fs.StringVar(&f.pick, "pick", string(client.First), "of several nodes with @NAME: \"first\" that accepts, or \"nearest\" by round trip")
	fs.BoolVar(&f.all, "all", false, "ask every node that serves @NAME")
	fs.StringVar(&f.reduce, "reduce", "", "with --all: filter that makes one answer of all")
	fs.StringArrayVar(&f.reduceArgs, "reduce-arg", nil, "argument of the --reduce filter")
	fs.IntVar(&f.minNodes, "min-nodes", 0, "with --all: how many nodes must answer (default: every one that is found)")
	fs.IntVar(&f.atOnce, "parallel", client.DefaultParallel, "with --all: how many nodes are asked at once, 1 to 256")
	fs.StringArrayVar(&f.inputs, "input", nil, "input K with value V, or with the content of FILE")
	fs.StringVar(&f.receipt, "receipt", "", "write the receipt to this file; with --all, each node's to a file in this folder")
	fs.BoolVar(&f.json, "json", false, "print one JSON object: answer, receipt, limits, stats")
	fs.DurationVar(&f.timeout, "timeout", 0, "give up after this time (default: wait for the node's limits)")
	fs.IntVar(&f.retries, "retries", client.DefaultRetries, "how often to wait and try again when the node is busy, 0 to 1000")
	c.RunE = func(c *cobra.Command, args []string) error { return runFilter(c, f, args[0], args[1], args[2:]) }
	return c
}

// validate checks what no other place does.
func (f *runFlags) validate(c *cobra.Command, node string) error {
	switch {
	case f.retries < 0 || f.retries > 1000:
		return usage(c, fmt.Errorf("--retries %d is not 0 to 1000", f.retries))
	case f.pick != string(client.First) && f.pick != string(client.Nearest):
		return usage(c, fmt.Errorf("--pick %q is neither %q nor %q", f.pick, client.First, client.Nearest))
	case f.all && !strings.HasPrefix(node, "@"):
		return usage(c, fmt.Errorf("--all wants @NAME and not %s: it asks every node that serves a dataset", node))
	case f.all && c.Flags().Changed("pick"):
		return usage(c, errors.New("--pick chooses one node, and --all asks every one"))
	case !f.all && (f.reduce != "" || len(f.reduceArgs) > 0 || f.minNodes != 0 || c.Flags().Changed("parallel")):
		return usage(c, errors.New("--reduce, --reduce-arg, --min-nodes and --parallel go with --all"))
	case f.reduce == "" && len(f.reduceArgs) > 0:
		return usage(c, errors.New("--reduce-arg goes with --reduce"))
	case f.minNodes < 0 || f.minNodes > client.MaxProviders:
		return usage(c, fmt.Errorf("--min-nodes %d is not 0 to %d", f.minNodes, client.MaxProviders))
	case f.atOnce < 1 || f.atOnce > client.MaxProviders:
		return usage(c, fmt.Errorf("--parallel %d is not 1 to %d", f.atOnce, client.MaxProviders))
	}
	return nil
}

func runFilter(c *cobra.Command, f runFlags, node, filter string, args []string) error {
	if err := f.validate(c, node); err != nil {
		return err
	}
	me, err := f.load(c)
	if err != nil {
		return err
	}
	defer me.leave()
	grants, err := me.readGrants(f.grants)
	if err != nil {
		return err
	}
	module, err := readFilter(filter)
	if err != nil {
		return err
	}
	inputs, err := readInputs(c, f.inputs)
	if err != nil {
		return err
	}
	ctx, cancel := contextFor(c, f.timeout)
	defer cancel()
	p := newProgress(os.Stderr)
	defer p.stop()
	p.phase(client.Dialing, 0)
	if err := me.reach(ctx, node); err != nil {
		return timedOut(ctx, f, err)
	}
	o := me.options(grants)
	o.Datasets, o.Progress, o.Retries, o.Pick = f.datasets, p.phase, retries(f.retries), client.Pick(f.pick)
	r := client.Request{Module: module, Args: args, Inputs: inputs}
	if f.all {
		return runAll(ctx, c, f, me, strings.TrimPrefix(node, "@"), r, o, p)
	}
	cl, err := client.Dial(ctx, node, o)
	if err != nil {
		return timedOut(ctx, f, err)
	}
	defer cl.Close()
	a, err := cl.Run(ctx, r)
	p.stop()
	if err != nil {
		return timedOut(ctx, f, err)
	}
	if f.receipt != "" {
		if err := os.WriteFile(f.receipt, []byte(a.Receipt+"\n"), 0o644); err != nil {
			return err
		}
	}
	if f.json {
		return printJSON(c.OutOrStdout(), a)
	}
	if _, err := c.OutOrStdout().Write(a.Bytes); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "liop: %s answer, receipt verified (%s by %s)\n",
		humanize.IBytes(uint64(len(a.Bytes))), a.Claim.Assurance, a.Claim.Node)
	fmt.Fprintf(os.Stderr, "liop: sent %s, received %s, %s of data stayed at the node\n",
		humanize.IBytes(cl.Conn().BytesSent()), humanize.IBytes(cl.Conn().BytesReceived()), humanize.IBytes(a.Stats.GetDatasetBytes()))
	return nil
}

// retries is the flag in the client's terms, where zero is the default.
func retries(flag int) int {
	if flag == 0 {
		return -1
	}
	return flag
}

func timedOut(ctx context.Context, f runFlags, err error) error {
	// The node keeps the same deadline, and may notice it first.
	late := ctx.Err() == nil && errors.Is(err, &fault.Error{Code: fault.Cancelled})
	if f.timeout > 0 && (late || errors.Is(ctx.Err(), context.DeadlineExceeded)) {
		return hint(fmt.Errorf("no answer within %s", f.timeout), "the run was cancelled; raise --timeout")
	}
	if ctx.Err() != nil {
		return errors.New("interrupted; the run was cancelled")
	}
	return err
}

// readFilter reads a .wasm file, or a ready filter by its name.
func readFilter(name string) ([]byte, error) {
	if wasm, ok := filters.Ready(name); ok {
		if _, err := os.Stat(name); err != nil {
			return wasm, nil
		}
	}
	wasm, err := readFile(name, maxModuleFile)
	return wasm, missing(err, "name a .wasm file, or one of the ready filters: %s", strings.Join(filters.ReadyNames(), ", "))
}

func readInputs(c *cobra.Command, flags []string) (map[string][]byte, error) {
	inputs := map[string][]byte{}
	for _, in := range flags {
		k, v, ok := strings.Cut(in, "=")
		if !ok || k == "" {
			return nil, usage(c, fmt.Errorf("--input %q is neither K=V nor K=@FILE", in))
		}
		if _, twice := inputs[k]; twice {
			return nil, usage(c, fmt.Errorf("--input %s is there twice", k))
		}
		inputs[k] = []byte(v)
		if path, isFile := strings.CutPrefix(v, "@"); isFile {
			b, err := readFile(path, maxInputFile)
			if err != nil {
				return nil, fmt.Errorf("--input %s: %w", k, err)
			}
			inputs[k] = b
		}
	}
	return inputs, nil
}

// readFile reads a file of at most limit bytes, or stdin for "-".
func readFile(path string, limit int64) ([]byte, error) {
	in := os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: larger than %s", path, humanize.IBytes(uint64(limit)))
	}
	return b, nil
}

// printJSON prints an answer as one object. answer is a string if it is UTF-8;
// otherwise it is base64, and answer_encoding says so.
func printJSON(w io.Writer, a *client.Answer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(newAnswerJSON(a))
}

type answerJSON struct {
	textJSON
	Receipt string          `json:"receipt"`
	Claim   any             `json:"claim"`
	Limits  json.RawMessage `json:"limits"`
	Stats   json.RawMessage `json:"stats"`
}

type textJSON struct {
	Answer   string `json:"answer"`
	Encoding string `json:"answer_encoding"`
}

func newTextJSON(b []byte) textJSON {
	if !utf8.Valid(b) {
		return textJSON{base64.StdEncoding.EncodeToString(b), "base64"}
	}
	return textJSON{string(b), "utf-8"}
}

func newAnswerJSON(a *client.Answer) *answerJSON {
	fields := func(m proto.Message) json.RawMessage {
		b, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
		if err != nil {
			return json.RawMessage("null")
		}
		return b
	}
	return &answerJSON{newTextJSON(a.Bytes), a.Receipt, a.Claim, fields(a.Limits), fields(a.Stats)}
}
