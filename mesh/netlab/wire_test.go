package netlab_test

import (
	"net"
	"testing"
	"time"

	"github.com/liop-project/liop/mesh/netlab"
)

// echo answers each datagram at addr in n.
func echo(t *testing.T, n *netlab.Namespace, addr string) {
	t.Helper()
	var c net.PacketConn
	if err := n.Do(func() (err error) { c, err = net.ListenPacket("udp4", addr); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			k, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:k], from)
		}
	}()
}

func TestWire(t *testing.T) {
	lab := netlab.For(t)
	a, b := lab.Namespace(), lab.Namespace()
	wire := lab.Join(a, "10.0.0.1", b, "10.0.0.2", netlab.Link{Delay: 10 * time.Millisecond})
	echo(t, b, "10.0.0.2:7")
	var c net.Conn
	if err := a.Do(func() (err error) { c, err = net.Dial("udp4", "10.0.0.2:7"); return err }); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// rounds sends n datagrams, and counts the answers until there are want, or for
	// a while if more must not come.
	rounds := func(n, want int, quiet time.Duration) (got int, first time.Duration) {
		t.Helper()
		start := time.Now()
		for range n {
			if _, err := c.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
		for got < want {
			c.SetReadDeadline(time.Now().Add(quiet))
			if _, err := c.Read(make([]byte, 16)); err != nil {
				return got, first
			}
			if got++; got == 1 {
				first = time.Since(start)
			}
		}
		return got, first
	}
	if got, took := rounds(1, 1, patience); got != 1 || took < 20*time.Millisecond {
		t.Fatalf("%d answers, the first after %v; want one, after 20ms", got, took)
	}
	wire.Cut()
	if got, _ := rounds(20, 20, 300*time.Millisecond); got != 0 {
		t.Errorf("%d answers over a cut wire", got)
	}
	wire.Mend()
	if got, _ := rounds(1, 1, patience); got != 1 {
		t.Error("no answer over a mended wire")
	}
	wire.Set(netlab.Link{Loss: 0.5})
	// A quarter comes back: 100 of 400, give or take 9; outside of 50 to 150 once in
	// ten million runs.
	if got, _ := rounds(400, 400, 300*time.Millisecond); got < 50 || got > 150 {
		t.Errorf("%d of 400 answers with a loss of a half each way", got)
	}
}
