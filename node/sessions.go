package node

import (
	"crypto/rand"
	"encoding/base64"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/node/admission"
)

const (
	// SessionTTL is how long a session lives without being used.
	SessionTTL = 5 * time.Minute
	// MaxSessionsPerPeer bounds what one agent can hold; one more ends the one
	// it used least recently.
	MaxSessionsPerPeer = 16
	// MaxSessions bounds all of them.
	MaxSessions = 16_384
)

// session is what an agent negotiated. Its fields but used never change.
type session struct {
	token    string
	decision *admission.Decision
	used     time.Time
}

// sessions is safe for concurrent use.
type sessions struct {
	now func() time.Time

	mu      sync.Mutex
	byToken map[string]*session
	byPeer  map[peer.ID][]*session // least recently used first
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, byToken: map[string]*session{}, byPeer: map[peer.ID][]*session{}}
}

// open makes a session of the decision's agent and returns its token.
func (s *sessions) open(d *admission.Decision) (string, error) {
	var secret [32]byte
	rand.Read(secret[:]) // never fails: it would end the program
	ses := &session{token: base64.RawURLEncoding.EncodeToString(secret[:]), decision: d, used: s.now()}

	s.mu.Lock()
	defer s.mu.Unlock()
	if mine := s.byPeer[d.Agent]; len(mine) >= MaxSessionsPerPeer {
		s.end(mine[0])
	}
	if len(s.byToken) >= MaxSessions {
		s.expire()
	}
	if len(s.byToken) >= MaxSessions {
		// When one ends is for their agents to say.
		return "", fault.TryAgain("sessions", fault.Node, "the node has too many sessions", fault.MaxRetryAfter)
	}
	s.byToken[ses.token] = ses
	s.byPeer[d.Agent] = append(s.byPeer[d.Agent], ses)
	return ses.token, nil
}

// use gives the decision behind a token, and prolongs the session. Whoever
// asks for another peer's session learns no more than for one that never was.
func (s *sessions) use(token string, agent peer.ID) (*admission.Decision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ses, now := s.byToken[token], s.now()
	if ses != nil && ses.decision.Agent == agent {
		if now.Sub(ses.used) < SessionTTL && now.Before(ses.decision.Grant.Expires) {
			ses.used = now
			mine := s.byPeer[agent]
			for i := range mine[:len(mine)-1] { // the last is the most recent
				if mine[i] == ses {
					copy(mine[i:], mine[i+1:])
					mine[len(mine)-1] = ses
					break
				}
			}
			return ses.decision, nil
		}
		s.end(ses)
	}
	return nil, &fault.Error{Code: fault.SessionUnknown, Rule: "session_token", Owner: fault.Protocol,
		Message: "no session of yours has this token", Hint: "open one with NegotiateIntent"}
}

// drop ends all sessions of a peer.
func (s *sessions) drop(agent peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ses := range s.byPeer[agent] {
		delete(s.byToken, ses.token)
	}
	delete(s.byPeer, agent)
}

func (s *sessions) end(ses *session) {
	delete(s.byToken, ses.token)
	mine := s.byPeer[ses.decision.Agent]
	for i := range mine {
		if mine[i] == ses {
			mine = append(mine[:i], mine[i+1:]...)
			break
		}
	}
	if len(mine) == 0 {
		delete(s.byPeer, ses.decision.Agent)
	} else {
		s.byPeer[ses.decision.Agent] = mine
	}
}

func (s *sessions) expire() {
	now := s.now()
	for _, ses := range s.byToken {
		if now.Sub(ses.used) >= SessionTTL {
			s.end(ses)
		}
	}
}
