package netlab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	tunDevice = "/dev/net/tun"

	// mtu of a wire, that of Ethernet.
	mtu = 1500
	// wireQueue is how many packets are on a wire in one direction; more are
	// dropped, as by a router whose buffer is full. It is netem's default.
	wireQueue = 1000
)

// Wire joins two namespaces. Its methods are safe for concurrent use.
type Wire struct {
	name string // of the interface at both ends
	ends [2]*os.File
	link atomic.Pointer[Link]
	cut  atomic.Bool
	wg   sync.WaitGroup
}

// Join connects a, with address atA, and b, with address atB, both IPv4 addresses.
// Each end reaches the other's address; for more there is Route.
func (l *Lab) Join(a *Namespace, atA string, b *Namespace, atB string, link Link) *Wire {
	w := &Wire{name: fmt.Sprintf("wire%d", len(l.wires))}
	w.link.Store(&link)
	for i, end := range []struct {
		n        *Namespace
		own, far string
	}{{a, atA, atB}, {b, atB, atA}} {
		err := end.n.Do(func() (err error) {
			w.ends[i], err = openTUN(w.name)
			return err
		})
		if err != nil {
			l.fail(err)
		}
		end.n.ip("addr", "add", end.own, "peer", end.far, "dev", w.name)
		end.n.ip("link", "set", w.name, "mtu", fmt.Sprint(mtu), "up")
	}
	// Seeds that are the same in each run, as far as packets come in the same order.
	w.carry(w.ends[0], w.ends[1], rand.New(rand.NewPCG(uint64(len(l.wires)), 0)))
	w.carry(w.ends[1], w.ends[0], rand.New(rand.NewPCG(uint64(len(l.wires)), 1)))
	l.wires = append(l.wires, w)
	return w
}

// Cut makes the wire lose everything, also what is on it.
func (w *Wire) Cut() { w.cut.Store(true) }

// Mend undoes Cut.
func (w *Wire) Mend() { w.cut.Store(false) }

// Set changes the link for packets from now on.
func (w *Wire) Set(l Link) { w.link.Store(&l) }

func (w *Wire) close() {
	for _, f := range w.ends {
		f.Close()
	}
	w.wg.Wait()
}

func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("netlab: open %s: %w", tunDevice, err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlab: make TUN device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// packet is on its way.
type packet struct {
	due  time.Time
	data *[mtu]byte
	n    int
}

// carry carries packets one way until from is closed.
func (w *Wire) carry(from, to *os.File, dice *rand.Rand) {
	pool := sync.Pool{New: func() any { return new([mtu]byte) }}
	queue := make(chan packet, wireQueue)
	w.wg.Go(func() {
		defer close(queue)
		for {
			b := pool.Get().(*[mtu]byte)
			n, err := from.Read(b[:])
			if errors.Is(err, os.ErrClosed) || n == 0 && err != nil {
				return
			}
			l := w.link.Load()
			if w.cut.Load() || dice.Float64() < l.Loss {
				continue
			}
			select {
			case queue <- packet{time.Now().Add(l.Delay), b, n}:
			default:
			}
		}
	})
	w.wg.Go(func() {
		for p := range queue {
			time.Sleep(time.Until(p.due))
			if !w.cut.Load() {
				to.Write(p.data[:p.n])
			}
			pool.Put(p.data)
		}
	})
}
