package node

import (
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/node/admission"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newClock() *clock { return &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func decisionFor(agent string, expires time.Time) *admission.Decision {
	return &admission.Decision{Agent: peer.ID(agent), Grant: &grant.Grant{Expires: expires}}
}

func TestSessions(t *testing.T) {
	c := newClock()
	s := newSessions(c.now)
	unknown := func(token, agent string) {
		t.Helper()
		if d, err := s.use(token, peer.ID(agent)); !errors.Is(err, &fault.Error{Code: fault.SessionUnknown}) {
			t.Errorf("session of %s: %v, %v", agent, d, err)
		}
	}
	open := func(agent string, expires time.Time) string {
		t.Helper()
		token, err := s.open(decisionFor(agent, expires))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	day := c.t.Add(24 * time.Hour)
	a := open("a", day)
	if len(a) != 43 {
		t.Errorf("token %q has not 256 bits", a)
	}
	if a == open("a", day) {
		t.Error("a token was given twice")
	}
	if _, err := s.use(a, "a"); err != nil {
		t.Error(err)
	}
	unknown(a, "b")
	unknown("", "a")
	unknown(a+"x", "a")

	// It slides, and ends when it was not used for long enough.
	for range 3 {
		c.t = c.t.Add(SessionTTL - time.Second)
		if _, err := s.use(a, "a"); err != nil {
			t.Error(err)
		}
	}
	c.t = c.t.Add(SessionTTL)
	unknown(a, "a")

	// It ends with its grant, however busy it is.
	b := open("b", c.t.Add(time.Minute))
	c.t = c.t.Add(time.Minute)
	unknown(b, "b")

	// It ends with the peer's connections.
	b = open("b", day)
	s.drop("b")
	unknown(b, "b")
	s.drop("never seen")
}

func TestSessionsAreBounded(t *testing.T) {
	c := newClock()
	s := newSessions(c.now)
	day := c.t.Add(24 * time.Hour)
	var tokens []string
	for range MaxSessionsPerPeer + 1 {
		token, err := s.open(decisionFor("a", day))
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
		if _, err := s.use(tokens[0], "a"); len(tokens) <= MaxSessionsPerPeer && err != nil {
			t.Fatal(err) // in use, so not the one to go
		}
	}
	if _, err := s.use(tokens[0], "a"); err != nil {
		t.Error("the session in use ended, not the least recently used")
	}
	if _, err := s.use(tokens[1], "a"); err == nil {
		t.Error("one session too many")
	}

	for i := 0; len(s.byToken) < MaxSessions; i++ {
		if _, err := s.open(decisionFor(string(rune(1000+i)), day)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.open(decisionFor("late", day))
	if f, ok := fault.From(err); !ok || f.Code != fault.Busy || f.RetryAfter != fault.MaxRetryAfter {
		t.Errorf("over the total: %v", err)
	}
	c.t = c.t.Add(SessionTTL)
	if _, err := s.open(decisionFor("late", day)); err != nil {
		t.Errorf("after all had expired: %v", err)
	}
	if len(s.byToken) != 1 || len(s.byPeer) != 1 {
		t.Errorf("%d sessions of %d peers are kept", len(s.byToken), len(s.byPeer))
	}
}
