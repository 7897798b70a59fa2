package mesh

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/liopv1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen soon; no test waits for it to pass.
const patience = 30 * time.Second

// transports are listen addresses on loopback, with a port of the kernel's.
var transports = map[string]string{
	"quic": "/ip4/127.0.0.1/udp/0/quic-v1",
	"tcp":  "/ip4/127.0.0.1/tcp/0",
}

func eachTransport(t *testing.T, f func(t *testing.T, listen string)) {
	for name, listen := range transports {
		t.Run(name, func(t *testing.T) { f(t, listen) })
	}
}

// logicMesh is a service made of functions; a nil one answers with nothing.
type logicMesh struct {
	liopv1.UnimplementedLogicMeshServer
	negotiate func(context.Context, *liopv1.IntentRequest) (*liopv1.IntentResponse, error)
	execute   func(*liopv1.LogicRequest, grpc.ServerStreamingServer[liopv1.LogicResponse]) error
}

func (l logicMesh) NegotiateIntent(ctx context.Context, r *liopv1.IntentRequest) (*liopv1.IntentResponse, error) {
	if l.negotiate == nil {
		return &liopv1.IntentResponse{}, nil
	}
	return l.negotiate(ctx, r)
}

func (l logicMesh) ExecuteLogic(r *liopv1.LogicRequest, s grpc.ServerStreamingServer[liopv1.LogicResponse]) error {
	if l.execute == nil {
		return nil
	}
	return l.execute(r, s)
}

func (l logicMesh) register(r grpc.ServiceRegistrar) { liopv1.RegisterLogicMeshServer(r, l) }

func newKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	k, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// newHost makes a host that ends with the test.
func newHost(t testing.TB, c Config) *Host {
	t.Helper()
	if c.Key == nil {
		c.Key = newKey(t)
	}
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close host: %v", err)
		}
	})
	return h
}

func serve(t testing.TB, h *Host, lane Lane, o ServeOptions, l logicMesh) {
	t.Helper()
	if err := h.Serve(lane, o, l.register); err != nil {
		t.Fatal(err)
	}
}

func dial(t testing.TB, from *Host, addr string) *Conn {
	t.Helper()
	c, err := from.Dial(testContext(t), addr)
	if err != nil {
		f, _ := fault.From(err)
		t.Fatalf("dial %s: %v: %+v", addr, err, f)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func negotiate(t testing.TB, c *Conn) error {
	t.Helper()
	_, err := liopv1.NewLogicMeshClient(c.Lane(Control)).NegotiateIntent(testContext(t), &liopv1.IntentRequest{})
	return err
}

// execute makes the call and returns the error it ends with; nil for a clean
// end.
func execute(t testing.TB, c *Conn, lane Lane, r *liopv1.LogicRequest) error {
	t.Helper()
	s, err := liopv1.NewLogicMeshClient(c.Lane(lane)).ExecuteLogic(testContext(t), r)
	for err == nil {
		_, err = s.Recv()
	}
	if err.Error() == "EOF" {
		return nil
	}
	return err
}

func wantFault(t testing.TB, err error, want fault.Error) *fault.Error {
	t.Helper()
	f, ok := fault.From(err)
	if !ok {
		t.Fatalf("got %v, which has no fault in it; want one with code %s", err, want.Code)
	}
	if f.Code != want.Code || (want.Rule != "" && f.Rule != want.Rule) || (want.Owner != "" && f.Owner != want.Owner) ||
		!strings.Contains(f.Message, want.Message) || !strings.Contains(f.Hint, want.Hint) {
		t.Fatalf("got fault %+v\nwant %+v", *f, want)
	}
	return f
}

func receive[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing after %v", what, patience)
		panic("unreachable")
	}
}

// logBuffer is a log that tests read while hosts write.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func TestConfigValidate(t *testing.T) {
	secp, _, err := crypto.GenerateSecp256k1Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	for _, c := range []struct {
		name   string
		config Config
		want   string // in the error; empty: valid
	}{
		{"agent", Config{Key: key}, ""},
		{"node", Config{Key: key, Listen: DefaultListen()}, ""},
		{"no key", Config{}, "Config.Key"},
		{"other key", Config{Key: secp}, "Ed25519"},
		{"not a multiaddr", Config{Key: key, Listen: []string{"127.0.0.1:7447"}}, "Config.Listen[0]"},
		{"host name", Config{Key: key, Listen: []string{transports["tcp"], "/dns4/localhost/tcp/1"}}, "Config.Listen[1]"},
		{"websocket", Config{Key: key, Listen: []string{"/ip4/127.0.0.1/tcp/1/ws"}}, "Config.Listen[0]"},
		{"with id", Config{Key: key, Listen: []string{"/ip4/127.0.0.1/tcp/1/p2p/" + idOf(t, key).String()}}, "Config.Listen[0]"},
		{"negative", Config{Key: key, Limits: Limits{MaxStreamsPerPeer: -1}}, "Limits.MaxStreamsPerPeer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.config.Validate()
			switch {
			case c.want == "" && err != nil:
				t.Fatalf("got %v, want no error", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Fatalf("got %v, want an error that names %s", err, c.want)
			}
		})
	}
}

func idOf(t testing.TB, k crypto.PrivKey) peer.ID {
	t.Helper()
	id, err := peer.IDFromPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestListenOnTakenPort(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		first := newHost(t, Config{Listen: []string{listen}})
		taken := first.swarm.ListenAddresses()[0].String()
		h, err := New(Config{Key: newKey(t), Listen: []string{taken}})
		if err == nil {
			h.Close()
			t.Fatal("a second host listens on the same port")
		}
		if !strings.Contains(err.Error(), taken) {
			t.Fatalf("got %v, want an error that names %s", err, taken)
		}
	})
}

func TestAddrs(t *testing.T) {
	h := newHost(t, Config{Listen: []string{transports["tcp"], transports["quic"]}})
	addrs := h.Addrs()
	if len(addrs) != 2 || !strings.Contains(addrs[0], "/quic-v1/") || !strings.Contains(addrs[1], "/tcp/") {
		t.Fatalf("got %v, want QUIC, then TCP", addrs)
	}
	for _, a := range addrs {
		info, err := ParseAddr(a)
		if err != nil {
			t.Errorf("%s: %v", a, err)
		}
		if info.ID != h.ID() {
			t.Errorf("%s has id %s, want %s", a, info.ID, h.ID())
		}
	}

	every := newHost(t, Config{Listen: []string{"/ip4/0.0.0.0/udp/0/quic-v1"}})
	addrs = every.Addrs()
	if len(addrs) == 0 || !strings.HasPrefix(addrs[0], "/ip4/127.0.0.1/") {
		t.Fatalf("got %v, want loopback first", addrs)
	}
	if err := negotiateOnce(t, every, addrs[0]); err != nil {
		t.Fatal(err)
	}

	if got := newHost(t, Config{}).Addrs(); len(got) != 0 {
		t.Fatalf("an agent has addresses: %v", got)
	}
}

// negotiateOnce serves h and calls it from a new host.
func negotiateOnce(t *testing.T, h *Host, addr string) error {
	t.Helper()
	serve(t, h, Control, ServeOptions{}, logicMesh{})
	return negotiate(t, dial(t, newHost(t, Config{}), addr))
}

func TestOnDisconnect(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		node := newHost(t, Config{Listen: []string{listen}})
		serve(t, node, Control, ServeOptions{}, logicMesh{})
		gone := make(chan peer.ID, 8)
		node.OnDisconnect(func(p peer.ID) { gone <- p })

		agent := newHost(t, Config{})
		first, second := dial(t, agent, node.Addrs()[0]), dial(t, agent, node.Addrs()[0])
		if err := negotiate(t, first); err != nil {
			t.Fatal(err)
		}
		first.Close()
		if err := negotiate(t, second); err != nil {
			t.Fatalf("closing one Conn broke another to the same peer: %v", err)
		}
		select {
		case p := <-gone:
			t.Fatalf("%s is said to be gone, and is not", p)
		default:
		}
		second.Close()
		if p := receive(t, "disconnect", gone); p != agent.ID() {
			t.Fatalf("got %s, want %s", p, agent.ID())
		}
	})
}

func TestDisconnect(t *testing.T) {
	node := newHost(t, Config{Listen: []string{transports["quic"]}})
	running := make(chan struct{})
	serve(t, node, Events, ServeOptions{}, logicMesh{
		execute: func(_ *liopv1.LogicRequest, s grpc.ServerStreamingServer[liopv1.LogicResponse]) error {
			close(running)
			<-s.Context().Done()
			return s.Context().Err()
		},
	})
	agent := newHost(t, Config{})
	c := dial(t, agent, node.Addrs()[0])
	ended := make(chan error, 1)
	go func() { ended <- execute(t, c, Events, &liopv1.LogicRequest{}) }()
	receive(t, "handler", running)
	if err := node.Disconnect(agent.ID()); err != nil {
		t.Fatal(err)
	}
	wantFault(t, receive(t, "end of the call", ended), fault.Error{Code: fault.Unreachable, Rule: "connection"})
}

func TestCloseTwice(t *testing.T) {
	h, err := New(Config{Key: newKey(t), Listen: []string{transports["quic"]}})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := h.Serve(Control, ServeOptions{}, logicMesh{}.register); err == nil {
		t.Fatal("a closed host serves")
	}
	_, err = h.Dial(testContext(t), "/ip4/127.0.0.1/tcp/1/p2p/"+idOf(t, newKey(t)).String())
	wantFault(t, err, fault.Error{Code: fault.Cancelled})
	if err := h.Drain(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func TestCredsFailClosed(t *testing.T) {
	if _, _, err := (peerCreds{}).ServerHandshake(nil); err == nil {
		t.Fatal("a connection that is no lane got credentials")
	}
	if _, ok := Caller(context.Background()); ok {
		t.Fatal("a context without a call has a caller")
	}
	err := incoming{host: &Host{admit: func(peer.ID) bool { return true }}}.admit(context.Background())
	if !errors.Is(err, &fault.Error{Code: fault.Denied}) {
		t.Fatalf("got %v, want denied", err)
	}
}
