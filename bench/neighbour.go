//go:build linux && cgo

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/catalog"
	"github.com/liop-project/liop/mesh"
	"github.com/liop-project/liop/mesh/kad"
)

const (
	// neighboursName is how this binary is started to be a whole mesh.
	neighboursName = "liop-bench-neighbours"

	// neighboursQuick and neighboursFull are how many hosts it has: no more than
	// a bucket holds, so that all have all the others in their routing tables.
	neighboursQuick, neighboursFull = 10, kad.DefaultBucketSize
)

// neighboursOrder is what it is told.
type neighboursOrder struct {
	N    int
	DHT  bool // or hosts that are connected, and no more
	Idle time.Duration
}

// neighboursResult is what one end of one connection holds, and its CPU time in a
// second.
type neighboursResult struct {
	RSS, Goroutines float64
	CPU             time.Duration
}

// neighbour is what an idle connection to another node of the mesh costs each of
// the two, by what a process of many hosts holds before they know each other and
// after.
func neighbour(ctx context.Context, l *lab) ([]row, error) {
	n := l.n(neighboursFull, neighboursQuick)
	with, err := l.neighbours(ctx, n, true)
	if err != nil {
		return nil, fmt.Errorf("%d hosts with a DHT: %w", n, err)
	}
	without, err := l.neighbours(ctx, n, false)
	if err != nil {
		return nil, fmt.Errorf("%d hosts without a DHT: %w", n, err)
	}
	const is = "a connection without it"
	what := fmt.Sprintf("idle neighbour in the DHT, of %d, each end", n-1)
	return []row{
		{what: what + ", RSS", ours: figure{with.RSS, octets}, peer: figure{without.RSS, octets}, peerIs: is},
		{what: what + ", CPU in a second", ours: took(with.CPU), peer: took(without.CPU), peerIs: is},
		{what: "  goroutines", ours: tenths(with.Goroutines), peer: tenths(without.Goroutines), peerIs: is},
	}, nil
}

func tenths(v float64) figure { return figure{math.Round(10*v) / 10, pieces} }

func (l *lab) neighbours(ctx context.Context, n int, dht bool) (r neighboursResult, err error) {
	// QUIC's keepalives come every 15 s.
	order, err := json.Marshal(neighboursOrder{n, dht, time.Duration(l.n(30, 5)) * time.Second})
	if err != nil {
		return r, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{neighboursName, string(order)}
	c, err := startChild(cmd, filepath.Join(l.dir, "neighbours.log"))
	if err != nil {
		return r, err
	}
	defer c.stop()
	err = c.answer(ctx, &r)
	return r, err
}

// serveNeighbours is the process neighboursName.
func serveNeighbours(args []string, stdout io.Writer) error {
	var o neighboursOrder
	if len(args) != 1 {
		return fmt.Errorf("want an order, got %q", args)
	}
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	var hosts []*mesh.Host
	var dhts []*kad.DHT
	defer func() {
		for _, d := range dhts {
			d.Close()
		}
		for _, h := range hosts {
			h.Close()
		}
	}()
	for range o.N {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			return err
		}
		h, err := mesh.New(mesh.Config{Key: key, Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}})
		if err != nil {
			return err
		}
		hosts = append(hosts, h)
		if !o.DHT {
			continue
		}
		d, err := kad.New(ctx, kad.Config{Host: h, Server: true, Validator: catalog.Validator{Now: time.Now}})
		if err != nil {
			return err
		}
		dhts = append(dhts, d)
	}
	alone, err := residence()
	if err != nil {
		return err
	}
	before := runtime.NumGoroutine()
	for i, h := range hosts {
		for _, to := range hosts[:i] {
			if err := h.Libp2p().Connect(ctx, peer.AddrInfo{ID: to.ID(), Addrs: to.Libp2p().Addrs()}); err != nil {
				return err
			}
		}
	}
	for _, d := range dhts {
		if err := meetsAll(ctx, d, o.N-1); err != nil {
			return err
		}
	}
	ends := 0.0
	for _, h := range hosts {
		ends += float64(len(h.Libp2p().Network().Conns()))
	}
	together, err := residence()
	if err != nil {
		return err
	}
	r := neighboursResult{RSS: (together - alone) / ends, Goroutines: float64(runtime.NumGoroutine()-before) / ends}
	cpu, err := ownCPU()
	if err != nil {
		return err
	}
	start := time.Now()
	time.Sleep(o.Idle) // this is the measurement
	after, err := ownCPU()
	if err != nil {
		return err
	}
	r.CPU = time.Duration(float64(after-cpu) / time.Since(start).Seconds() / ends)
	return json.NewEncoder(stdout).Encode(r)
}

// meetsAll waits until n peers are in the routing table of d.
func meetsAll(ctx context.Context, d *kad.DHT, n int) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for len(d.Peers()) < n {
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d peers are in a routing table: %w", len(d.Peers()), n, ctx.Err())
		}
	}
	return nil
}

// residence is the resident memory of this process in bytes, without garbage.
func residence() (float64, error) {
	debug.FreeOSMemory()
	return rss(os.Getpid())
}
