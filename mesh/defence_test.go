package mesh

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"google.golang.org/grpc"

	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/liop-project/liop/core/liopv1"
)

// A host with too many connections drops those without a lane, however long the
// others have been silent.
func TestWatchersOutliveIdlePeers(t *testing.T) {
	limits := Limits{MaxConns: 32}
	low, high := limits.waterMarks()
	node := newHost(t, Config{Listen: []string{transports["quic"]}, Limits: limits})
	watching := make(chan struct{})
	serve(t, node, Events, ServeOptions{}, logicMesh{
		execute: func(_ *liopv1.LogicRequest, s grpc.ServerStreamingServer[liopv1.LogicResponse]) error {
			close(watching)
			<-s.Context().Done()
			return s.Context().Err()
		},
	})
	watcher := newHost(t, Config{})
	c := dial(t, watcher, node.Addrs()[0])
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		s, err := liopv1.NewLogicMeshClient(c.Lane(Events)).ExecuteLogic(ctx, &liopv1.LogicRequest{})
		if err == nil {
			_, err = s.Recv()
		}
		ended <- err
	}()
	receive(t, "watcher", watching)
	gone := make(chan peer.ID, 64)
	node.OnDisconnect(func(p peer.ID) { gone <- p })
	for range high { // with the watcher, one more than there should be
		dial(t, newHost(t, Config{}), node.Addrs()[0])
	}
	manager := node.p2p.ConnManager().(*connmgr.BasicConnMgr)
	for late := time.Now().Add(patience); manager.GetInfo().ConnCount <= high; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("the node has %d connections", manager.GetInfo().ConnCount)
		}
	}
	// What happens by itself once the grace of new connections is over.
	manager.ForceTrim()
	for range high + 1 - low {
		if p := receive(t, "end of an idle peer", gone); p == watcher.ID() {
			t.Fatal("the watcher was dropped")
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("the watch ended: %v", err)
	default:
	}
}

// One who opens streams as fast as they can does not keep others from being
// served. What it costs is in the log.
func TestStreamFlood(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		node := newHost(t, Config{Listen: []string{listen}})
		serve(t, node, Control, ServeOptions{}, logicMesh{})
		honest := dial(t, newHost(t, Config{}), node.Addrs()[0])
		rounds := func() time.Duration {
			t.Helper()
			start := time.Now()
			for range 100 {
				if err := negotiate(t, honest); err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(start) / 100
		}
		quiet := rounds()

		flooder := newHost(t, Config{})
		dial(t, flooder, node.Addrs()[0])
		var opened, refused atomic.Int64
		stop, flooding := make(chan struct{}), make(chan struct{})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					s, err := flooder.swarm.NewStream(testContext(t), node.ID())
					if err != nil {
						refused.Add(1)
						continue
					}
					s.Write([]byte("\x13/multistream/1.0.0\n"))
					s.Reset()
					if opened.Add(1) == 1000 {
						close(flooding)
					}
				}
			})
		}
		receive(t, "flood", flooding)
		before, start := opened.Load(), time.Now()
		loud := rounds()
		rate := float64(opened.Load()-before) / time.Since(start).Seconds()
		close(stop)
		all.Wait()
		t.Logf("a call took %v, beside %.0f streams a second %v (%d refused)", quiet, rate, loud, refused.Load())
	})
}

func TestStreamRate(t *testing.T) {
	now := time.Unix(0, 0)
	l := newStreamLimiter(nil, 2)
	l.now = func() time.Time { return now }
	burst := func(p peer.ID) (n int) {
		for n < 2*streamBurst && l.take(p) {
			n++
		}
		return n
	}
	if n := burst("a"); n != streamBurst {
		t.Errorf("%d streams at once, want %d", n, streamBurst)
	}
	if n := burst("b"); n != streamBurst {
		t.Errorf("%d streams of another peer, want %d", n, streamBurst)
	}
	now = now.Add(time.Second / 2)
	if n := burst("a"); n != streamsPerSecond/2 {
		t.Errorf("%d streams after half a second, want %d", n, streamsPerSecond/2)
	}
	now = now.Add(time.Hour)
	if n := burst("a"); n != streamBurst {
		t.Errorf("%d streams after an hour, want %d", n, streamBurst)
	}
	for _, p := range []peer.ID{"c", "d", "e", "f", "g"} {
		l.take(p)
	}
	if len(l.peers) > l.most {
		t.Errorf("%d peers are remembered", len(l.peers))
	}
}

// Who dribbles through a negotiation, or never ends a handshake, is cut.
func TestSlowPeersAreCut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes libp2p's own timeouts, 10 and 15 s")
	}
	node := newHost(t, Config{Listen: []string{transports["tcp"]}})
	serve(t, node, Control, ServeOptions{}, logicMesh{})
	agent := newHost(t, Config{})
	c := dial(t, agent, node.Addrs()[0])
	dribble := func(w io.Writer, closed <-chan error, text string) error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case err := <-closed:
				return err
			case <-tick.C:
				w.Write([]byte{text[i%len(text)]})
			}
		}
	}
	read := func(r io.Reader) <-chan error {
		closed := make(chan error, 1)
		go func() { _, err := io.Copy(io.Discard, r); closed <- err }()
		return closed
	}
	cut := make(chan string, 3)

	s, err := agent.swarm.NewStream(testContext(t), node.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	go func() {
		dribble(s, read(s), "\x40/a-protocol-with-a-long-name-that-nobody-speaks-and-that-comes-sl")
		cut <- "a negotiation byte by byte"
	}()
	addr, err := manet.ToNetAddr(node.swarm.ListenAddresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"a handshake byte by byte": "\x13/multistream/1.0.0\n", "a handshake that does not begin": "",
	} {
		raw, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		go func() {
			closed := read(raw)
			if text == "" {
				<-closed
			} else {
				dribble(raw, closed, text)
			}
			cut <- what
		}()
	}
	for range 3 {
		t.Logf("cut: %s", receive(t, "cut", cut))
	}
	if err := negotiate(t, c); err != nil {
		t.Fatalf("an honest lane beside them: %v", err)
	}
}
