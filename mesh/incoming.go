package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/liop-project/liop/core/fault"
)

// incoming stands between a lane and its handlers: nobody without identity or
// admission gets in, nothing but faults gets out.
type incoming struct {
	host *Host
	lane Lane
}

func (in incoming) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if v := recover(); v != nil {
			resp, err = nil, in.panicked(ctx, info.FullMethod, v)
		}
	}()
	if err := in.admit(ctx); err != nil {
		return nil, in.outward(ctx, info.FullMethod, err)
	}
	if resp, err = handle(ctx, req); err != nil {
		return nil, in.outward(ctx, info.FullMethod, err)
	}
	return resp, nil
}

func (in incoming) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	ctx := ss.Context()
	defer func() {
		if v := recover(); v != nil {
			err = in.panicked(ctx, info.FullMethod, v)
		}
	}()
	if err := in.admit(ctx); err != nil {
		return in.outward(ctx, info.FullMethod, err)
	}
	if err := handle(srv, incomingStream{ss}); err != nil {
		return in.outward(ctx, info.FullMethod, err)
	}
	return nil
}

// admit asks Config.Admit again: a lane may have been open since before the owner changed
// their mind.
func (in incoming) admit(ctx context.Context) error {
	caller, ok := Caller(ctx)
	if !ok {
		return &fault.Error{
			Code:    fault.Denied,
			Rule:    "peer",
			Owner:   fault.Protocol,
			Message: "the call does not come from a libp2p peer",
			Hint:    "call through a lane of a libp2p connection",
		}
	}
	if !in.host.admit(caller.ID) {
		return &fault.Error{
			Code:    fault.Denied,
			Rule:    "peer",
			Owner:   fault.Node,
			Message: "the node does not admit this peer",
			Hint:    "ask the owner to admit peer " + caller.ID.String(),
		}
	}
	if in.host.draining.Load() { // on a lane that is not shut yet
		return isDraining()
	}
	return nil
}

// outward is err as the caller may see it; Serve documents the cases.
func (in incoming) outward(ctx context.Context, method string, err error) error {
	var f *fault.Error
	if errors.As(err, &f) && f != nil {
		return f.GRPCStatus().Err()
	}
	switch code := codeOf(err); {
	case errors.Is(err, context.Canceled), code == codes.Canceled:
		return (&fault.Error{
			Code:    fault.Cancelled,
			Rule:    "context",
			Owner:   fault.Agent,
			Message: "the call was cancelled",
		}).GRPCStatus().Err()
	case errors.Is(err, context.DeadlineExceeded), code == codes.DeadlineExceeded:
		return status.Error(codes.DeadlineExceeded, "the deadline of the call has passed")
	case code == codes.Unimplemented:
		return err
	}
	in.log(ctx, "mesh.call_failed", method, slog.Any("err", err))
	return internal().GRPCStatus().Err()
}

func (in incoming) panicked(ctx context.Context, method string, v any) error {
	in.log(ctx, "mesh.call_panicked", method,
		slog.String("panic", fmt.Sprint(v)), slog.String("stack", string(debug.Stack())))
	return internal().GRPCStatus().Err()
}

func (in incoming) log(ctx context.Context, event, method string, more ...slog.Attr) {
	caller, _ := Caller(ctx)
	in.host.log.LogAttrs(ctx, slog.LevelError, event, append([]slog.Attr{
		slog.String("lane", string(in.lane)), slog.String("method", method), slog.String("peer", caller.ID.String()),
	}, more...)...)
}

func internal() *fault.Error {
	return &fault.Error{
		Code:    fault.Internal,
		Owner:   fault.Node,
		Message: "the node failed to do this",
		Hint:    "the owner finds more in the node's log",
	}
}

// codeOf is the code of a status that was returned as it is. A wrapped one was
// meant for someone else.
func codeOf(err error) codes.Code {
	if s, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return s.GRPCStatus().Code()
	}
	return codes.Unknown
}

// incomingStream makes what gRPC says of a bad message a fault. gRPC has told
// the peer already; this is so that a handler that returns it is not logged as
// one that failed.
type incomingStream struct{ grpc.ServerStream }

func (s incomingStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil || err == io.EOF {
		return err
	}
	switch codeOf(err) {
	case codes.ResourceExhausted, codes.Internal:
		return &fault.Error{
			Code:    fault.InvalidRequest,
			Rule:    "message",
			Owner:   fault.Protocol,
			Message: "the message is too large, or not one that the method takes",
		}
	case codes.Unavailable: // the connection went away
		return context.Canceled
	}
	return err
}
