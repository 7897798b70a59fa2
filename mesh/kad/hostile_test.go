package kad

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
	recpb "github.com/libp2p/go-libp2p-record/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-msgio"
	"google.golang.org/protobuf/proto"

	"github.com/liop-project/liop/mesh"
)

// attacker speaks the protocol to target without any of our rules.
type attacker struct {
	t      *testing.T
	key    crypto.PrivKey
	host   host.Host
	target peer.ID
}

func attack(t *testing.T, target *member) *attacker {
	t.Helper()
	k := newKey(t)
	h, err := libp2p.New(libp2p.Identity(k), libp2p.ListenAddrStrings(quic),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if err := h.Connect(t.Context(), target.info()); err != nil {
		t.Fatal(err)
	}
	return &attacker{t: t, key: k, host: h, target: target.id()}
}

func (a *attacker) stream() network.Stream {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	s, err := a.host.NewStream(ctx, a.target, Protocol)
	if err != nil {
		a.t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(patience))
	return s
}

// ask sends m, and returns the answer, or the error that the stream ends with.
func (a *attacker) ask(m *pb.Message) (*pb.Message, error) {
	a.t.Helper()
	s := a.stream()
	defer s.Reset()
	b, err := proto.Marshal(m)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := msgio.NewVarintWriter(s).WriteMsg(b); err != nil {
		return nil, err
	}
	b, err = msgio.NewVarintReaderSize(s, 4<<20).ReadMsg()
	if err != nil {
		return nil, err
	}
	answer := new(pb.Message)
	return answer, proto.Unmarshal(b, answer)
}

func (a *attacker) put(key string, value []byte) error {
	a.t.Helper()
	_, err := a.ask(&pb.Message{Type: pb.Message_PUT_VALUE, Key: []byte(key), Record: &recpb.Record{Key: []byte(key), Value: value}})
	return err
}

// ping shows that what was sent before it on other streams did no harm.
func (a *attacker) ping() {
	a.t.Helper()
	if _, err := a.ask(&pb.Message{Type: pb.Message_PING}); err != nil {
		a.t.Fatalf("the node does not answer any more: %v", err)
	}
}

func TestValuesRefused(t *testing.T) {
	node := start(t, quic, server())
	a := attack(t, node)
	own := ValueKey(a.host.ID())
	victim := newKey(t)
	victimID, err := peer.IDFromPrivateKey(victim)
	if err != nil {
		t.Fatal(err)
	}
	mine := func(n uint64, text string) []byte { return sign(t, a.key, n, text) }

	if err := a.put(own, mine(5, "good")); err != nil {
		t.Fatalf("a good value: %v", err)
	}
	for name, f := range map[string]struct {
		key   string
		value []byte
	}{
		"stale":                       {own, mine(4, "old")},
		"forged":                      {own, append(mine(6, "good"), 0)},
		"empty":                       {own, nil},
		"too large":                   {own, mine(7, strings.Repeat("x", MaxValueBytes))},
		"as large as a request":       {own, mine(7, strings.Repeat("x", maxRequestBytes))},
		"of another, and signed":      {ValueKey(victimID), sign(t, victim, 1, "theirs")},
		"of another, and forged":      {ValueKey(victimID), mine(1, "mine")},
		"key of nobody":               {"/liop/nobody", mine(1, "x")},
		"key in another form":         {"/liop/" + peer.ToCid(a.host.ID()).String(), mine(8, "x")},
		"key of another network":      {"/pk/" + string(a.host.ID()), mine(1, "x")},
		"key of another network, too": {"/ipns/" + string(a.host.ID()), mine(1, "x")},
	} {
		if err := a.put(f.key, f.value); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	a.ping()
	if v, err := node.valueOf(t, a.host.ID()); err != nil || !bytes.Equal(v, mine(5, "good")) {
		t.Errorf("the value is %q, %v", v, err)
	}
	if n := node.store.held.values; n != 1 {
		t.Errorf("%d values are kept, want 1", n)
	}
}

// valueOf is what the node itself keeps of p.
func (m *member) valueOf(t *testing.T, p peer.ID) ([]byte, error) {
	t.Helper()
	b, err := m.store.Get(t.Context(), valuePlace(p))
	if err != nil {
		return nil, err
	}
	r := new(recpb.Record)
	err = proto.Unmarshal(b, r)
	return r.GetValue(), err
}

// Readers do not trust those who keep records.
func TestLiarsAreNotBelieved(t *testing.T) {
	honest := start(t, quic, server())
	owner := start(t, quic, server(), honest)
	ready(t, honest, owner)
	value := sign(t, owner.key, 2, "true")
	if err := owner.Publish(t.Context(), value); err != nil {
		t.Fatal(err)
	}
	// The liar is a DHT of its own making, which accepts anything.
	h, err := mesh.New(mesh.Config{Key: newKey(t), Listen: []string{quic}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	liar, err := dht.New(h.Libp2p(), dht.ProtocolPrefix(Prefix), dht.Mode(dht.ModeServer),
		dht.Validator(record.NamespacedValidator{namespace: anything{}}))
	if err != nil {
		t.Fatal(err)
	}
	defer liar.Close()
	lie := sign(t, newKey(t), 99, "false")
	liar.PutValue(t.Context(), ValueKey(owner.id()), lie) // nobody takes it, and it keeps it
	if err := h.Libp2p().Connect(t.Context(), honest.info()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(context.Context) error {
		if liar.RoutingTable().Find(honest.id()) == "" || honest.dht.RoutingTable().Find(h.ID()) == "" {
			return errors.New("the liar was not let in")
		}
		return nil
	})
	liar.PutValue(t.Context(), ValueKey(owner.id()), lie)
	agent := start(t, "", Config{}, honest)
	ready(t, agent)
	eventually(t, func(ctx context.Context) error {
		if err := agent.mesh.Libp2p().Connect(ctx, peer.AddrInfo{ID: h.ID(), Addrs: h.Libp2p().Addrs()}); err != nil {
			return err
		}
		if agent.dht.RoutingTable().Find(h.ID()) == "" {
			return errors.New("the agent does not know the liar")
		}
		return nil
	})
	reads(t, agent, owner.id(), value)
	if v, err := honest.valueOf(t, owner.id()); err != nil || !bytes.Equal(v, value) {
		t.Errorf("the honest peer keeps %q, %v", v, err)
	}
}

type anything struct{}

func (anything) Validate(string, []byte) error        { return nil }
func (anything) Select(string, [][]byte) (int, error) { return 0, nil }

func TestProvidersRefused(t *testing.T) {
	node := start(t, quic, server())
	a := attack(t, node)
	announce := func(s io.Writer, name string, who peer.ID) {
		t.Helper()
		addrs := [][]byte{a.host.Addrs()[0].Bytes()}
		b, err := proto.Marshal(&pb.Message{Type: pb.Message_ADD_PROVIDER, Key: NameKey(name).Hash(),
			ProviderPeers: []*pb.Message_Peer{{Id: []byte(who), Addrs: addrs}}})
		if err == nil {
			err = msgio.NewVarintWriter(s).WriteMsg(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// Nobody speaks for another.
	s := a.stream()
	announce(s, "victim", node.id())
	s.CloseWrite()
	io.Copy(io.Discard, s)
	s.Reset()
	if got := node.providersOf(t, "victim"); len(got) != 0 {
		t.Errorf("providers: %v", got)
	}
	// Nor can one peer fill the store. kad-dht writes in batches of 256, and
	// keeps less than two of them in memory.
	const sent = MaxNamesPerPeer + 1024
	s = a.stream()
	for i := range sent {
		announce(s, fmt.Sprint("flood ", i), a.host.ID())
	}
	s.CloseWrite()
	io.Copy(io.Discard, s) // when it ends, all was handled
	s.Reset()
	node.store.mu.Lock()
	kept := node.store.held.providers
	node.store.mu.Unlock()
	if kept != MaxNamesPerPeer {
		t.Errorf("%d names of %d are kept, want %d", kept, sent, MaxNamesPerPeer)
	}
	if got := node.providersOf(t, "flood 0"); len(got) != 1 {
		t.Errorf("the first name is gone: %v", got)
	}
	if got := node.providersOf(t, fmt.Sprint("flood ", MaxNamesPerPeer+10)); len(got) != 0 {
		t.Errorf("a name past the bound is kept: %v", got)
	}
	a.ping()
}

func (m *member) providersOf(t *testing.T, name string) []peer.AddrInfo {
	t.Helper()
	infos, err := m.dht.ProviderStore().GetProviders(t.Context(), NameKey(name).Hash())
	if err != nil {
		t.Fatal(err)
	}
	return infos
}

// A peer that promises a large request is cut before there is room for it.
func TestRequestsBounded(t *testing.T) {
	node := start(t, quic, server())
	a := attack(t, node)
	for name, head := range map[string][]byte{
		"one byte too many":  binary.AppendUvarint(nil, maxRequestBytes+1),
		"4 MiB":              binary.AppendUvarint(nil, 4<<20),
		"a length of 2^63":   binary.AppendUvarint(nil, 1<<63),
		"an endless length":  bytes.Repeat([]byte{0x80}, 100),
		"an overlong length": {0x80, 0x80, 0x80, 0x80, 0x80, 0x00},
	} {
		s := a.stream()
		s.Write(head)
		if _, err := io.ReadAll(s); err == nil || errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "deadline") {
			t.Errorf("%s: the stream ended with %v", name, err)
		}
		s.Reset()
	}
	a.ping()
}

// A peer that opens streams and says nothing gets a few.
func TestStreamsBounded(t *testing.T) {
	node := start(t, quic, server())
	a := attack(t, node)
	refused := 0
	for range 64 {
		s := a.stream()
		defer s.Reset()
		b, _ := proto.Marshal(&pb.Message{Type: pb.Message_PING})
		if err := msgio.NewVarintWriter(s).WriteMsg(b); err != nil {
			refused++
			continue
		}
		if _, err := msgio.NewVarintReaderSize(s, 1<<20).ReadMsg(); err != nil {
			refused++
		}
	}
	if refused < 32 || refused == 64 {
		t.Errorf("%d of 64 streams were refused", refused)
	}
	attack(t, node).ping()
}
