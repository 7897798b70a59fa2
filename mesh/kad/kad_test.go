package kad

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/mesh"
)

func TestMain(m *testing.M) {
	if os.Args[0] == islanderName {
		if err := live(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m,
		// It ends by itself, one second after its database is closed.
		goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"),
		// leveldb forgets one of these when it has repaired a damaged store, which
		// it does at most once in a node's life.
		goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb/util.(*BufferPool).drain"),
	)
}

// patience bounds what must happen soon; no test waits for it to pass.
const patience = 60 * time.Second

const (
	quic = "/ip4/127.0.0.1/udp/0/quic-v1"
	tcp  = "/ip4/127.0.0.1/tcp/0"
)

// signed is a validator of values that sign made: a number, text, and a
// signature of both with the key of the peer. The highest number wins.
type signed struct{}

func sign(t testing.TB, k crypto.PrivKey, n uint64, text string) []byte {
	t.Helper()
	v := append(binary.BigEndian.AppendUint64(nil, n), text...)
	sig, err := k.Sign(v)
	if err != nil {
		t.Fatal(err)
	}
	return append(v, sig...)
}

func (signed) Validate(key string, v []byte) error {
	if len(v) < 8+64 {
		return errors.New("short")
	}
	id, err := peer.Decode(key[len("/liop/"):])
	if err != nil {
		return err
	}
	pub, err := id.ExtractPublicKey()
	if err != nil {
		return err
	}
	if ok, err := pub.Verify(v[:len(v)-64], v[len(v)-64:]); err != nil || !ok {
		return errors.New("bad signature")
	}
	return nil
}

func (signed) Select(_ string, vs [][]byte) (int, error) {
	best := 0
	for i, v := range vs {
		if binary.BigEndian.Uint64(v) >= binary.BigEndian.Uint64(vs[best]) {
			best = i
		}
	}
	return best, nil
}

// member is a host with a DHT.
type member struct {
	*DHT
	key  crypto.PrivKey
	mesh *mesh.Host
}

func (m *member) id() peer.ID { return m.mesh.ID() }

func (m *member) info() peer.AddrInfo {
	return peer.AddrInfo{ID: m.id(), Addrs: m.mesh.Libp2p().Addrs()}
}

// stop ends m without a word to anyone.
func (m *member) stop() {
	m.mesh.Close()
	m.DHT.Close()
}

func newKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	k, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// start makes a member that ends with the test. What c lacks is filled in.
func start(t testing.TB, listen string, c Config, boot ...*member) *member {
	t.Helper()
	return startKey(t, newKey(t), listen, c, boot...)
}

func startKey(t testing.TB, k crypto.PrivKey, listen string, c Config, boot ...*member) *member {
	t.Helper()
	hc := mesh.Config{Key: k}
	if listen != "" {
		hc.Listen = []string{listen}
	}
	h, err := mesh.New(hc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	c.Host = h
	if c.Validator == nil {
		c.Validator = signed{}
	}
	for _, b := range boot {
		c.Bootstrap = append(c.Bootstrap, b.info())
	}
	d, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close DHT: %v", err)
		}
	})
	return &member{DHT: d, key: k, mesh: h}
}

func server() Config { return Config{Server: true} }

func ready(t testing.TB, ms ...*member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, m := range ms {
		if err := m.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// eventually tries until f is nil.
func eventually(t testing.TB, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// has waits until from finds that who has the dataset.
func has(t testing.TB, from *member, name string, who peer.ID) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		for p := range from.Providers(ctx, name) {
			if p.ID == who && len(p.Addrs) > 0 {
				return nil
			}
		}
		return fmt.Errorf("nobody found that %s has %s", who, name)
	})
}

// reads waits until from reads the value of who.
func reads(t testing.TB, from *member, who peer.ID, want []byte) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		got, err := from.Value(ctx, who)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("read another value than was published")
		}
		return nil
	})
}

// The only node of a mesh is found by the agent that knows it.
func TestFindTheOnlyNode(t *testing.T) {
	alone := start(t, quic, server())
	if err := alone.Announce([]string{"sales"}); err != nil {
		t.Fatal(err)
	}
	agent := start(t, "", Config{}, alone)
	ready(t, agent)
	has(t, agent, "sales", alone.id())
}

func TestFind(t *testing.T) {
	a := start(t, quic, server())
	b := start(t, tcp, server(), a)
	c := start(t, quic, server(), a)
	agent := start(t, "", Config{}, b)

	value := sign(t, c.key, 1, "catalog")
	if err := c.Publish(t.Context(), value); err != nil {
		t.Fatal(err)
	}
	if err := c.Announce([]string{"sales", "sales", "people"}); err != nil {
		t.Fatal(err)
	}
	ready(t, a, b, c, agent)
	for _, from := range []*member{a, b, agent} {
		has(t, from, "sales", c.id())
		has(t, from, "people", c.id())
		reads(t, from, c.id(), value)
	}
	eventually(t, func(ctx context.Context) error {
		p, err := agent.FindPeer(ctx, c.id())
		if err == nil && p.ID != c.id() {
			err = errors.New("found another peer")
		}
		return err
	})
	for p := range c.Providers(t.Context(), "sales") {
		t.Errorf("the node found itself, or %s", p.ID)
	}

	// A newer value replaces it; an older one cannot.
	newer := sign(t, c.key, 2, "catalog")
	if err := c.Publish(t.Context(), newer); err != nil {
		t.Fatal(err)
	}
	reads(t, agent, c.id(), newer)
	if err := c.Publish(t.Context(), value); err == nil {
		t.Error("an older value was published")
	}
}

func TestFindsNothing(t *testing.T) {
	a := start(t, quic, server())
	alone := start(t, quic, Config{})
	b := start(t, quic, server(), a)
	ready(t, a, b)

	for p := range a.Providers(t.Context(), "sales") {
		t.Errorf("%s has what nobody has", p.ID)
	}
	nobody, err := peer.IDFromPrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, f := range map[string]struct {
		err  error
		code fault.Code
		rule string
	}{
		"value":            {second(a.Value(t.Context(), nobody)), fault.Unreachable, "mesh"},
		"peer":             {second(a.FindPeer(t.Context(), nobody)), fault.Unreachable, "mesh"},
		"value, alone":     {second(alone.Value(t.Context(), nobody)), fault.Unreachable, "mesh.bootstrap"},
		"peer, alone":      {second(alone.FindPeer(t.Context(), nobody)), fault.Unreachable, "mesh.bootstrap"},
		"ready, alone":     {alone.WaitReady(ended), fault.Unreachable, "mesh.bootstrap"},
		"ready, cancelled": {alone.WaitReady(cancelled), fault.Cancelled, "context"},
		"value, cancelled": {second(a.Value(cancelled, nobody)), fault.Cancelled, "context"},
	} {
		got, ok := fault.From(f.err)
		if !ok || got.Code != f.code || got.Rule != f.rule {
			t.Errorf("%s: got %+v, want code %s, rule %s", name, f.err, f.code, f.rule)
		}
	}
}

func second[T any](_ T, err error) error { return err }
