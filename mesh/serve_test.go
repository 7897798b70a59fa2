package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/liopv1"
)

func TestCallerIsTheProvedPeer(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		node := newHost(t, Config{Listen: []string{listen}})
		callers := make(chan PeerAuth, 2)
		l := logicMesh{
			negotiate: func(ctx context.Context, _ *liopv1.IntentRequest) (*liopv1.IntentResponse, error) {
				a, _ := Caller(ctx)
				callers <- a
				return &liopv1.IntentResponse{}, nil
			},
			execute: func(_ *liopv1.LogicRequest, s grpc.ServerStreamingServer[liopv1.LogicResponse]) error {
				a, _ := Caller(s.Context())
				callers <- a
				return nil
			},
		}
		serve(t, node, Control, ServeOptions{}, l)
		serve(t, node, Bulk, ServeOptions{MaxRecv: 1 << 20}, l)

		key := newKey(t)
		agent := newHost(t, Config{Key: key})
		c := dial(t, agent, node.Addrs()[0])
		if err := negotiate(t, c); err != nil {
			t.Fatal(err)
		}
		if err := execute(t, c, Bulk, &liopv1.LogicRequest{}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			a := receive(t, "caller", callers)
			if a.ID != agent.ID() || !a.PublicKey.Equals(key.GetPublic()) || a.Conn.RemotePeer() != agent.ID() {
				t.Fatalf("got %+v, want peer %s", a, agent.ID())
			}
		}
		for _, h := range []*Host{node, agent} {
			other := map[*Host]*Host{node: agent, agent: node}[h]
			if !h.p2p.ConnManager().IsProtected(other.ID(), "") {
				t.Error("a peer with open lanes is not protected from being dropped as idle")
			}
		}
		if n := len(node.swarm.ConnsToPeer(agent.ID())); n != 1 {
			t.Fatalf("two lanes took %d connections", n)
		}
	})
}

func TestAdmitRefusesAfterHandshake(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		var called atomic.Int32
		node := newHost(t, Config{Listen: []string{listen}, Admit: func(peer.ID) bool { return false }})
		serve(t, node, Control, ServeOptions{}, logicMesh{
			negotiate: func(context.Context, *liopv1.IntentRequest) (*liopv1.IntentResponse, error) {
				called.Add(1)
				return &liopv1.IntentResponse{}, nil
			},
		})
		agent := newHost(t, Config{})
		c := dial(t, agent, node.Addrs()[0])
		want := fault.Error{Code: fault.Denied, Rule: "peer", Owner: fault.Node, Hint: agent.ID().String()}
		for range 3 { // a second call must not be told anything else
			wantFault(t, negotiate(t, c), want)
		}
		_, err := c.Ping(testContext(t))
		wantFault(t, err, want)
		if called.Load() != 0 {
			t.Fatal("a call reached the handler")
		}
	})
}

func TestAdmitIsAskedBeforeEachCall(t *testing.T) {
	var admitted atomic.Bool
	admitted.Store(true)
	node := newHost(t, Config{
		Listen: []string{transports["quic"]},
		Admit:  func(peer.ID) bool { return admitted.Load() },
	})
	serve(t, node, Control, ServeOptions{}, logicMesh{})
	agent := newHost(t, Config{})
	c := dial(t, agent, node.Addrs()[0])
	if err := negotiate(t, c); err != nil {
		t.Fatal(err)
	}
	admitted.Store(false)
	want := fault.Error{Code: fault.Denied, Rule: "peer", Owner: fault.Node, Message: "does not admit", Hint: agent.ID().String()}
	wantFault(t, negotiate(t, c), want)
	wantFault(t, execute(t, c, Control, &liopv1.LogicRequest{}), want)
	admitted.Store(true)
	if err := negotiate(t, c); err != nil {
		t.Fatal(err)
	}
}

func TestMessageTooLarge(t *testing.T) {
	var log logBuffer
	node := newHost(t, Config{Listen: []string{transports["tcp"]}, Log: log.logger()})
	l := logicMesh{execute: func(_ *liopv1.LogicRequest, s grpc.ServerStreamingServer[liopv1.LogicResponse]) error {
		return s.Send(&liopv1.LogicResponse{AnswerChunk: make([]byte, BulkMaxAnswer)})
	}}
	serve(t, node, Control, ServeOptions{}, l)
	serve(t, node, Bulk, ServeOptions{MaxRecv: 1000}, l)
	c := dial(t, newHost(t, Config{}), node.Addrs()[0])

	_, err := liopv1.NewLogicMeshClient(c.Lane(Control)).NegotiateIntent(testContext(t),
		&liopv1.IntentRequest{Grant: strings.Repeat("g", ControlMaxRecv)})
	wantFault(t, err, fault.Error{Code: fault.InvalidRequest, Rule: "message", Message: "262144 bytes", Hint: "bulk"})

	err = execute(t, c, Bulk, &liopv1.LogicRequest{WasmBinary: make([]byte, 1000)})
	wantFault(t, err, fault.Error{Code: fault.InvalidRequest, Rule: "message", Message: "1000 bytes"})
	// The handler's answer, too, which is a failure of the handler.
	err = execute(t, c, Bulk, &liopv1.LogicRequest{WasmBinary: make([]byte, 900)})
	wantFault(t, err, fault.Error{Code: fault.InvalidRequest, Rule: "message", Message: fmt.Sprint(BulkMaxAnswer)})
	// gRPC refuses that message itself; the handler hears of it, and fails, while
	// the caller may have its answer.
	failures := func() int { return strings.Count(log.String(), "mesh.call_failed") }
	for late := time.Now().Add(20 * time.Second); failures() == 0 && time.Now().Before(late); time.Sleep(time.Millisecond) {
	}
	if n := failures(); n != 1 {
		t.Fatalf("%d failures are logged, want that of the handler alone", n)
	}
}

func TestPanicLeaksNothing(t *testing.T) {
	var log logBuffer
	node := newHost(t, Config{Listen: []string{transports["quic"]}, Log: log.logger()})
	serve(t, node, Control, ServeOptions{}, logicMesh{
		negotiate: func(context.Context, *liopv1.IntentRequest) (*liopv1.IntentResponse, error) {
			panic("salary of row 7")
		},
		execute: func(*liopv1.LogicRequest, grpc.ServerStreamingServer[liopv1.LogicResponse]) error {
			panic(errors.New("salary of row 7"))
		},
	})
	c := dial(t, newHost(t, Config{}), node.Addrs()[0])
	for _, err := range []error{negotiate(t, c), execute(t, c, Control, &liopv1.LogicRequest{})} {
		f := wantFault(t, err, fault.Error{Code: fault.Internal, Owner: fault.Node})
		if s := fmt.Sprintf("%v %+v", err, f); strings.Contains(s, "salary") {
			t.Fatalf("the panic reached the caller: %s", s)
		}
	}
	if got := log.String(); strings.Count(got, "mesh.call_panicked") != 2 || !strings.Contains(got, "salary") ||
		!strings.Contains(got, "serve_test.go") {
		t.Fatalf("the log lacks the panic or its stack: %s", got)
	}
}

func TestWhatTheCallerSeesOfAnError(t *testing.T) {
	denied := &fault.Error{
		Code: fault.Denied, Rule: "limits.memory_bytes", Owner: fault.Dataset, Message: "too much memory", Hint: "ask for less",
	}
	var log logBuffer
	var fail atomic.Pointer[error]
	node := newHost(t, Config{Listen: []string{transports["quic"]}, Log: log.logger()})
	serve(t, node, Control, ServeOptions{}, logicMesh{
		negotiate: func(context.Context, *liopv1.IntentRequest) (*liopv1.IntentResponse, error) { return nil, *fail.Load() },
		execute: func(*liopv1.LogicRequest, grpc.ServerStreamingServer[liopv1.LogicResponse]) error {
			return *fail.Load()
		},
	})
	c := dial(t, newHost(t, Config{}), node.Addrs()[0])
	var typedNil *fault.Error
	for _, tc := range []struct {
		name string
		err  error
		code codes.Code
		want *fault.Error // nil: a status without details
	}{
		{"fault", denied, codes.PermissionDenied, denied},
		{"wrapped fault", fmt.Errorf("open /srv/secret: %w", denied), codes.PermissionDenied, denied},
		{"own error", errors.New("open /srv/secret: no such file"), codes.Internal, internal()},
		{"wrapped status", fmt.Errorf("worker: %w", status.Error(codes.NotFound, "secret")), codes.Internal, internal()},
		{"status", status.Error(codes.NotFound, "secret"), codes.Internal, internal()},
		{"nil fault", typedNil, codes.Internal, internal()},
		{"cancelled", fmt.Errorf("read /srv/secret: %w", context.Canceled), codes.Canceled, nil},
		{"deadline", fmt.Errorf("read /srv/secret: %w", context.DeadlineExceeded), codes.DeadlineExceeded, nil},
		{"unimplemented", status.Error(codes.Unimplemented, "method X not implemented"), codes.Unimplemented, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fail.Store(&tc.err)
			for _, err := range []error{negotiate(t, c), execute(t, c, Control, &liopv1.LogicRequest{})} {
				if got := status.Code(err); got != tc.code {
					t.Fatalf("got %v, want code %v", err, tc.code)
				}
				if strings.Contains(fmt.Sprintf("%v %+v", err, status.Convert(err)), "secret") {
					t.Fatalf("the caller sees too much: %v", err)
				}
				if f, ok := fault.From(err); tc.want != nil && (!ok || *f != *tc.want) {
					t.Fatalf("got %+v, want %+v", f, tc.want)
				}
			}
		})
	}
	if !strings.Contains(log.String(), "/srv/secret: no such file") {
		t.Fatal("the log does not have the error that was kept from the caller")
	}
}

func TestServeOptions(t *testing.T) {
	h := newHost(t, Config{})
	for _, c := range []struct {
		name string
		lane Lane
		o    ServeOptions
		want string
	}{
		{"not a lane", "/liop/other/1.0.0", ServeOptions{}, "not a lane"},
		{"bulk without size", Bulk, ServeOptions{}, "MaxRecv"},
		{"negative", Control, ServeOptions{MaxConns: -1}, "MaxConns"},
	} {
		err := h.Serve(c.lane, c.o, logicMesh{}.register)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error that names %s", c.name, err, c.want)
		}
	}
	serve(t, h, Control, ServeOptions{}, logicMesh{})
	if err := h.Serve(Control, ServeOptions{}, logicMesh{}.register); err == nil {
		t.Error("a lane is served twice")
	}
}

// openLane opens a stream of a lane, and says nothing on it. The error is that
// of the negotiation.
func openLane(t *testing.T, from, to *Host, lane Lane) (network.Stream, error) {
	t.Helper()
	info, err := ParseAddr(to.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := from.p2p.Connect(testContext(t), info); err != nil {
		t.Fatal(err)
	}
	s, err := from.swarm.NewStream(testContext(t), to.ID())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Reset() })
	s.SetDeadline(time.Now().Add(patience))
	return s, multistream.SelectProtoOrFail(protocol.ID(lane), s)
}

// mustOpenLane also waits for the server's first byte: it takes streams in any
// order.
func mustOpenLane(t *testing.T, from, to *Host, lane Lane) network.Stream {
	t.Helper()
	s, err := openLane(t, from, to, lane)
	if err == nil {
		_, err = s.Read(make([]byte, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantReset opens a lane, and reads it to its end.
func wantReset(t *testing.T, from, to *Host, lane Lane, code network.StreamErrorCode) {
	t.Helper()
	s, err := openLane(t, from, to, lane)
	if err == nil {
		_, err = io.ReadAll(s)
	}
	var reset *network.StreamError
	if !errors.As(err, &reset) || !reset.Remote || reset.ErrorCode != code {
		t.Fatalf("got %v, want a reset with code %#x", err, code)
	}
}

func TestSilentStreamIsDropped(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		node := newHost(t, Config{Listen: []string{listen}})
		serve(t, node, Control, ServeOptions{ConnectionTimeout: 50 * time.Millisecond, MaxConns: 1}, logicMesh{})
		agent := newHost(t, Config{})
		wantReset(t, agent, node, Control, 0)
		if node.p2p.ConnManager().IsProtected(agent.ID(), "") {
			t.Fatal("the peer is still protected")
		}
		// Its slot is free again.
		if err := negotiate(t, dial(t, agent, node.Addrs()[0])); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLaneConnsPerPeer(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		node := newHost(t, Config{Listen: []string{listen}})
		serve(t, node, Control, ServeOptions{MaxConns: 2}, logicMesh{})
		agent := newHost(t, Config{})
		first := mustOpenLane(t, agent, node, Control)
		mustOpenLane(t, agent, node, Control)
		wantReset(t, agent, node, Control, network.StreamResourceLimitExceeded)
		wantFault(t, negotiate(t, dial(t, agent, node.Addrs()[0])), fault.Error{Code: fault.Busy, Rule: "limits.max_streams"})
		if err := negotiate(t, dial(t, newHost(t, Config{}), node.Addrs()[0])); err != nil {
			t.Fatalf("one peer's streams are in the way of another's: %v", err)
		}

		// Streams that say nothing do not hold up the end, though their time
		// (DefaultConnectionTimeout) is not over.
		before := time.Now()
		if err := node.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(before); took > DefaultConnectionTimeout/2 {
			t.Fatalf("Close took %v", took)
		}
		if _, err := io.ReadAll(first); err == nil {
			t.Fatal("the stream ended well")
		}
	})
}

func TestDrain(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		node := newHost(t, Config{Listen: []string{listen}})
		running, release := make(chan struct{}), make(chan struct{})
		free := sync.OnceFunc(func() { close(release) })
		defer free()
		l := logicMesh{execute: func(_ *liopv1.LogicRequest, s grpc.ServerStreamingServer[liopv1.LogicResponse]) error {
			close(running)
			<-release
			return s.Send(&liopv1.LogicResponse{Receipt: "done"})
		}}
		serve(t, node, Control, ServeOptions{}, l)
		serve(t, node, Bulk, ServeOptions{MaxRecv: 1000}, l)
		agent := newHost(t, Config{})
		c := dial(t, agent, node.Addrs()[0])

		answer := make(chan string, 1)
		go func() {
			s, err := liopv1.NewLogicMeshClient(c.Lane(Bulk)).ExecuteLogic(testContext(t), &liopv1.LogicRequest{})
			if err != nil {
				answer <- err.Error()
				return
			}
			r, err := s.Recv()
			answer <- fmt.Sprint(r.GetReceipt(), err)
		}()
		receive(t, "call in flight", running)

		drained := make(chan error, 1)
		go func() { drained <- node.Drain(testContext(t)) }()
		var err error
		for err = negotiate(t, c); err == nil; {
			err = negotiate(t, c) // until the drain has begun
		}
		want := fault.Error{Code: fault.Draining, Owner: fault.Node, Message: "shutting down"}
		wantFault(t, err, want)
		wantFault(t, negotiate(t, c), want)
		wantFault(t, execute(t, c, Bulk, &liopv1.LogicRequest{}), want)
		wantFault(t, negotiate(t, dial(t, newHost(t, Config{}), node.Addrs()[0])), want)
		if err := node.Serve(Events, ServeOptions{}, l.register); err == nil {
			t.Error("a draining host serves another lane")
		}

		free()
		if got := receive(t, "answer of the call in flight", answer); got != "done<nil>" {
			t.Fatalf("the call in flight ended with %s", got)
		}
		if err := receive(t, "drain", drained); err != nil {
			t.Fatal(err)
		}
		if err := node.Drain(testContext(t)); err != nil {
			t.Fatalf("draining again: %v", err)
		}
	})
}

// A lane that has not heard of the drain yet takes no calls either.
func TestDrainingLaneRefuses(t *testing.T) {
	node := newHost(t, Config{Listen: []string{transports["quic"]}})
	serve(t, node, Control, ServeOptions{}, logicMesh{})
	c := dial(t, newHost(t, Config{}), node.Addrs()[0])
	if err := negotiate(t, c); err != nil {
		t.Fatal(err)
	}
	node.draining.Store(true)
	wantFault(t, negotiate(t, c), fault.Error{Code: fault.Draining})
	wantFault(t, execute(t, c, Control, &liopv1.LogicRequest{}), fault.Error{Code: fault.Draining})
}

func TestDrainCutsWhatDoesNotEnd(t *testing.T) {
	node := newHost(t, Config{Listen: []string{transports["quic"]}})
	running := make(chan struct{})
	serve(t, node, Events, ServeOptions{}, logicMesh{
		execute: func(_ *liopv1.LogicRequest, s grpc.ServerStreamingServer[liopv1.LogicResponse]) error {
			close(running)
			<-s.Context().Done()
			return s.Context().Err()
		},
	})
	c := dial(t, newHost(t, Config{}), node.Addrs()[0])
	ended := make(chan error, 1)
	go func() { ended <- execute(t, c, Events, &liopv1.LogicRequest{}) }()
	receive(t, "handler", running)
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if err := node.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the context's error", err)
	}
	if err := receive(t, "end of the call", ended); err == nil {
		t.Fatal("the call ended well")
	}
}
