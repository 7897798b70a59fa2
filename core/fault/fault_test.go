package fault

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/liop-project/liop/core/liopv1"
)

// A fault arrives whole at the other end of a call.
func TestRoundTrip(t *testing.T) {
	sent := &Error{Code: LimitTime, Rule: "limits.wall_ms", Owner: Grant, Message: "too slow", Hint: "be quick", RetryAfter: 1500 * time.Millisecond}
	wrapped := fmt.Errorf("run: %w", sent)
	got, ok := From(sent.GRPCStatus().Err())
	if !ok || *got != *sent {
		t.Errorf("got %+v", got)
	}
	if got, ok := From(wrapped); !ok || got != sent {
		t.Errorf("wrapped: %+v", got)
	}
	if c := status.Code(sent.GRPCStatus().Err()); c != codes.ResourceExhausted {
		t.Errorf("status code %s", c)
	}
	if *FromProto(sent.Proto()) != *sent {
		t.Error("the wire form lost something")
	}
}

func TestTryAgain(t *testing.T) {
	for _, tc := range []struct{ wait, want time.Duration }{
		{-time.Second, MinRetryAfter},
		{0, MinRetryAfter},
		{MinRetryAfter, MinRetryAfter},
		{MinRetryAfter + 1, 2 * MinRetryAfter},
		{700 * time.Millisecond, 800 * time.Millisecond},
		{25 * time.Second, 25600 * time.Millisecond},
		{26 * time.Second, MaxRetryAfter},
		{1 << 62, MaxRetryAfter},
	} {
		e := TryAgain("queue", Node, "full", tc.wait)
		if e.RetryAfter != tc.want || e.Hint != "try again in "+tc.want.String() || e.Code != Busy {
			t.Errorf("a wait of %s is %+v, want %s", tc.wait, e, tc.want)
		}
	}
}

// Whoever reads a fault need not mistrust its RetryAfter.
func TestRetryAfterIsBoundedByItsReader(t *testing.T) {
	for ms, want := range map[uint32]time.Duration{0: 0, 1: time.Millisecond, 30_001: MaxRetryAfter, 1<<32 - 1: MaxRetryAfter} {
		if got := FromProto(&liopv1.ErrorDetail{Code: "busy", RetryAfterMs: ms}).RetryAfter; got != want {
			t.Errorf("%d ms are read as %s, want %s", ms, got, want)
		}
	}
}

func TestFromOthers(t *testing.T) {
	for _, err := range []error{nil, errors.New("x"), status.Error(codes.Internal, "x")} {
		if f, ok := From(err); ok {
			t.Errorf("%v is %+v", err, f)
		}
	}
}

func TestIs(t *testing.T) {
	err := fmt.Errorf("call: %w", &Error{Code: Busy, Rule: "queue"})
	for _, tc := range []struct {
		target *Error
		want   bool
	}{
		{&Error{Code: Busy}, true},
		{&Error{Code: Busy, Rule: "queue"}, true},
		{&Error{Code: Busy, Rule: "sessions"}, false},
		{&Error{Code: Denied}, false},
	} {
		if errors.Is(err, tc.target) != tc.want {
			t.Errorf("Is(%+v) is %v", tc.target, !tc.want)
		}
	}
}

// Every code but the client's own says what it is in gRPC's terms, too.
func TestEveryCodeHasAStatus(t *testing.T) {
	for _, c := range []Code{InvalidRequest, GrantInvalid, Denied, SessionUnknown, ModuleUnknown, ModuleInvalid, ModuleFailed,
		LimitTime, LimitMemory, LimitOutput, LimitStack, LimitCompile, LimitRuns, Busy, Draining, Cancelled, Internal, Unreachable} {
		if got := (&Error{Code: c}).GRPCStatus().Code(); got == codes.Unknown || got == codes.OK {
			t.Errorf("%s has status %s", c, got)
		}
	}
}
