package kad

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/liop-project/liop/mesh"
	"github.com/liop-project/liop/mesh/netlab"
)

// A mesh that is cut in two goes on as two, and becomes one again: each half
// finds its own, and when the wire is mended, all find all, also what was new
// meanwhile.
func TestPartition(t *testing.T) {
	if testing.Short() {
		t.Skip("starts eight processes, and cuts them off from each other for seconds")
	}
	lab := netlab.For(t)
	const each = 4
	addrs := []string{"10.0.0.1", "10.0.0.2"}
	spaces := []*netlab.Namespace{lab.Namespace(), lab.Namespace()}
	wire := lab.Join(spaces[0], addrs[0], spaces[1], addrs[1], netlab.Link{Delay: 5 * time.Millisecond})

	// The first of each half is a bootstrap peer of all.
	var boot []string
	halves := make([][]*islander, 2)
	for i := range halves {
		for range each {
			halves[i] = append(halves[i], &islander{key: newKey(t)})
		}
		id, err := peer.IDFromPrivateKey(halves[i][0].key)
		if err != nil {
			t.Fatal(err)
		}
		boot = append(boot, fmt.Sprintf("/ip4/%s/udp/7000/quic-v1/p2p/%s", addrs[i], id), fmt.Sprintf("/ip4/%s/tcp/7000/p2p/%s", addrs[i], id))
	}
	began := time.Now()
	known := []search{newSearch(), newSearch()}
	for i, half := range halves {
		for j, p := range half {
			p.start(t, spaces[i], addrs[i], 7000+j, boot)
			p.says(t, known[i], fmt.Sprintf("set %d.%d", i, j), 1)
		}
	}
	all := slices.Concat(halves...)
	finds(t, known[0].and(known[1]), all...)
	t.Logf("all found all after %s", since(began))

	wire.Cut()
	began = time.Now()
	for i, half := range halves {
		finds(t, known[i], half...)
	}
	t.Logf("each half found its own, with dead connections, after %s", since(began))

	// A connection on which nothing comes ends after 30 s. This is the same, sooner.
	tell(t, request{Leave: addrs[1]}, halves[0]...)
	tell(t, request{Leave: addrs[0]}, halves[1]...)
	began = time.Now()
	tell(t, request{Forget: addrs[1]}, halves[0]...)
	tell(t, request{Forget: addrs[0]}, halves[1]...)
	t.Logf("each half forgot the other after %s", since(began))

	began = time.Now()
	late := []search{newSearch(), newSearch()}
	for i, half := range halves {
		half[1].says(t, late[i], fmt.Sprint("late ", i), 2)
		half[each-1].says(t, late[i], fmt.Sprint("too late ", i), 2)
		for id := range late[i].Read {
			delete(known[i].Read, id) // it has another value now
		}
		finds(t, known[i].and(late[i]), half...)
	}
	t.Logf("each half found its own, and what was new, after %s", since(began))
	for i, half := range halves {
		for _, p := range half {
			if r := p.ask(t, request{Search: late[1-i], Once: true}); len(r.Missing) != len(late[1-i].Find)+len(late[1-i].Read) {
				t.Fatalf("half %d knows what was said in the other one: it misses only %q", i, r.Missing)
			}
		}
	}

	wire.Mend()
	began = time.Now()
	finds(t, known[0].and(known[1]).and(late[0]).and(late[1]), all...)
	t.Logf("all found all again after %s", since(began))
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }

// search is what is to be found.
type search struct {
	Find map[string]peer.ID // who has a name
	Read map[string][]byte  // what peers, by their ids in text, publish
}

func newSearch() search { return search{map[string]peer.ID{}, map[string][]byte{}} }

func (s search) and(o search) search {
	sum := search{maps.Clone(s.Find), maps.Clone(s.Read)}
	maps.Copy(sum.Find, o.Find)
	maps.Copy(sum.Read, o.Read)
	return sum
}

// islanderName is how this binary is started to be a node in a namespace.
const islanderName = "kad-islander"

// islander is such a node, seen from the test.
type islander struct {
	key   crypto.PrivKey
	names []string
	in    *json.Encoder
	out   *json.Decoder
}

// life is what it is started with.
type life struct {
	Key  []byte
	At   string // IPv4 address
	Port int
	Boot []string
}

// request is what it is told. It answers each with a reply.
type request struct {
	Announce []string
	Publish  []byte
	Leave    string // close the connections to that address
	Forget   string // wait until nobody at that address is in the routing table
	Search   search // until all of it is found
	Once     bool   // or try only once
}

type reply struct {
	Missing []string // of a search
	Err     string
}

func (p *islander) start(t *testing.T, n *netlab.Namespace, at string, port int, boot []string) {
	t.Helper()
	key, err := crypto.MarshalPrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/proc/self/exe")
	c.Args = []string{islanderName}
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(c); err != nil {
		t.Fatal(err)
	}
	p.in, p.out = json.NewEncoder(in), json.NewDecoder(out)
	if err := p.in.Encode(life{key, at, port, boot}); err != nil {
		t.Fatal(err)
	}
}

// says has p announce one more name, and publish its n-th value. It adds both to s.
func (p *islander) says(t *testing.T, s search, name string, n uint64) {
	t.Helper()
	id, err := peer.IDFromPrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	p.names = append(p.names, name)
	value := sign(t, p.key, n, name)
	s.Find[name], s.Read[id.String()] = id, value
	p.ask(t, request{Announce: p.names, Publish: value})
}

// ask waits for the answer: the islander has the deadline.
func (p *islander) ask(t *testing.T, r request) (a reply) {
	t.Helper()
	if err := p.in.Encode(r); err != nil {
		t.Fatal(err)
	}
	if err := p.out.Decode(&a); err != nil {
		t.Fatalf("no answer: %v", err)
	}
	if a.Err != "" {
		t.Fatal(a.Err)
	}
	return a
}

// tell is ask of all of them at once.
func tell(t *testing.T, r request, ps ...*islander) {
	t.Helper()
	for _, p := range ps {
		if err := p.in.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range ps {
		var a reply
		if err := p.out.Decode(&a); err != nil {
			t.Fatalf("no answer: %v", err)
		}
		if a.Err != "" || len(a.Missing) > 0 {
			t.Errorf("node %d: %s, misses %q", i, a.Err, a.Missing)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// finds waits until all of ps find all of s.
func finds(t *testing.T, s search, ps ...*islander) {
	t.Helper()
	tell(t, request{Search: s}, ps...)
}

// live is the process islanderName. It ends with its stdin.
func live(stdin io.Reader, stdout io.Writer) error {
	in, out := json.NewDecoder(bufio.NewReader(stdin)), json.NewEncoder(stdout)
	var l life
	if err := in.Decode(&l); err != nil {
		return err
	}
	key, err := crypto.UnmarshalPrivateKey(l.Key)
	if err != nil {
		return err
	}
	h, err := mesh.New(mesh.Config{Key: key, Listen: []string{
		fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", l.At, l.Port), fmt.Sprintf("/ip4/%s/tcp/%d", l.At, l.Port)}})
	if err != nil {
		return err
	}
	defer h.Close()
	var boot []ma.Multiaddr
	for _, a := range l.Boot {
		boot = append(boot, ma.StringCast(a))
	}
	peers, err := peer.AddrInfosFromP2pAddrs(boot...)
	if err != nil {
		return err
	}
	d, err := New(context.Background(), Config{Host: h, Server: true, Bootstrap: peers, Validator: signed{},
		Tuning: Tuning{Refresh: minEvery}})
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		var r request
		if err := in.Decode(&r); errors.Is(err, io.EOF) {
			return nil // the test is over
		} else if err != nil {
			return err
		}
		if err := out.Encode(d.do(r)); err != nil {
			return err
		}
	}
}

func (d *DHT) do(r request) (a reply) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	fail := func(err error) {
		if err != nil {
			a.Err = err.Error()
		}
	}
	if len(r.Announce) > 0 {
		fail(d.Announce(r.Announce))
	}
	if len(r.Publish) > 0 {
		// Nobody waits for peers that are away; it is tried again.
		put, cancel := context.WithTimeout(ctx, time.Second)
		fail(d.Publish(put, r.Publish))
		cancel()
	}
	if r.Leave != "" {
		for _, c := range d.host.Network().Conns() {
			if at(r.Leave, c.RemoteMultiaddr()) {
				fail(c.Close())
			}
		}
	}
	for r.Forget != "" && d.routes(r.Forget) {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			fail(fmt.Errorf("peers at %s are still in the routing table", r.Forget))
			return a
		}
	}
	for {
		a.Missing = d.missing(ctx, r.Search)
		if len(a.Missing) == 0 || r.Once || ctx.Err() != nil {
			return a
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// routes reports whether a peer at addr is in the routing table.
func (d *DHT) routes(addr string) bool {
	return slices.ContainsFunc(d.Peers(), func(p Peer) bool {
		return slices.ContainsFunc(p.Addrs, func(a ma.Multiaddr) bool { return at(addr, a) })
	})
}

func at(addr string, a ma.Multiaddr) bool { return strings.HasPrefix(a.String(), "/ip4/"+addr+"/") }

// missing is what of s is not found now.
func (d *DHT) missing(ctx context.Context, s search) []string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var (
		mu   sync.Mutex
		miss = []string{}
		wg   sync.WaitGroup
	)
	check := func(what string, found func() bool) {
		wg.Go(func() {
			if !found() {
				mu.Lock()
				defer mu.Unlock()
				miss = append(miss, what)
			}
		})
	}
	for name, who := range s.Find {
		if who == d.host.ID() { // Providers leaves it out
			continue
		}
		check(name, func() bool {
			for p := range d.Providers(ctx, name) {
				if p.ID == who && len(p.Addrs) > 0 {
					return true
				}
			}
			return false
		})
	}
	for who, want := range s.Read {
		check("value of "+who, func() bool {
			p, err := peer.Decode(who)
			if err != nil {
				return false
			}
			got, err := d.Value(ctx, p)
			return err == nil && bytes.Equal(got, want)
		})
	}
	wg.Wait()
	slices.Sort(miss)
	return miss
}
