package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/catalog"
	"github.com/liop-project/liop/mesh/kad"
)

func findCmd() *cobra.Command {
	var f agentFlags
	c := &cobra.Command{
		Use:   "find NAME|PATTERN [--bootstrap MULTIADDR]... [--json]",
		Short: "find the nodes that serve a dataset",
		Long: `Find the nodes that serve a dataset, or datasets whose names match a pattern:
* is any text, ? any character.

Each is printed as it is found: name, rough size, round trip, node, who vouches
for it, and the title that its owner gave it. What a node says of itself is
proved by nothing but its vouchers.

With --json, each is one JSON object on a line. The exit code is 1 if none was
found.`,
		Args: cobra.ExactArgs(1),
	}
	f.register(c)
	asJSON := c.Flags().Bool("json", false, "print one JSON object per line")
	timeout := c.Flags().Duration("timeout", 30*time.Second, "stop looking after this time")
	c.RunE = func(c *cobra.Command, args []string) error {
		me, err := f.load(c)
		if err != nil {
			return err
		}
		defer me.leave()
		ctx, cancel := contextFor(c, *timeout)
		defer cancel()
		if err := me.enter(ctx); err != nil {
			return err
		}
		names := map[peer.ID]string{}
		for scope, id := range me.join.Owners {
			names[id] = scope
		}
		found := 0
		for p, err := range me.mesh.Find(ctx, args[0]) {
			if err != nil {
				return stopped(ctx, err, *timeout, found)
			}
			found++
			if *asJSON {
				err = json.NewEncoder(c.OutOrStdout()).Encode(newProviderJSON(p))
			} else {
				err = printProvider(c.OutOrStdout(), p, names)
			}
			if err != nil {
				return err
			}
		}
		if found == 0 {
			return hint(fmt.Errorf("nobody in the mesh announces %q", args[0]), "see who announces what with: liop find '*'")
		}
		return nil
	}
	return c
}

func printProvider(w io.Writer, p *client.Provider, names map[peer.ID]string) error {
	rtt, owner := "no answer", "-"
	if p.RTT > 0 {
		rtt = p.RTT.Round(10 * time.Microsecond).String()
	}
	if len(p.Owners) > 0 {
		var all []string
		for _, o := range p.Owners {
			if name, ok := names[o]; ok {
				all = append(all, name)
			} else {
				all = append(all, o.String())
			}
		}
		owner = strings.Join(all, ",")
	}
	size := "-"
	if p.Record != nil {
		size = "~" + strings.ReplaceAll(humanize.IBytes(p.Dataset.Bytes), " ", "")
	}
	_, err := fmt.Fprintf(w, "%-24s %9s %10s  %s  %s  %s\n", p.Dataset.Name, size, rtt, p.Node, owner, p.Dataset.Title)
	return err
}

// providerJSON is one line of find --json.
type providerJSON struct {
	catalog.Dataset
	Node      string   `json:"node"`
	Addrs     []string `json:"addrs"`
	Realm     string   `json:"realm,omitempty"`
	Assurance []string `json:"assurance"`
	Owners    []string `json:"owners"`
	Expires   int64    `json:"exp,omitempty"`
	RTT       float64  `json:"rtt_ms,omitempty"`
	Error     any      `json:"error,omitempty"`
}

func newProviderJSON(p *client.Provider) providerJSON {
	out := providerJSON{Dataset: p.Dataset, Node: p.Node.String(), Addrs: []string{}, Owners: []string{}, Assurance: []string{},
		RTT: millis(p.RTT)}
	for _, a := range p.Addrs {
		out.Addrs = append(out.Addrs, a.String())
	}
	for _, o := range p.Owners {
		out.Owners = append(out.Owners, o.String())
	}
	if out.Logic == nil {
		out.Logic = []string{}
	}
	if p.Record != nil {
		out.Realm, out.Assurance, out.Expires = p.Record.Realm, p.Record.Assurance, p.Record.Expires
	}
	if p.Err != nil {
		out.Error = newErrorJSON(p.Err)
	}
	return out
}

func peerCmd() *cobra.Command {
	c := &cobra.Command{Use: "peer", Short: "look at the mesh: who is there, where, how far", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(peerLsCmd(), peerPingCmd(), peerAddrsCmd())
	return c
}

func peerLsCmd() *cobra.Command {
	var f agentFlags
	c := &cobra.Command{Use: "ls [--bootstrap MULTIADDR]... [--json]", Short: "list the peers by which this agent finds others", Args: cobra.NoArgs}
	f.register(c)
	asJSON := c.Flags().Bool("json", false, "print one JSON object per line")
	c.RunE = func(c *cobra.Command, _ []string) error {
		me, err := f.load(c)
		if err != nil {
			return err
		}
		defer me.leave()
		if err := me.enter(c.Context()); err != nil {
			return err
		}
		for _, p := range me.mesh.Peers() {
			if err := printPeer(c.OutOrStdout(), p, *asJSON); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

func printPeer(w io.Writer, p kad.Peer, asJSON bool) error {
	addrs := []string{}
	for _, a := range p.Addrs {
		addrs = append(addrs, a.String()+"/p2p/"+p.ID.String())
	}
	if asJSON {
		return json.NewEncoder(w).Encode(struct {
			Node      string   `json:"node"`
			Connected bool     `json:"connected"`
			RTT       float64  `json:"rtt_ms,omitempty"`
			Addrs     []string `json:"addrs"`
		}{p.ID.String(), p.Connected, millis(p.Latency), addrs})
	}
	state := "known"
	if p.Connected {
		state = "connected"
	}
	_, err := fmt.Fprintf(w, "%s  %-9s  %s\n", p.ID, state, strings.Join(addrs, " "))
	return err
}

func peerPingCmd() *cobra.Command {
	var f agentFlags
	c := &cobra.Command{
		Use:   "ping NODE [--count N] [--bootstrap MULTIADDR]...",
		Short: "measure round trips to a node: a multiaddr, a peer id, or every one that serves @NAME",
		Args:  cobra.ExactArgs(1),
	}
	f.register(c)
	count := c.Flags().Int("count", 3, "how often, 1 to 1000")
	asJSON := c.Flags().Bool("json", false, "print one JSON object per line")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *count < 1 || *count > 1000 {
			return usage(c, fmt.Errorf("--count %d is not 1 to 1000", *count))
		}
		return eachNode(c, &f, args[0], func(me *agent, p peer.AddrInfo) error {
			for range *count {
				rtt, err := me.mesh.Ping(c.Context(), p)
				if err != nil {
					return err
				}
				if *asJSON {
					err = json.NewEncoder(c.OutOrStdout()).Encode(struct {
						Node string  `json:"node"`
						RTT  float64 `json:"rtt_ms"`
					}{p.ID.String(), millis(rtt)})
				} else {
					_, err = fmt.Fprintln(c.OutOrStdout(), p.ID, rtt.Round(time.Microsecond))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return c
}

func peerAddrsCmd() *cobra.Command {
	var f agentFlags
	c := &cobra.Command{
		Use:   "addrs NODE [--bootstrap MULTIADDR]...",
		Short: "print the addresses of a node: a peer id, or every one that serves @NAME",
		Args:  cobra.ExactArgs(1),
	}
	f.register(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return eachNode(c, &f, args[0], func(_ *agent, p peer.AddrInfo) error {
			for _, a := range p.Addrs {
				if _, err := fmt.Fprintf(c.OutOrStdout(), "%s/p2p/%s\n", a, p.ID); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return c
}

// eachNode finds what NODE means, and does f for it: for several, until the last
// one, and then it returns the first error.
func eachNode(c *cobra.Command, f *agentFlags, node string, do func(*agent, peer.AddrInfo) error) error {
	me, err := f.load(c)
	if err != nil {
		return err
	}
	defer me.leave()
	if err := me.reach(c.Context(), node); err != nil {
		return err
	}
	if me.mesh == nil {
		if err := me.alone(); err != nil {
			return err
		}
	}
	name, byName := strings.CutPrefix(node, "@")
	if !byName {
		p, err := me.mesh.Locate(c.Context(), node)
		if err != nil {
			return err
		}
		return do(me, p)
	}
	var first error
	found := 0
	for p, err := range me.mesh.Find(c.Context(), name) {
		if err != nil {
			return err
		}
		found++
		if err := do(me, p.Info()); err != nil {
			fmt.Fprintf(os.Stderr, "liop: %s: error: %v\n", p.Node, err)
			first = cmp.Or(first, err)
		}
	}
	if found == 0 {
		return hint(fmt.Errorf("nobody in the mesh announces %q", name), "see who announces what with: liop find '*'")
	}
	return first
}

// millis is d in milliseconds, for JSON.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
