package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/filters"
)

const (
	maxModuleFile = 64 << 20 // bytes; the node's limit is smaller
	maxInputFile  = 64 << 20
	grantFile     = "grant.jwt" // in the home folder
)

type runFlags struct {
	home, grant, receipt string
	datasets, inputs     []string
	json                 bool
	timeout              time.Duration
	retries              int
}

func runCmd() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run NODE FILTER.wasm [--home DIR] [--grant FILE] [--dataset NAME]... [--input K=V|K=@FILE]... [-- ARGS...]",
		Short: "push a filter to a node and print its verified answer",
		Long: `Push a filter to a node and print its verified answer.

NODE is a multiaddr that ends in /p2p/PEER, as liop node prints it. FILTER is a
.wasm file, or the name of a ready filter: ` + strings.Join(filters.ReadyNames(), ", ") + `.

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
	fs.StringVar(&f.home, "home", "", "folder with the identity (default $LIOP_HOME, else $XDG_CONFIG_HOME/liop)")
	fs.StringVar(&f.grant, "grant", "", "file with the grant (default HOME/"+grantFile+")")
	fs.StringArrayVar(&f.datasets, "dataset", nil, "dataset to open (default: all that the grant names)")
	fs.StringArrayVar(&f.inputs, "input", nil, "input K with value V, or with the content of FILE")
	fs.StringVar(&f.receipt, "receipt", "", "write the receipt to this file")
	fs.BoolVar(&f.json, "json", false, "print one JSON object: answer, receipt, limits, stats")
	fs.DurationVar(&f.timeout, "timeout", 0, "give up after this time (default: wait for the node's limits)")
	fs.IntVar(&f.retries, "retries", client.DefaultRetries, "how often to wait and try again when the node is busy, 0 to 1000")
	c.RunE = func(c *cobra.Command, args []string) error { return runFilter(c, f, args[0], args[1], args[2:]) }
	return c
}

func runFilter(c *cobra.Command, f runFlags, node, filter string, args []string) error {
	if f.retries < 0 || f.retries > 1000 {
		return usage(c, fmt.Errorf("--retries %d is not 0 to 1000", f.retries))
	}
	home, id, err := loadIdentity(f.home)
	if err != nil {
		return err
	}
	if f.grant == "" {
		f.grant = filepath.Join(home, grantFile)
	}
	chain, err := readToken(f.grant, maxGrantFile)
	if err != nil {
		return missing(err, "ask the owner of the data for a grant for %s, and name its file with --grant", id.ID())
	}
	token, err := memberToken(home)
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
	ctx := c.Context()
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}

	p := newProgress(os.Stderr)
	defer p.stop()
	cl, err := client.Dial(ctx, node, client.Options{Identity: id, Grant: chain, Member: token, Datasets: f.datasets, Progress: p.phase,
		Retries: retries(f.retries)})
	if err != nil {
		return timedOut(ctx, f, err)
	}
	defer cl.Close()
	a, err := cl.Run(ctx, client.Request{Module: module, Args: args, Inputs: inputs})
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
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && f.timeout > 0 {
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
	fields := func(m proto.Message) json.RawMessage {
		b, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
		if err != nil {
			return json.RawMessage("null")
		}
		return b
	}
	out := struct {
		Answer   string          `json:"answer"`
		Encoding string          `json:"answer_encoding"`
		Receipt  string          `json:"receipt"`
		Claim    any             `json:"claim"`
		Limits   json.RawMessage `json:"limits"`
		Stats    json.RawMessage `json:"stats"`
	}{string(a.Bytes), "utf-8", a.Receipt, a.Claim, fields(a.Limits), fields(a.Stats)}
	if !utf8.Valid(a.Bytes) {
		out.Answer, out.Encoding = base64.StdEncoding.EncodeToString(a.Bytes), "base64"
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}
