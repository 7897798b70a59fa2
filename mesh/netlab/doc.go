// Package netlab makes small networks on one machine, for tests of what real
// networks do: delay, loss, partitions, NATs. It is test support; nothing that is
// shipped imports it.
//
// A [Lab] has [Namespace]s, each with interfaces, routes and ports of its own
// (network namespaces of Linux), and [Wire]s between them: two TUN devices whose
// packets this process carries, with a delay and a loss of [Link], until the wire
// is Cut, and again after Mend. A namespace can forward, and masquerade as a home
// router does. What runs in a namespace is a process, started with
// [Namespace.Start]; a test starts its own binary again for that.
//
// The namespaces have no names, and end with the lab or with this process,
// whichever is first, and so do the processes in them.
//
// # Partitions
//
//	lab := netlab.For(t) // skips the test where labs cannot be made
//	a, b := lab.Namespace(), lab.Namespace()
//	wire := lab.Join(a, "10.0.0.1", b, "10.0.0.2", netlab.Link{Delay: 5 * time.Millisecond})
//	… start any number of peers in a, on 10.0.0.1, and in b, on 10.0.0.2 …
//	wire.Cut()
//	… peers in a still reach each other, and those in b …
//	wire.Mend()
//
// Peers in one namespace share its address and need ports of their own.
//
// It needs Linux, root (CAP_NET_ADMIN and CAP_SYS_ADMIN), /dev/net/tun and the
// program ip; Masquerade also nf_tables in the kernel. [Open] says what is missing.
package netlab

import (
	"errors"
	"time"
)

// ErrUnavailable is wrapped by the error of Open where labs cannot be made.
var ErrUnavailable = errors.New("no network lab here")

// Link is how a wire carries packets in each direction. The zero value is a perfect
// wire.
type Link struct {
	Delay time.Duration // one way
	Loss  float64       // share of packets that vanish, 0 to 1
}

// TB is the part of testing.TB that a lab needs.
type TB interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// For makes a lab that ends with the test, and skips the test with the reason where
// none can be made.
func For(t TB) *Lab {
	t.Helper()
	l, err := Open()
	if errors.Is(err, ErrUnavailable) {
		t.Skipf("%v", err)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(l.Close)
	l.fail = func(err error) {
		t.Helper()
		t.Fatalf("%v", err)
	}
	return l
}

// NAT says how Masquerade maps. The zero value is what Linux does by itself.
type NAT struct {
	// RandomPorts takes a random source port for each flow, so that the mapping
	// depends on the endpoint, and no hole can be punched.
	RandomPorts bool
}
