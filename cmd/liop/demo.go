package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/filters"
	"github.com/liop-project/liop/node/sandbox/testdata/hostile"
)

//go:embed demo/birdstrikes.csv.gz
var birdstrikes []byte

// demoTime bounds the whole demo.
const demoTime = 2 * time.Minute

func demoCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "the main job, end to end, on this machine: a node, a grant, a filter, a verified answer",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), demoTime)
			defer cancel()
			d := &demo{out: c.OutOrStdout()}
			defer d.close()
			return d.run(ctx)
		},
	}
}

// demo plays all roles: the owner with the data node, the issuer (here the
// owner, too), and the agent.
type demo struct {
	out   io.Writer
	dir   string
	node  *exec.Cmd
	agent *identity.Identity
	owner *identity.Identity
	addr  string
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *demo) run(ctx context.Context) error {
	if err := d.prepare(); err != nil {
		return err
	}
	if err := d.startNode(ctx); err != nil {
		return err
	}
	chain, err := d.grant("birdstrikes", 5*time.Second)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, d.addr, client.Options{Identity: d.agent, Grant: chain})
	if err != nil {
		return err
	}
	defer c.Close()
	pq := "the key exchange is not post-quantum"
	if c.Conn().PostQuantum() {
		pq = "post-quantum key exchange"
	}
	d.say("agent      connected by %s (%s)", strings.ToUpper(c.Conn().Transport()), pq)
	if err := d.ask(ctx, c); err != nil {
		return err
	}
	if err := d.refusals(ctx); err != nil {
		return err
	}
	d.byHand()
	return nil
}

func (d *demo) prepare() (err error) {
	if d.dir, err = os.MkdirTemp("", "liop-demo-"); err != nil {
		return err
	}
	if d.owner, err = identity.Create(filepath.Join(d.dir, "owner")); err != nil {
		return err
	}
	if d.agent, err = identity.Create(filepath.Join(d.dir, "agent")); err != nil {
		return err
	}
	data := filepath.Join(d.dir, "birdstrikes")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	zr, err := gzip.NewReader(bytes.NewReader(birdstrikes))
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(data, "birdstrikes.csv"))
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(f, zr)
	if err != nil {
		return err
	}
	d.say("data       birdstrikes: FAA wildlife strikes 1990-2002, 10,000 rows, %s", humanize.IBytes(uint64(n)))
	return f.Close()
}

// startNode runs `liop node` as a process of its own and learns its address.
func (d *demo) startNode(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(d.dir, "node.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	d.node = exec.Command(exe, "node", "--home", filepath.Join(d.dir, "owner"),
		"--data", "birdstrikes="+filepath.Join(d.dir, "birdstrikes"), "--listen", "/ip4/127.0.0.1/udp/0/quic-v1")
	d.node.Stderr = log
	out, err := d.node.StdoutPipe()
	if err != nil {
		return err
	}
	if err := d.node.Start(); err != nil {
		d.node = nil
		return err
	}
	line := make(chan string, 1)
	go func() {
		s, _ := bufio.NewReader(out).ReadString('\n')
		line <- strings.TrimSpace(s)
	}()
	select {
	case d.addr = <-line:
	case <-ctx.Done():
		return ctx.Err()
	}
	if d.addr == "" {
		words, _ := os.ReadFile(log.Name())
		return fmt.Errorf("the node did not start: %s", bytes.TrimSpace(words))
	}
	d.say("node       process %d at %s", d.node.Process.Pid, d.addr)
	return nil
}

// close stops the node and removes everything.
func (d *demo) close() {
	if d.node != nil {
		d.node.Process.Signal(syscall.SIGTERM)
		stopped := time.AfterFunc(10*time.Second, func() { d.node.Process.Kill() })
		d.node.Wait()
		stopped.Stop()
	}
	if d.dir != "" {
		os.RemoveAll(d.dir)
	}
}

// grant is signed by the owner, whom the node trusts, for the agent alone.
func (d *demo) grant(dataset string, wall time.Duration) (string, error) {
	return grant.Issue(d.owner.Ed25519(), grant.Spec{
		Holder: d.agent.ID(), Audience: peer.ID(d.owner.ID()).String(), Datasets: []string{dataset},
		Limits: grant.Limits{MemoryBytes: 64 << 20, WallMS: uint64(wall.Milliseconds()), OutputBytes: 64 << 10},
	}, time.Now())
}

func (d *demo) ask(ctx context.Context, c *client.Client) error {
	wasm, _ := filters.Ready("stats")
	args := []string{"--by", "Phase of flight", "--column", "Cost Total $", "--sort", "sum"}
	start := time.Now()
	a, err := c.Run(ctx, client.Request{Module: wasm, Args: args})
	if err != nil {
		return err
	}
	d.say("agent      pushed the filter stats (%s of WebAssembly); answer after %s", humanize.IBytes(uint64(a.Pushed)), time.Since(start).Round(time.Millisecond))
	d.say("\nquestion   what did strikes cost, by phase of flight? (stats %q)\n", args)
	if err := d.table(a.Bytes); err != nil {
		return err
	}
	d.say("\nreceipt    verified:")
	for _, w := range a.Claim.Words() {
		d.say("           %s", w)
	}
	d.say("\nmoved      %s to the node, %s back; %s of data stayed where they are",
		humanize.IBytes(c.Conn().BytesSent()), humanize.IBytes(c.Conn().BytesReceived()), humanize.IBytes(a.Stats.DatasetBytes))
	return nil
}

func (d *demo) table(answer []byte) error {
	var t struct {
		Groups []struct {
			Key   string      `json:"key"`
			Count json.Number `json:"count"`
			Sum   json.Number `json:"sum"`
			Mean  json.Number `json:"mean"`
			Max   json.Number `json:"max"`
		} `json:"groups"`
	}
	if err := json.Unmarshal(answer, &t); err != nil {
		return fmt.Errorf("the answer is not what stats prints: %w", err)
	}
	w := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "phase of flight\tstrikes\tcost in $\tmean\tmost\t")
	for _, g := range t.Groups {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t\n", g.Key, g.Count, g.Sum, g.Mean, g.Max)
	}
	return w.Flush()
}

// refusals pushes three modules that mean harm, with a grant for one second.
func (d *demo) refusals(ctx context.Context) error {
	chain, err := d.grant("birdstrikes", time.Second)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, d.addr, client.Options{Identity: d.agent, Grant: chain})
	if err != nil {
		return err
	}
	defer c.Close()
	d.say("\nhostile    the same agent, with a grant for 1 s and 64 MiB:")
	for _, h := range []struct {
		module, what string
		want         fault.Code
		note         string
	}{
		{"loop", "an endless loop", fault.LimitTime, ""},
		{"memory-bomb", "a memory bomb", fault.LimitMemory, ""},
		{"outside", "a read outside the grant", fault.ModuleFailed, " (13: every path was refused)"},
	} {
		wasm, _ := hostile.Module(h.module)
		start := time.Now()
		_, err := c.Run(ctx, client.Request{Module: wasm})
		f, ok := fault.From(err)
		if !ok || f.Code != h.want {
			return fmt.Errorf("%s was not refused as it should be: %v", h.what, err)
		}
		d.say("           %-25s stopped after %4d ms: %s%s", h.what, time.Since(start).Milliseconds(), f.Message, h.note)
	}
	// The node is as well as before.
	wasm, _ := filters.Ready("stats")
	if _, err := c.Run(ctx, client.Request{Module: wasm}); err != nil {
		return fmt.Errorf("the node does not answer after the hostile modules: %w", err)
	}
	d.say("           and the node still answers")
	return nil
}

func (d *demo) byHand() {
	d.say(`
The same by hand, with your own data in ./mydata (a folder with .csv files):

  go build -o liop ./cmd/liop
  ./liop id new --home owner                      # the node's and issuer's identity
  ./liop id new --home agent
  ./liop node --home owner --data mydata=mydata   # in another terminal; prints its addresses
  ./liop grant issue --home owner --for "$(./liop id show --home agent)" \
      --audience "$(./liop id show --home owner)" --dataset mydata --out grant.jwt
  ./liop run ADDRESS head-schema --home agent --grant grant.jwt
  ./liop run ADDRESS stats --home agent --grant grant.jwt --receipt receipt.jwt -- --by COLUMN > answer.json
  ./liop verify receipt.jwt --answer answer.json`)
}
