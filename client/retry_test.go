package client_test

import (
	"context"
	"errors"
	"sync/atomic"
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

// refusing is a node that accepts every session and refuses every run.
type refusing struct {
	liopv1.UnimplementedLogicMeshServer
	refusals []*fault.Error // the last one for ever
	calls    atomic.Int32
}

func (n *refusing) NegotiateIntent(context.Context, *liopv1.IntentRequest) (*liopv1.IntentResponse, error) {
	return &liopv1.IntentResponse{Accepted: true, SessionToken: "t", Limits: &liopv1.Limits{OutputBytes: 1, ModuleBytes: 1}}, nil
}

func (n *refusing) ExecuteLogic(*liopv1.LogicRequest, liopv1.LogicMesh_ExecuteLogicServer) error {
	i := int(n.calls.Add(1)) - 1
	return n.refusals[min(i, len(n.refusals)-1)]
}

func dialRefusing(t *testing.T, n *refusing, o client.Options) *client.Client {
	t.Helper()
	owner := identity.Generate()
	h, err := mesh.New(mesh.Config{Key: owner.Key(), Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if err := h.Serve(mesh.Control, mesh.ServeOptions{}, func(r grpc.ServiceRegistrar) { liopv1.RegisterLogicMeshServer(r, n) }); err != nil {
		t.Fatal(err)
	}
	o.Identity = identity.Generate()
	if o.Grant, err = grant.Issue(owner.Ed25519(), grant.Spec{Holder: o.Identity.ID(), Audience: owner.ID().String(), Datasets: []string{"d"}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(t.Context(), h.Addrs()[0], o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// A run is tried again while the node is busy, for no other reason, and not for
// ever.
func TestRetriesWhileBusy(t *testing.T) {
	busy := &fault.Error{Code: fault.Busy, Rule: "queue", Owner: fault.Node, Message: "full", RetryAfter: time.Millisecond}
	silent := &fault.Error{Code: fault.Busy, Rule: "queue", Owner: fault.Node, Message: "full"}
	other := &fault.Error{Code: fault.ModuleFailed, Rule: "trap", Owner: fault.Module, Message: "trapped"}
	for _, tc := range []struct {
		name     string
		refusals []*fault.Error
		retries  int
		calls    int32
		want     fault.Code
	}{
		{"another refusal", []*fault.Error{other}, 0, 1, fault.ModuleFailed},
		{"busy twice", []*fault.Error{busy, busy, other}, 0, 3, fault.ModuleFailed},
		{"busy without a hint", []*fault.Error{silent, other}, 0, 2, fault.ModuleFailed},
		{"busy for ever", []*fault.Error{busy}, 0, 1 + client.DefaultRetries, fault.Busy},
		{"one retry", []*fault.Error{busy}, 1, 2, fault.Busy},
		{"turned off", []*fault.Error{busy}, -1, 1, fault.Busy},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := &refusing{refusals: tc.refusals}
			c := dialRefusing(t, n, client.Options{Retries: tc.retries})
			_, err := c.Run(t.Context(), client.Request{})
			if !errors.Is(err, &fault.Error{Code: tc.want}) || n.calls.Load() != tc.calls {
				t.Errorf("%d calls, then %v; want %d and %s", n.calls.Load(), err, tc.calls, tc.want)
			}
		})
	}
}

// No retry outlasts its caller: what cannot be waited for is returned at once.
func TestRetryEndsWithItsContext(t *testing.T) {
	later := &fault.Error{Code: fault.Busy, Rule: "queue", Owner: fault.Node, Message: "full", RetryAfter: fault.MaxRetryAfter}
	for name, cancels := range map[string]bool{"deadline": false, "cancelled": true} {
		t.Run(name, func(t *testing.T) {
			limit := fault.MaxRetryAfter - time.Second
			if cancels {
				limit = time.Hour
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			n := &refusing{refusals: []*fault.Error{later}}
			c := dialRefusing(t, n, client.Options{Progress: func(p client.Phase, _ int) {
				if p != client.Waiting {
					return
				}
				if !cancels {
					t.Error("it waits, although there is no time for it")
				}
				cancel()
			}})
			_, err := c.Run(ctx, client.Request{})
			var f *fault.Error
			if !errors.As(err, &f) || f.Code != fault.Busy || f.RetryAfter != fault.MaxRetryAfter || n.calls.Load() != 1 {
				t.Errorf("%d calls, then %+v", n.calls.Load(), err)
			}
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Error("it waited to the end")
			}
		})
	}
}
