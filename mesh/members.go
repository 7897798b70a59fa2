package mesh

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/member"
)

const (
	// maxMembers bounds the members that are remembered until their tokens
	// expire, at some 500 bytes each: many more than can be connected.
	maxMembers = 8 * DefaultMaxConns
	// maxWhys bounds the refused dials whose reasons are kept for who dialed.
	maxWhys = 128
)

// Members are how a closed mesh knows its own: by tokens of its operators (see
// package member). The zero value asks nobody for a token and presents none.
type Members struct {
	// Operators are the peers whose tokens count. With at least one, a peer has
	// to be let in by Config.Admit or by a token, and Config.Admit may be nil,
	// which then lets in nobody. Without, tokens are not asked for.
	Operators map[peer.ID]bool
	// Mesh is the name that tokens must have. Required with Operators.
	Mesh string
	// Token is this host's own token, or "" for none; nil is the same. It is
	// asked at each new connection, so that a token can be replaced, and must be
	// fast and safe for concurrent use.
	Token func() string
}

// enabled reports whether there is anything to exchange.
func (m Members) enabled() bool { return len(m.Operators) > 0 || m.Token != nil }

func (m Members) validate(own peer.ID) error {
	if len(m.Operators) == 0 && m.Mesh != "" {
		return errors.New("mesh: Config.Members.Mesh is set, and there are no Operators whose tokens would count")
	}
	if len(m.Operators) > 0 {
		if err := member.ValidMesh(m.Mesh); err != nil {
			return fmt.Errorf("mesh: Config.Members.Mesh: %w", err)
		}
	}
	for p := range m.Operators {
		if !isEd25519(p) {
			return fmt.Errorf("mesh: Config.Members.Operators: %s is not the id of an Ed25519 key", p)
		}
	}
	if token := m.token(); token != "" {
		t, err := member.Inspect(token)
		if err != nil {
			return err
		}
		if t.Member != own {
			return &fault.Error{Code: fault.MemberInvalid, Rule: "sub", Owner: fault.Agent,
				Message: "the membership token is for another peer, " + t.Member.String(),
				Hint:    "ask the mesh's operator for one for peer " + own.String()}
		}
	}
	return nil
}

func (m Members) token() string {
	if m.Token == nil {
		return ""
	}
	return m.Token()
}

// members decides about each connection that the allow-list does not decide.
type members struct {
	Members
	own    peer.ID
	allows func(peer.ID) bool // Config.Admit
	now    func() time.Time
	wait   time.Duration // how long an exchange may take
	lobby  lobby

	ctx    context.Context // ends with the host
	cancel context.CancelFunc
	swarm  *swarm.Swarm // set before the first connection

	mu     sync.Mutex
	known  map[peer.ID]known
	whys   map[peer.ID]*fault.Error // why the newest dial of a peer was refused here
	closed bool
}

// known is a member whose token was verified.
type known struct {
	expires time.Time
	timer   *time.Timer // cuts its connections then
}

func newMembers(c Config, own peer.ID) *members {
	m := &members{Members: c.Members, own: own, allows: c.Admit, now: time.Now, wait: knockTimeout,
		known: map[peer.ID]known{}, whys: map[peer.ID]*fault.Error{}}
	if m.allows == nil {
		closed := len(c.Members.Operators) > 0
		m.allows = func(peer.ID) bool { return !closed }
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// admits reports whether p is let in by the allow-list or was let in by a token.
func (m *members) admits(p peer.ID) bool {
	if m.allows(p) {
		return true
	}
	m.mu.Lock()
	k, ok := m.known[p]
	m.mu.Unlock()
	return ok && m.now().Before(k.expires)
}

// mayKnock reports whether it is worth to ask p for a token.
func (m *members) mayKnock() bool { return len(m.Operators) > 0 }

// verify judges the token of p, and lets p in until it expires.
func (m *members) verify(p peer.ID, token string) error {
	t, err := member.Verify(token, m.now(), member.Expect{Subject: p, Operators: m.Operators, Mesh: m.Mesh})
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errClosed()
	}
	if _, ok := m.known[p]; !ok && len(m.known) >= maxMembers {
		m.forgetAbsentLocked()
		if len(m.known) >= maxMembers {
			return busy("members", "there is no room for another member")
		}
	}
	if old, ok := m.known[p]; ok {
		old.timer.Stop()
	}
	m.known[p] = known{expires: t.Expires, timer: time.AfterFunc(t.Expires.Sub(m.now()), func() { m.expire(p) })}
	return nil
}

// expire cuts the connections of a member whose token has ended. It runs at
// that time.
func (m *members) expire(p peer.ID) {
	m.mu.Lock()
	k, ok := m.known[p]
	if m.closed || !ok {
		m.mu.Unlock()
		return
	}
	if left := k.expires.Sub(m.now()); left > 0 { // a newer token came, or the clock was set back
		k.timer.Reset(left)
		m.mu.Unlock()
		return
	}
	delete(m.known, p)
	m.mu.Unlock()
	if !m.allows(p) {
		m.swarm.ClosePeer(p)
	}
}

// forgetAbsentLocked makes room. Who is forgotten presents its token again with
// its next connection.
func (m *members) forgetAbsentLocked() {
	for p, k := range m.known {
		if m.swarm.Connectedness(p) != network.Connected {
			k.timer.Stop()
			delete(m.known, p)
		}
	}
}

// close ends the exchanges under way.
func (m *members) close() {
	m.cancel()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for _, k := range m.known {
		k.timer.Stop()
	}
}

// pass decides about a connection that has just been made, before anything else
// can use it. It is nil for yes.
func (m *members) pass(c network.Conn) *fault.Error {
	p := c.RemotePeer()
	known := m.admits(p)
	if c.Stat().Direction == network.DirInbound {
		if known {
			return nil
		}
		return m.hear(c)
	}
	switch {
	case known && m.token() == "":
		return nil // neither has anything to ask of the other
	case known && m.swarm.Connectedness(p) != network.NotConnected:
		// Another way to the same peer, which let us in before. When a hole is
		// punched both ends dial, and neither listens for a token.
		return nil
	}
	return m.present(c, !known)
}

// note keeps why a dial of p was refused, or forgets it if why is nil: libp2p
// has no way to pass it to who dialed.
func (m *members) note(p peer.ID, why *fault.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.whys, p)
	if why == nil {
		return
	}
	for old := range m.whys { // any one: a dial asks at once
		if len(m.whys) < maxWhys {
			break
		}
		delete(m.whys, old)
	}
	m.whys[p] = why
}

// why is what note keeps.
func (m *members) why(p peer.ID) *fault.Error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.whys[p]
}
