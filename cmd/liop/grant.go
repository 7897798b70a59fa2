package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/identity"
)

// maxGrantFile bounds a file with a grant, in bytes.
const maxGrantFile = 16 << 10

func grantCmd() *cobra.Command {
	c := &cobra.Command{Use: "grant", Short: "issue and inspect grants: who may ask what, within which limits", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(grantIssueCmd(), grantShowCmd())
	return c
}

// byteSize is a flag such as 64MiB.
type byteSize uint64

func (b *byteSize) String() string { return humanize.IBytes(uint64(*b)) }
func (b *byteSize) Type() string   { return "size" }
func (b *byteSize) Set(s string) error {
	n, err := humanize.ParseBytes(s)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is not a size such as 64MiB", s)
	}
	*b = byteSize(n)
	return nil
}

func grantIssueCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "issue [--home DIR] --for PEER --audience PEER|REALM --dataset NAME...",
		Short: "sign a grant with the identity of this home",
		Long: `Sign a grant with the identity of this home.

The grant lets one agent (--for) run logic on datasets of one node, or of all
nodes of a realm (--audience), if they trust this identity as an issuer.`,
		Args: cobra.NoArgs,
	}
	home := homeFlag(c)
	holder := c.Flags().String("for", "", "peer id of the agent")
	audience := c.Flags().String("audience", "", "peer id of the node, or the realm of an operator's nodes")
	datasets := c.Flags().StringArray("dataset", nil, "dataset, or prefix/* for all below it")
	memory, output := byteSize(64<<20), byteSize(64<<10)
	c.Flags().Var(&memory, "memory", "memory of one run")
	c.Flags().Var(&output, "output", "answer of one run")
	wall := c.Flags().Duration("time", 5*time.Second, "wall time of one run")
	fuel := c.Flags().Uint64("fuel", 0, "instructions of one run (default: not counted, which is faster)")
	runs := c.Flags().Uint64("runs", 0, "how many runs in all (default: what the node allows)")
	concurrency := c.Flags().Uint32("concurrency", 0, "runs at the same time (default: what the node allows)")
	expires := c.Flags().Duration("expires", time.Hour, "how long the grant is good for, at most 24h")
	out := c.Flags().String("out", "", "write the grant to this file instead of stdout")
	for _, f := range []string{"for", "audience", "dataset"} {
		c.MarkFlagRequired(f)
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		agent, err := identity.ParseID(*holder)
		if err != nil {
			return usage(c, fmt.Errorf("--for: %w", err))
		}
		spec := grant.Spec{Holder: agent, Audience: *audience, Datasets: *datasets, Lifetime: *expires,
			Limits: grant.Limits{MemoryBytes: uint64(memory), WallMS: uint64(wall.Milliseconds()), OutputBytes: uint64(output),
				Runs: *runs, Concurrency: *concurrency, Fuel: *fuel}}
		if *wall < time.Millisecond {
			return usage(c, fmt.Errorf("--time %s is less than a millisecond", *wall))
		}
		if err := spec.Validate(); err != nil {
			return usage(c, err)
		}
		_, id, err := loadIdentity(*home)
		if err != nil {
			return err
		}
		chain, err := grant.Issue(id.Ed25519(), spec, time.Now())
		if err != nil {
			return err
		}
		if *out == "" {
			_, err := fmt.Fprintln(c.OutOrStdout(), chain)
			return err
		}
		return os.WriteFile(*out, []byte(chain+"\n"), 0o600)
	}
	return c
}

func grantShowCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "show FILE",
		Short: "say in words what a grant allows (- for stdin)",
		Args:  cobra.ExactArgs(1),
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		chain, err := readToken(args[0], maxGrantFile)
		if err != nil {
			return err
		}
		g, err := grant.Inspect(chain)
		if err != nil {
			return err
		}
		for _, line := range g.Words() {
			fmt.Fprintln(c.OutOrStdout(), line)
		}
		return nil
	}
	return c
}

// readToken reads a small text file, or stdin for "-", without the white space
// around its content.
func readToken(path string, limit int64) (string, error) {
	b, err := readFile(path, limit)
	return strings.TrimSpace(string(b)), err
}
