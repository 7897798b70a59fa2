package client_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/liopv1"
	"github.com/liop-project/liop/mesh"
)

// mortal is a node that can be stopped and started again at its address.
type mortal struct {
	t     *testing.T
	owner *identity.Identity
	port  string
	host  *mesh.Host
}

// life is what a node does between a start and a stop.
type life struct {
	liopv1.UnimplementedLogicMeshServer
	token string
	run   func(*liopv1.LogicRequest, liopv1.LogicMesh_ExecuteLogicServer) error
}

func (l *life) NegotiateIntent(context.Context, *liopv1.IntentRequest) (*liopv1.IntentResponse, error) {
	return &liopv1.IntentResponse{Accepted: true, SessionToken: l.token, Limits: &liopv1.Limits{OutputBytes: 1, ModuleBytes: 1}}, nil
}

func (l *life) ExecuteLogic(r *liopv1.LogicRequest, s liopv1.LogicMesh_ExecuteLogicServer) error {
	if r.SessionToken != l.token {
		return &fault.Error{Code: fault.SessionUnknown, Rule: "session_token", Owner: fault.Node, Message: "no such session"}
	}
	return l.run(r, s)
}

func newMortal(t *testing.T) *mortal {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	m := &mortal{t: t, owner: identity.Generate(), port: port}
	t.Cleanup(m.stop)
	return m
}

func (m *mortal) start(l *life) {
	h, err := mesh.New(mesh.Config{Key: m.owner.Key(), Listen: []string{"/ip4/127.0.0.1/tcp/" + m.port}})
	if err != nil {
		m.t.Error(err)
		return
	}
	m.host = h
	if err := h.Serve(mesh.Control, mesh.ServeOptions{}, func(r grpc.ServiceRegistrar) { liopv1.RegisterLogicMeshServer(r, l) }); err != nil {
		m.t.Error(err)
	}
}

func (m *mortal) stop() {
	if m.host != nil {
		m.host.Close()
	}
}

func (m *mortal) dial(o client.Options) *client.Client {
	m.t.Helper()
	o.Identity = identity.Generate()
	var err error
	if o.Grant, err = grant.Issue(m.owner.Ed25519(), grant.Spec{Holder: o.Identity.ID(), Audience: m.owner.ID().String(), Datasets: []string{"d"}}, time.Now()); err != nil {
		m.t.Fatal(err)
	}
	c, err := client.Dial(m.t.Context(), m.host.Addrs()[0], o)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	return c
}

var reached = &fault.Error{Code: fault.ModuleFailed, Rule: "trap", Owner: fault.Module, Message: "trapped"}

func answers(*liopv1.LogicRequest, liopv1.LogicMesh_ExecuteLogicServer) error { return reached }

// A run finds the node again that went away before it, with a new session.
func TestRunOutlivesARestart(t *testing.T) {
	m := newMortal(t)
	m.start(&life{token: "first", run: answers})
	var once sync.Once
	restarted := make(chan struct{})
	c := m.dial(client.Options{Reconnect: time.Minute, Progress: func(p client.Phase, _ int) {
		if p == client.Waiting { // it was noticed that the node is gone
			once.Do(func() { m.start(&life{token: "second", run: answers}); close(restarted) })
		}
	}})
	m.stop()
	if err := settled(t, c); !errors.Is(err, reached) {
		t.Fatalf("run: %v", err)
	}
	select {
	case <-restarted:
	default:
		t.Error("the node that was stopped answered")
	}
}

func TestRunGivesUpOnANodeThatStaysAway(t *testing.T) {
	m := newMortal(t)
	m.start(&life{token: "first", run: answers})
	c := m.dial(client.Options{Reconnect: -1})
	m.stop()
	if f, ok := fault.From(settled(t, c)); !ok || f.Code != fault.Unreachable {
		t.Errorf("%+v", f)
	}
}

// settled is the error of a run that began after the client had noticed that its
// connection is gone; one that began before is reported as broken off.
func settled(t *testing.T, c *client.Client) error {
	for {
		_, err := c.Run(t.Context(), client.Request{Module: []byte{0}})
		if !errors.Is(err, &fault.Error{Code: fault.Unreachable, Rule: "run"}) {
			return err
		}
	}
}

// A run that the node lost is tried again if it had not begun, and else is
// reported as what it is.
func TestRunThatBrokeOff(t *testing.T) {
	for name, tc := range map[string]struct {
		told  liopv1.Phase
		again bool
	}{
		"silent":    {liopv1.Phase_PHASE_UNSPECIFIED, false},
		"running":   {liopv1.Phase_PHASE_RUNNING, false},
		"queued":    {liopv1.Phase_PHASE_QUEUED, true},
		"compiling": {liopv1.Phase_PHASE_COMPILING, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMortal(t)
			arrived := make(chan struct{})
			m.start(&life{token: "first", run: func(_ *liopv1.LogicRequest, s liopv1.LogicMesh_ExecuteLogicServer) error {
				if tc.told != liopv1.Phase_PHASE_UNSPECIFIED {
					if err := s.Send(&liopv1.LogicResponse{Progress: tc.told}); err != nil {
						t.Error(err)
					}
				}
				close(arrived)
				<-s.Context().Done()
				return s.Context().Err()
			}})
			heard := make(chan struct{}, 8) // progress of the node, which the test waits for
			c := m.dial(client.Options{Reconnect: time.Minute, Progress: func(p client.Phase, _ int) {
				switch p {
				case client.Queued, client.Compiling, client.Running:
					heard <- struct{}{}
				}
			}})
			done := make(chan error, 1)
			go func() {
				_, err := c.Run(t.Context(), client.Request{Module: []byte{0}})
				done <- err
			}()
			<-arrived
			<-heard // Run says Running before the node says anything
			if tc.told != liopv1.Phase_PHASE_UNSPECIFIED {
				<-heard
			}
			m.stop()
			m.start(&life{token: "second", run: answers})
			err := <-done
			if tc.again {
				if !errors.Is(err, reached) {
					t.Errorf("not tried again: %v", err)
				}
				return
			}
			if f, ok := fault.From(err); !ok || f.Code != fault.Unreachable || f.Rule != "run" {
				t.Errorf("got %v (%+v), want it reported", err, f)
			}
		})
	}
}
