package mesh

import (
	"runtime"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
)

// gRPC relies on it: a peer that does not read must not keep a lane from
// closing.
func TestCloseEndsABlockedWrite(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen string) {
		deaf := newHost(t, Config{Listen: []string{listen}})
		deaf.p2p.SetStreamHandler("/deaf", func(network.Stream) {})
		h := newHost(t, Config{})
		info, err := ParseAddr(deaf.Addrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := h.p2p.Connect(testContext(t), info); err != nil {
			t.Fatal(err)
		}
		s, err := h.p2p.NewStream(testContext(t), deaf.ID(), "/deaf")
		if err != nil {
			t.Fatal(err)
		}
		c := &laneConn{stream: s, rw: s}
		c.heard.Store(1)
		written := make(chan error, 1)
		go func() {
			_, err := c.Write(make([]byte, 64<<20)) // no window is that large
			written <- err
		}()
		for c.writing.Load() == 0 {
			runtime.Gosched()
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := receive(t, "end of the write", written); err == nil {
			t.Fatal("the write succeeded")
		}
		if err := c.Close(); err != nil {
			t.Fatalf("closing again: %v", err)
		}
	})
}
