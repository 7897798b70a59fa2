package fault

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A fault arrives whole at the other end of a call.
func TestRoundTrip(t *testing.T) {
	sent := &Error{Code: LimitTime, Rule: "limits.wall_ms", Owner: Grant, Message: "too slow", Hint: "be quick"}
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
