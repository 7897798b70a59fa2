//go:build linux && cgo

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/liop-project/liop/core/liopv1"
	"github.com/liop-project/liop/mesh"
	"github.com/liop-project/liop/mesh/netlab"
)

const (
	// lanesName is how this binary is started to be one end of the wire: with an
	// order the client, else the server.
	lanesName = "liop-bench-lanes"

	// The wire: 20 ms there and back, one packet in a hundred lost each way.
	wireDelay = 10 * time.Millisecond
	wireLoss  = 0.01

	bulkChunk = 64 << 10 // bytes of a message, as a node sends answers
	bulkWarm  = 16       // messages before calls are timed beside them
)

// lanesOrder is what the client is told.
type lanesOrder struct {
	Addr  string
	Calls int // small calls, each time
}

// lanesResult is what it found. Bulk is in bytes a second.
type lanesResult struct {
	Alone, TwoLanes, OneLane  time.Duration // p50 of a small call
	AloneTail, TwoLanesTail   time.Duration // p99
	BulkTwoLanes, BulkOneLane float64
}

// lanes is what a small call notices of a transfer to the same peer, over a wire
// that loses packets.
func lanes(ctx context.Context, l *lab) ([]row, error) {
	net, err := netlab.Open()
	if errors.Is(err, netlab.ErrUnavailable) {
		l.say("lanes: %s", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer net.Close()
	here, there := net.Namespace(), net.Namespace()
	net.Join(here, "10.77.0.1", there, "10.77.0.2", netlab.Link{Delay: wireDelay, Loss: wireLoss})

	server, err := l.startIn(there, lanesName)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	var addrs map[string]string
	if err := server.answer(ctx, &addrs); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	var rows []row
	for _, t := range transports {
		order, err := json.Marshal(lanesOrder{addrs[t], l.n(200, 25)})
		if err != nil {
			return nil, err
		}
		client, err := l.startIn(here, lanesName, string(order))
		if err != nil {
			return nil, err
		}
		var r lanesResult
		err = client.answer(ctx, &r)
		client.stop()
		if err != nil {
			return nil, fmt.Errorf("client, %s: %w", t, err)
		}
		what := "small call, 20 ms round trip and 1 % loss, " + t
		rows = append(rows,
			row{what: what + ", beside bulk, p50", ours: took(r.TwoLanes), peer: took(r.Alone), peerIs: "alone", target: ratioAtMost(2)},
			row{what: what + ", beside bulk, p99", ours: took(r.TwoLanesTail), peer: took(r.AloneTail), peerIs: "alone"},
			row{what: what + ", beside bulk, p50", ours: took(r.TwoLanes), peer: took(r.OneLane), peerIs: "both on one lane"},
			row{what: "  bulk in a second meanwhile", ours: figure{r.BulkTwoLanes, octets}, peer: figure{r.BulkOneLane, octets}, peerIs: "both on one lane"})
	}
	return rows, nil
}

// startIn starts this binary in a namespace.
func (l *lab) startIn(n *netlab.Namespace, name string, args ...string) (*child, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{name}, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	var c *child
	err = n.Do(func() (err error) {
		c, err = startChild(cmd, filepath.Join(l.dir, name+".log"))
		return err
	})
	if err != nil {
		return nil, err
	}
	c.stdin = in
	return c, nil
}

// serveLanes is the process lanesName. It ends when its stdin does.
func serveLanes(args []string, stdin io.Reader, stdout io.Writer) error {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return err
	}
	if len(args) > 0 {
		var o lanesOrder
		if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
			return err
		}
		r, err := timeLanes(key, o)
		if err != nil {
			return err
		}
		return json.NewEncoder(stdout).Encode(r)
	}
	h, err := mesh.New(mesh.Config{Key: key, Listen: []string{"/ip4/10.77.0.2/udp/7447/quic-v1", "/ip4/10.77.0.2/tcp/7447"}})
	if err != nil {
		return err
	}
	defer h.Close()
	for lane, o := range map[mesh.Lane]mesh.ServeOptions{mesh.Control: {}, mesh.Bulk: {MaxRecv: 1 << 20}} {
		err := h.Serve(lane, o, func(r grpc.ServiceRegistrar) {
			healthpb.RegisterHealthServer(r, health.NewServer())
			liopv1.RegisterLogicMeshServer(r, source{})
		})
		if err != nil {
			return err
		}
	}
	addrs := h.Addrs()
	if err := json.NewEncoder(stdout).Encode(map[string]string{"quic": addrs[0], "tcp": addrs[1]}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stdin)
	return err
}

// source answers a run with chunks without end.
type source struct {
	liopv1.UnimplementedLogicMeshServer
}

func (source) ExecuteLogic(_ *liopv1.LogicRequest, s grpc.ServerStreamingServer[liopv1.LogicResponse]) error {
	chunk := &liopv1.LogicResponse{AnswerChunk: make([]byte, bulkChunk)}
	for {
		if err := s.Send(chunk); err != nil {
			return err
		}
	}
}

func timeLanes(key crypto.PrivKey, o lanesOrder) (r lanesResult, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	h, err := mesh.New(mesh.Config{Key: key})
	if err != nil {
		return r, err
	}
	defer h.Close()
	c, err := h.Dial(ctx, o.Addr)
	if err != nil {
		return r, err
	}
	call := contender{name: "call", op: emptyCallOn(c.Lane(mesh.Control))}
	alone, err := inTurns(ctx, o.Calls, o.Calls, call)
	if err != nil {
		return r, err
	}
	two, bulk, err := besideBulk(ctx, c.Lane(mesh.Bulk), call, o.Calls)
	if err != nil {
		return r, err
	}
	r = lanesResult{Alone: alone[0].p50(), AloneTail: alone[0].p99(), TwoLanes: two.p50(), TwoLanesTail: two.p99(), BulkTwoLanes: bulk}
	one, bulk, err := besideBulk(ctx, c.Lane(mesh.Control), call, o.Calls)
	r.OneLane, r.BulkOneLane = one.p50(), bulk
	return r, err
}

// besideBulk times calls while a transfer goes on. It also returns the bytes a
// second of that.
func besideBulk(ctx context.Context, lane grpc.ClientConnInterface, call contender, n int) (s samples, rate float64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := liopv1.NewLogicMeshClient(lane).ExecuteLogic(ctx, &liopv1.LogicRequest{})
	if err != nil {
		return nil, 0, err
	}
	var got atomic.Int64
	warm, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			m, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			if i == bulkWarm {
				close(warm)
			}
			got.Add(int64(len(m.AnswerChunk)))
		}
	}()
	select {
	case <-warm:
	case err := <-ended:
		return nil, 0, err
	}
	before, start := got.Load(), time.Now()
	all, err := inTurns(ctx, n, n, call)
	rate = float64(got.Load()-before) / time.Since(start).Seconds()
	cancel()
	<-ended
	if err != nil {
		return nil, 0, err
	}
	return all[0], rate, nil
}
