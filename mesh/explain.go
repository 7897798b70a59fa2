package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/multiformats/go-multistream"
	"github.com/quic-go/quic-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/liop-project/liop/core/fault"
)

// This file turns what libp2p and gRPC say of a failed dial or lane into what
// the person at the client can act on.

// explainDial is for errors before there is a connection.
func explainDial(err error, p peer.ID) *fault.Error {
	var mismatch sec.ErrPeerIDMismatch
	switch {
	case errors.Is(err, context.Canceled):
		return &fault.Error{Code: fault.Cancelled, Rule: "context", Owner: fault.Agent, Message: "the dial was cancelled"}
	case errors.Is(err, swarm.ErrGaterDisallowedConnection):
		return &fault.Error{
			Code:    fault.Denied,
			Rule:    "peer",
			Owner:   fault.Agent,
			Message: "this host does not admit that peer",
			Hint:    "admit peer " + p.String() + " here first",
		}
	case errors.As(err, &mismatch):
		return unreachable("peer", "another peer answers at that address",
			"it is "+mismatch.Actual.String()+" and not "+mismatch.Expected.String()+
				": ask the owner for the node's current address and id")
	case errors.Is(err, swarm.ErrNoAddresses), errors.Is(err, swarm.ErrNoGoodAddresses):
		return unreachable("address", "there is no address of that peer to dial",
			"check that the host name exists and has an address that this machine can reach")
	case errors.Is(err, swarm.ErrSwarmClosed):
		return errClosed()
	case errors.Is(err, network.ErrResourceLimitExceeded):
		return &fault.Error{
			Code:    fault.Busy,
			Rule:    "limits.max_conns",
			Owner:   fault.Agent,
			Message: "this host has as many connections as its limits allow",
			Hint:    "close some, or raise the limits",
		}
	case relayStatus(err) != "":
		return explainRelay(relayStatus(err))
	case isRefused(err):
		return busy("limits.max_conns", "the node has no room for another connection")
	case isTimeout(err):
		return unreachable("address", "nothing answers at that address in time", checkHint)
	case isSilent(err):
		return unreachable("address", "nothing answers at that address", checkHint)
	}
	return unreachable("address", "the handshake with what answers at that address failed",
		"check that it is a liop node; if so, it may have no room for another connection, or be restarting")
}

// relayStatus is what a relay that we reached says of the peer behind it, by its
// name in circuit v2, or empty. libp2p has it in a text only.
func relayStatus(err error) string {
	_, after, _ := strings.Cut(err.Error(), "error opening relay circuit: ")
	name, _, _ := strings.Cut(after, " ")
	return name
}

func explainRelay(status string) *fault.Error {
	const rule = "relay"
	switch status {
	case pbv2.Status_NO_RESERVATION.String():
		return unreachable(rule, "the node has no slot at that relay",
			"check that the node is running and names this relay, or ask for its current address")
	case pbv2.Status_RESOURCE_LIMIT_EXCEEDED.String():
		return busy(rule, "the relay has no room for another connection to the node")
	case pbv2.Status_PERMISSION_DENIED.String():
		return &fault.Error{Code: fault.Denied, Rule: rule, Owner: fault.Node, Message: "the relay does not serve this host",
			Hint: "ask the relay's owner to admit both peers"}
	}
	return unreachable(rule, "the relay cannot reach the node", "check that the node is running")
}

// isRefused finds QUIC's CONNECTION_REFUSED (RFC 9000, section 20.1), which the
// limits of a node send.
func isRefused(err error) bool {
	var e *quic.TransportError
	return errors.As(err, &e) && e.Remote && e.ErrorCode == quic.ConnectionRefused
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &e) && e.Timeout()
}

// isSilent finds errors of the network itself, as opposed to those of whoever
// answered.
func isSilent(err error) bool {
	var e *net.OpError
	return errors.As(err, &e) && (e.Op == "dial" || strings.HasPrefix(e.Net, "udp"))
}

const checkHint = "check that the address is right, that the node is running, " +
	"and that no firewall drops its UDP or TCP port"

// explain is for errors on connection nc: opening a stream, or its first bytes.
func (c *Conn) explain(err error, nc network.Conn) *fault.Error {
	var (
		connErr     *network.ConnError
		streamErr   *network.StreamError
		unsupported multistream.ErrNotSupported[protocol.ID]
	)
	switch {
	case errors.As(err, &connErr) && connErr.Remote:
		switch connErr.ErrorCode {
		case network.ConnGated:
			return c.host.members.denied()
		case network.ConnResourceLimitExceeded, network.ConnRateLimited:
			return busy("limits.max_conns", "the node has no room for another connection")
		}
	case errors.As(err, &streamErr) && streamErr.Remote:
		switch streamErr.ErrorCode {
		case network.StreamResourceLimitExceeded, network.StreamRateLimited:
			return busy("limits.max_streams", "the node has no room for another stream of this peer")
		case network.StreamShutdown:
			return isDraining()
		}
	case errors.As(err, &unsupported):
		return unreachable("lane", "the peer does not serve this lane",
			"check that it is a liop node, and that its version knows the lane")
	case errors.Is(err, network.ErrResourceLimitExceeded):
		return &fault.Error{
			Code:    fault.Busy,
			Rule:    "limits.max_streams",
			Owner:   fault.Agent,
			Message: "this host has as many streams as its limits allow",
			Hint:    "make fewer connections at once, or raise the limits",
		}
	case errors.Is(err, network.ErrLimitedConn):
		return onlyRelayed()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return explainDial(err, c.info.ID)
	}
	// Only QUIC tells why a connection was cut. Over TCP, one that is cut after
	// the handshake and before a word was said is what a refusal looks like.
	if nc.IsClosed() && !c.wasHeard(nc) {
		return c.host.members.denied()
	}
	return lost()
}

// explain is for the error of a call.
func (o *outgoing) explain(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := fault.From(err); ok {
		return err // the node's own words
	}
	switch s := status.Convert(err); s.Code() {
	case codes.Unavailable:
		if f := o.why.Load(); f != nil {
			return f
		}
		return lost()
	case codes.ResourceExhausted:
		if f := o.tooLarge(s.Message()); f != nil {
			return f
		}
	}
	return err
}

// tooLarge reads how gRPC refuses a message by its size, at the node or here:
// it has no details, and is written before an interceptor could add them.
func (o *outgoing) tooLarge(message string) *fault.Error {
	_, sizes, ok := strings.Cut(message, "larger than max (")
	if !ok {
		return nil
	}
	f := &fault.Error{
		Code:    fault.InvalidRequest,
		Rule:    "message",
		Owner:   fault.Node,
		Message: "a message is larger than the lane allows",
		Hint:    "send or ask for less at once",
	}
	var size, limit uint64
	if _, err := fmt.Sscanf(sizes, "%d vs. %d", &size, &limit); err == nil {
		f.Message = fmt.Sprintf("a message of %d bytes is larger than the %d bytes that the lane allows", size, limit)
	}
	if o.lane != Bulk {
		f.Hint += ", or use the bulk lane"
	}
	return f
}

func unreachable(rule, message, hint string) *fault.Error {
	return &fault.Error{Code: fault.Unreachable, Rule: rule, Owner: fault.Agent, Message: message, Hint: hint}
}

func busy(rule, message string) *fault.Error {
	return &fault.Error{Code: fault.Busy, Rule: rule, Owner: fault.Node, Message: message, Hint: "try again later"}
}

func lost() *fault.Error {
	return unreachable("connection", "the connection to the node broke",
		"try again: the next call dials anew; what the node did with this one is not known")
}

func onlyRelayed() *fault.Error {
	return unreachable("relay", "there is only a relayed connection to the node, and it carries only small calls",
		"try again: a direct one may come up; if none does, the networks between do not let "+
			"one be made, and the node needs an address that can be dialed")
}

func errClosed() *fault.Error {
	return &fault.Error{
		Code:    fault.Cancelled,
		Rule:    "connection",
		Owner:   fault.Agent,
		Message: "the connection was closed here",
		Hint:    "dial again",
	}
}
