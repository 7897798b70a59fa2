// Package fault is the one typed error that crosses the wire.
//
// A fault says what was refused, by which rule of whom, and what would be
// accepted. Its text reaches the remote peer: it MUST NOT contain data, paths
// of the host, or the text of errors that were not written for that reader.
package fault

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/liop-project/liop/core/liopv1"
)

// Code tells programs what happened. The set is part of the protocol (SPEC §7).
type Code string

const (
	InvalidRequest Code = "invalid_request" // a field is missing, malformed or too large
	GrantInvalid   Code = "grant_invalid"   // malformed, tampered, foreign, expired, or for another peer or node
	MemberInvalid  Code = "member_invalid"  // a membership token is malformed, tampered, foreign, expired, or for another peer or mesh
	Denied         Code = "denied"          // the grant is good, and a policy says no
	SessionUnknown Code = "session_unknown" // never opened, expired, or opened by another peer
	ModuleUnknown  Code = "module_unknown"  // named by hash, and the node does not have it: send the bytes
	ModuleInvalid  Code = "module_invalid"  // not a WebAssembly module that this node accepts
	ModuleFailed   Code = "module_failed"   // exit code other than zero, or a trap
	LimitTime      Code = "limit_time"
	LimitMemory    Code = "limit_memory"
	LimitOutput    Code = "limit_output"
	LimitFuel      Code = "limit_fuel"
	LimitStack     Code = "limit_stack"
	LimitCompile   Code = "limit_compile" // compiling took too much time or memory
	LimitRuns      Code = "limit_runs"    // the grant's runs are used up
	Busy           Code = "busy"          // a queue is full: try again later
	Draining       Code = "draining"      // the node is shutting down
	Cancelled      Code = "cancelled"     // the caller went away
	Internal       Code = "internal"      // the node's own fault; its log says more
	Unverified     Code = "unverified"    // client side: a receipt or answer does not match
	Unreachable    Code = "unreachable"   // client side: no connection to the node
)

// Owner says whose rule decided.
type Owner string

const (
	Protocol Owner = "protocol"
	Grant    Owner = "grant"
	Dataset  Owner = "dataset"
	Node     Owner = "node"
	Module   Owner = "module"
	Agent    Owner = "agent"
)

// Error is a refusal or failure with everything its reader needs.
type Error struct {
	Code    Code
	Rule    string // the field or limit that decided, e.g. "limits.memory_bytes"
	Owner   Owner
	Message string // lower case, no full stop
	Hint    string // what would be accepted, or what to do next; may be empty
	// RetryAfter is when to try again, with code Busy; zero if nothing is known.
	// It crosses the wire in whole milliseconds.
	RetryAfter time.Duration
}

// What a node may say of when to try again (SPEC §7).
const (
	MinRetryAfter = 50 * time.Millisecond
	MaxRetryAfter = 30 * time.Second
)

// TryAgain is a refusal with code Busy. It rounds the estimated wait up to
// MinRetryAfter times a power of two, so that it says how loaded the node is
// and nothing finer, and cuts it to MaxRetryAfter.
func TryAgain(rule string, owner Owner, message string, wait time.Duration) *Error {
	in := MinRetryAfter
	for in < wait && in < MaxRetryAfter {
		in *= 2
	}
	in = min(in, MaxRetryAfter)
	return &Error{Code: Busy, Rule: rule, Owner: owner, Message: message, Hint: "try again in " + in.String(), RetryAfter: in}
}

func (e *Error) Error() string { return e.Message }

// Is reports whether target is a fault with the same code, so that
// errors.Is(err, &fault.Error{Code: fault.Busy}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && (t.Rule == "" || t.Rule == e.Rule)
}

var grpcCodes = map[Code]codes.Code{
	InvalidRequest: codes.InvalidArgument,
	GrantInvalid:   codes.PermissionDenied,
	MemberInvalid:  codes.PermissionDenied,
	Denied:         codes.PermissionDenied,
	SessionUnknown: codes.Unauthenticated,
	ModuleUnknown:  codes.NotFound,
	ModuleInvalid:  codes.InvalidArgument,
	ModuleFailed:   codes.Aborted,
	LimitTime:      codes.ResourceExhausted,
	LimitMemory:    codes.ResourceExhausted,
	LimitOutput:    codes.ResourceExhausted,
	LimitFuel:      codes.ResourceExhausted,
	LimitStack:     codes.ResourceExhausted,
	LimitCompile:   codes.ResourceExhausted,
	LimitRuns:      codes.ResourceExhausted,
	Busy:           codes.ResourceExhausted,
	Draining:       codes.Unavailable,
	Cancelled:      codes.Canceled,
	Internal:       codes.Internal,
	Unreachable:    codes.Unavailable,
}

// GRPCStatus makes a fault a gRPC status with an ErrorDetail.
func (e *Error) GRPCStatus() *status.Status {
	c, ok := grpcCodes[e.Code]
	if !ok {
		c = codes.Unknown
	}
	st, err := status.New(c, e.Message).WithDetails(e.Proto())
	if err != nil { // only if the detail cannot be marshalled
		return status.New(c, e.Message)
	}
	return st
}

// Proto is the wire form of e.
func (e *Error) Proto() *liopv1.ErrorDetail {
	return &liopv1.ErrorDetail{
		Code: string(e.Code), Rule: e.Rule, Owner: string(e.Owner), Message: e.Message, Hint: e.Hint,
		RetryAfterMs: uint32(min(max(e.RetryAfter, 0), MaxRetryAfter).Milliseconds()),
	}
}

// FromProto is the inverse of Proto. Of a RetryAfter above MaxRetryAfter it makes
// MaxRetryAfter.
func FromProto(d *liopv1.ErrorDetail) *Error {
	return &Error{
		Code: Code(d.GetCode()), Rule: d.GetRule(), Owner: Owner(d.GetOwner()), Message: d.GetMessage(), Hint: d.GetHint(),
		RetryAfter: min(time.Duration(d.GetRetryAfterMs())*time.Millisecond, MaxRetryAfter),
	}
}

// From finds the fault in err: wrapped, or carried by a gRPC status.
func From(err error) (*Error, bool) {
	var e *Error
	if errors.As(err, &e) {
		return e, true
	}
	st, ok := status.FromError(err)
	if !ok {
		return nil, false
	}
	for _, d := range st.Details() {
		if detail, ok := d.(*liopv1.ErrorDetail); ok {
			return FromProto(detail), true
		}
	}
	return nil, false
}
