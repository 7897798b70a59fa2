package mesh

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-yamux/v5"
	"github.com/multiformats/go-multistream"
	"github.com/quic-go/quic-go"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/member"
)

// How two peers show each other their membership tokens: SPEC §8.2. It happens
// before libp2p has the connection, on a stream that is opened beneath it:
// while an unknown peer is heard there is nothing else for it to reach, no
// protocol, no handler, and no other part of this program knows that it is
// there.

const (
	// memberProtocol is the libp2p protocol id of the exchange.
	memberProtocol protocol.ID = "/liop/member/1.0.0"
	// knockTimeout bounds the exchange: two round trips on the worst line.
	knockTimeout = 5 * time.Second
)

// present shows our token to the peer that we dialed, and gets its own. With
// need, the peer must be a member.
func (m *members) present(c network.Conn, need bool) *fault.Error {
	mux, ok := muxerOf(c)
	if !ok {
		return noExchange()
	}
	ctx, cancel := context.WithTimeout(m.ctx, m.wait)
	defer cancel()
	stop := context.AfterFunc(ctx, mux.cut)
	defer stop()

	theirs, err := m.ask(ctx, mux)
	var unsupported multistream.ErrNotSupported[protocol.ID]
	switch {
	case errors.As(err, &unsupported): // not part of a closed mesh
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return unreachable("member", "the peer did not answer who it is in time", checkHint)
	case ctx.Err() != nil:
		return errClosed()
	case err != nil:
		return m.explain(err)
	}
	if !stop() { // cut a moment ago
		return lost()
	}
	if !need {
		return nil
	}
	if err := m.verify(c.RemotePeer(), theirs); err != nil {
		return m.stranger(c.RemotePeer(), err)
	}
	return nil
}

// explain is for an exchange that the peer ended.
func (m *members) explain(err error) *fault.Error {
	var (
		q    *quic.ApplicationError
		y    *yamux.GoAwayError
		idle *quic.IdleTimeoutError
		code network.ConnErrorCode
	)
	switch {
	case errors.Is(err, errFrame):
		return unreachable("member", "the peer's answer is not a membership token", "check that it is a liop node")
	case errors.As(err, &q):
		code = network.ConnErrorCode(q.ErrorCode)
	case errors.As(err, &y):
		code = network.ConnErrorCode(y.ErrorCode)
	case errors.As(err, &idle):
		return lost()
	}
	switch code {
	case network.ConnResourceLimitExceeded, network.ConnRateLimited:
		return busy("limits.max_conns", "the node has no room for another connection")
	}
	return m.denied() // over TCP a refusal need not look like one
}

// denied is what a refusal by the node means, and what to do about it.
func (m *members) denied() *fault.Error {
	f := &fault.Error{
		Code:    fault.Denied,
		Rule:    "peer",
		Owner:   fault.Node,
		Message: "the node refused the connection after the handshake",
		Hint: fmt.Sprintf("ask the owner to admit peer %s, or the mesh's operator for a membership token for it: "+
			"liop member issue --for %[1]s --mesh NAME", m.own),
	}
	if t, err := member.Inspect(m.token()); err == nil {
		f.Hint = fmt.Sprintf("the membership token shown is of operator %s for mesh %q: ask the owner whether those are right", t.Operator, t.Mesh)
		if !m.now().Before(t.Expires) {
			f.Hint = fmt.Sprintf("the membership token shown has expired: ask operator %s for a new one for peer %s", t.Operator, m.own)
		}
	}
	return f
}

// ask sends our token and reads theirs.
func (m *members) ask(ctx context.Context, mux muxer) (string, error) {
	s, err := mux.open(ctx)
	if err != nil {
		return "", err
	}
	defer s.Close()
	// Not with the token in the same packet: who does not know the protocol
	// would reset the stream over it, and its answer could be lost.
	if err := multistream.SelectProtoOrFail(memberProtocol, s); err != nil {
		return "", err
	}
	if err := writeFrame(s, m.token()); err != nil {
		return "", err
	}
	return readFrame(s)
}

// hear waits for a peer that nobody knows to present its token.
func (m *members) hear(c network.Conn) *fault.Error {
	mux, ok := muxerOf(c)
	if !ok {
		return noExchange()
	}
	ctx, cancel := context.WithTimeout(m.ctx, m.wait)
	defer cancel()
	ctx, leave := m.lobby.enter(ctx, c.RemoteMultiaddr())
	defer leave()
	stop := context.AfterFunc(ctx, mux.cut)
	defer stop()

	if err := m.answerFirst(ctx, mux, c); err != nil {
		return m.stranger(c.RemotePeer(), err)
	}
	if !stop() {
		return lost()
	}
	return nil
}

// answerFirst answers the first stream of a connection, if it is for a token.
func (m *members) answerFirst(ctx context.Context, mux muxer, c network.Conn) error {
	s, err := mux.accept(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	// Not Negotiate of multistream: it lets a peer ask for one protocol after
	// the other, and this one gets no second question.
	for _, want := range []protocol.ID{multistream.ProtocolID, memberProtocol} {
		got, err := multistream.ReadNextToken[protocol.ID](s)
		if err != nil {
			return err
		}
		if got != want {
			return errors.New("the first stream is not for a membership token")
		}
		if _, err := s.Write(delimited(want)); err != nil {
			return err
		}
	}
	token, err := readFrame(s)
	if err != nil {
		return err
	}
	if err := m.verify(c.RemotePeer(), token); err != nil {
		return err
	}
	letIn(c) // before the peer hears of it and opens more streams
	return writeFrame(s, m.token())
}

// delimited is a token of multistream-select: its length with the line's end as
// a varint, which is one byte for less than 128.
func delimited(p protocol.ID) []byte { return append(append([]byte{byte(len(p) + 1)}, p...), '\n') }

// serveKnown answers a peer that was let in without being heard. Its token, if
// it is good, counts from now on: it may be newer than the one before.
func (m *members) serveKnown(s network.Stream) {
	defer s.Close()
	if err := s.SetDeadline(time.Now().Add(m.wait)); err != nil {
		s.Reset()
		return
	}
	token, err := readFrame(s)
	if err != nil {
		s.Reset()
		return
	}
	if token != "" && len(m.Operators) > 0 {
		// Refused or not, the peer stays: something else let it in.
		_ = m.verify(s.Conn().RemotePeer(), token)
	}
	if err := writeFrame(s, m.token()); err != nil {
		s.Reset()
	}
}

// A frame is a length of two bytes, big-endian, and as many bytes of text.

var errFrame = errors.New("mesh: not a membership token")

func writeFrame(w io.Writer, token string) error {
	if len(token) > member.MaxToken {
		return fmt.Errorf("mesh: the own membership token has %d bytes, at most %d", len(token), member.MaxToken)
	}
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(token)), uint16(len(token)))
	_, err := w.Write(append(b, token...))
	return err
}

func readFrame(r io.Reader) (string, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return "", err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > member.MaxToken {
		return "", fmt.Errorf("%w: %d bytes, at most %d", errFrame, n, member.MaxToken)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", err
	}
	return string(b), nil
}

// stranger is the refusal of a peer that did not show a good token.
func (m *members) stranger(p peer.ID, err error) *fault.Error {
	message := "that peer is no member of this mesh"
	if f, ok := fault.From(err); ok && f.Code == fault.MemberInvalid {
		message += ": " + f.Message
	}
	return &fault.Error{Code: fault.Denied, Rule: "member", Owner: fault.Agent, Message: message,
		Hint: fmt.Sprintf("admit it here, or ask the mesh's operator for a membership token for it: "+
			"liop member issue --for %s --mesh %s", p, m.Mesh)}
}

func noExchange() *fault.Error {
	return unreachable("member", "the connection cannot carry membership tokens", "use an address with QUIC or TCP")
}

// muxer is a connection beneath libp2p, which has not got it yet.
type muxer interface {
	open(context.Context) (io.ReadWriteCloser, error)
	accept(context.Context) (io.ReadWriteCloser, error)
	cut() // ends all that waits
}

// muxerOf finds the QUIC connection, or the Yamux session on TCP or a relay.
func muxerOf(c network.Conn) (muxer, bool) {
	var q *quic.Conn
	if c.As(&q) {
		return quicMuxer{q}, true
	}
	var y *yamux.Session
	if c.As(&y) {
		return yamuxMuxer{y}, true
	}
	return nil, false
}

type quicMuxer struct{ conn *quic.Conn }

func (q quicMuxer) open(ctx context.Context) (io.ReadWriteCloser, error) {
	s, err := q.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return quicStream{s}, nil
}

func (q quicMuxer) accept(ctx context.Context) (io.ReadWriteCloser, error) {
	s, err := q.conn.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return quicStream{s}, nil
}

func (q quicMuxer) cut() { q.conn.CloseWithError(quic.ApplicationErrorCode(network.ConnGated), "") }

// quicStream closes both directions.
type quicStream struct{ *quic.Stream }

func (s quicStream) Close() error {
	s.CancelRead(0)
	return s.Stream.Close()
}

type yamuxMuxer struct{ session *yamux.Session }

func (y yamuxMuxer) open(ctx context.Context) (io.ReadWriteCloser, error) {
	s, err := y.session.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// accept ends with cut, since Yamux knows no contexts here.
func (y yamuxMuxer) accept(context.Context) (io.ReadWriteCloser, error) {
	s, err := y.session.AcceptStream()
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (y yamuxMuxer) cut() { y.session.CloseWithError(uint32(network.ConnGated)) }
