// Package client is the agent's side: it connects to a data node, opens a
// session with a grant, pushes logic, and verifies the receipt of each answer
// before it hands the answer out.
//
//	c, err := client.Dial(ctx, node, client.Options{Identity: id, Grant: chain})
//	if err != nil { … }
//	defer c.Close()
//	answer, err := c.Run(ctx, client.Request{Module: wasm, Args: []string{"--by", "region"}})
//
// Errors that come from the node or the connection are *fault.Error: they say
// what was refused, by whose rule, and what to do. The package needs no cgo.
package client

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/liopv1"
	"github.com/liop-project/liop/core/receipt"
	"github.com/liop-project/liop/mesh"
)

const (
	// MaxAnswer bounds what a node can make a client hold, in bytes, whatever
	// limit the node names.
	MaxAnswer = 64 << 20
	// controlRequest is the largest request sent on the control lane, in bytes:
	// larger ones would delay the small calls of others.
	controlRequest = 64 << 10
	// DefaultRetries is how often Run tries again while the node is busy, unless
	// Options say otherwise. Each wait is at most fault.MaxRetryAfter and a half.
	DefaultRetries = 3
	// DefaultReconnect is how long a Run goes on trying to reach a node that has
	// gone away, unless Options say otherwise: a node restarts in less.
	DefaultReconnect = 15 * time.Second
)

// Phase is what a Run or Dial is busy with.
type Phase string

const (
	Dialing     Phase = "dialing"
	Negotiating Phase = "negotiating"
	Pushing     Phase = "pushing"
	Queued      Phase = "queued"
	Compiling   Phase = "compiling"
	Running     Phase = "running"
	Waiting     Phase = "waiting" // to try again, because the node is busy
)

// Options of Dial. Identity and Grant are required.
type Options struct {
	// Identity is who the agent is. The grant must be for it.
	Identity *identity.Identity
	// Grant is what `liop grant issue` writes. It may be several, with white space
	// between them: then each node gets the one that is for it.
	Grant string
	// Datasets to open; default: all that the grant names without a pattern, or
	// the one that is dialed by its name.
	Datasets []string
	// Mesh finds nodes that are dialed by peer id, or by the name of a dataset.
	Mesh *Mesh
	// Pick says which of several nodes is asked that serve the dataset which is
	// dialed by its name. Default First.
	Pick Pick
	// Progress, if not nil, hears of each phase as it begins, with the bytes of
	// the module in Pushing, from the goroutine of the call.
	Progress func(p Phase, bytes int)
	// Retries is how often a Run is tried again when the node is busy, each time
	// after as long as the node says, and a random time on top. Default
	// DefaultRetries; -1 for never. A node that is busy has not run anything, and
	// no try but the last counts against the grant. Run never waits longer than
	// its ctx lasts: if that is too short, it returns the refusal at once.
	Retries int
	// Reconnect is how long a Run goes on trying when the node is gone: it
	// restarts, or moved. Only what cannot have begun is tried again; see Run.
	// Default DefaultReconnect; -1 for not at all.
	Reconnect time.Duration
	// Member is the agent's membership token, for nodes of a closed mesh, as
	// `liop member issue` writes it; default: none. It is shown to each node that
	// the client dials. Not with Host or Mesh, which have their own.
	Member string
	// Host to use, so that several clients share one; default: that of Mesh, or
	// one of its own.
	Host *mesh.Host
	Log  *slog.Logger
}

// Client is a session with one node. It is safe for concurrent use.
type Client struct {
	o         Options
	agent     peer.ID
	grantHash [32]byte
	host      *mesh.Host
	ownHost   bool
	conn      *mesh.Conn

	mu      sync.Mutex
	session *liopv1.IntentResponse
}

// Dial connects to a node, proves that it is that node, and opens a session. The
// node is a multiaddr that ends in /p2p/ID, or, with Options.Mesh, a peer id, or
// @NAME for a node that serves the dataset of that name: then whom the agent asks
// is decided as of SPEC §10.4. The caller must Close the client.
func Dial(ctx context.Context, node string, o Options) (*Client, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	grants, err := readGrants(o.Grant)
	if err != nil {
		return nil, err
	}
	if err := ValidNode(node); err != nil {
		return nil, err
	}
	name, byName := strings.CutPrefix(node, "@")
	if o.Mesh == nil && (byName || !strings.HasPrefix(node, "/")) {
		return nil, &fault.Error{Code: fault.InvalidRequest, Rule: "bootstrap", Owner: fault.Agent,
			Message: "no peer of the mesh is known that could find " + node, Hint: "name one with its multiaddr, or use the node's multiaddr"}
	}
	if byName {
		return o.Mesh.dialDataset(ctx, name, o, grants)
	}
	o.Progress(Dialing, 0)
	var info peer.AddrInfo
	if o.Mesh != nil {
		info, err = o.Mesh.Locate(ctx, node)
	} else {
		info, err = mesh.ParseAddr(node)
	}
	if err != nil {
		return nil, err
	}
	return connect(ctx, info, o, sortedGrants(grants, info.ID)[0], mesh.DialTimeout)
}

// complete checks o and fills in the defaults.
func (o *Options) complete() error {
	if o.Identity == nil {
		return errors.New("client: Options.Identity is missing")
	}
	switch o.Pick {
	case "":
		o.Pick = First
	case First, Nearest:
	default:
		return fmt.Errorf("client: Options.Pick is %q, want %q or %q", o.Pick, First, Nearest)
	}
	if o.Member != "" && (o.Host != nil || o.Mesh != nil) {
		return errors.New("client: Options.Member is set, and so is Host or Mesh; give the token to that")
	}
	if o.Progress == nil {
		o.Progress = func(Phase, int) {}
	}
	switch {
	case o.Retries == 0:
		o.Retries = DefaultRetries
	case o.Retries < 0:
		o.Retries = 0
	}
	if o.Reconnect == 0 {
		o.Reconnect = DefaultReconnect
	}
	if o.Host == nil && o.Mesh != nil {
		o.Host = o.Mesh.host
	}
	return nil
}

// connect opens a session with the node at info, which must be reached within
// dialTime.
func connect(ctx context.Context, info peer.AddrInfo, o Options, g *held, dialTime time.Duration) (_ *Client, err error) {
	o.Grant = g.text
	if len(o.Datasets) == 0 {
		for _, d := range g.Datasets {
			if guest.ValidDataset(d) == nil {
				o.Datasets = append(o.Datasets, d)
			}
		}
	}
	if err := guest.ValidDatasets(o.Datasets); err != nil {
		return nil, err
	}
	c := &Client{o: o, agent: o.Identity.ID(), grantHash: g.Hash, host: o.Host}
	if c.host == nil {
		// Punching takes a port that is open, and is for nothing on a direct way.
		reach := mesh.Reach{DialRelays: true, HolePunch: slices.ContainsFunc(info.Addrs, isRelayed)}
		if c.host, err = newHost(o.Identity, o.Member, o.Log, reach, nil); err != nil {
			return nil, err
		}
		c.ownHost = true
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	dial, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	if c.conn, err = c.host.DialInfo(dial, info); err != nil {
		return nil, err
	}
	if _, err = c.negotiate(ctx, nil); err != nil {
		return nil, err
	}
	return c, nil
}

// resolver finds addresses of a peer that is not where it was.
type resolver = func(context.Context, peer.ID) ([]ma.Multiaddr, error)

func isRelayed(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

// newHost is an agent's, which shows its membership token if it has one.
func newHost(id *identity.Identity, token string, log *slog.Logger, r mesh.Reach, resolve resolver) (*mesh.Host, error) {
	c := mesh.Config{Key: id.Key(), Log: log, Reach: r, Resolve: resolve}
	if token != "" {
		c.Members.Token = func() string { return token }
	}
	return mesh.New(c)
}

// Close ends the session and the connection.
func (c *Client) Close() error {
	var errs []error
	if c.conn != nil {
		errs = append(errs, c.conn.Close())
	}
	if c.ownHost {
		errs = append(errs, c.host.Close())
	}
	return errors.Join(errs...)
}

// Conn is the connection to the node.
func (c *Client) Conn() *mesh.Conn { return c.conn }

// Limits are what the session may use.
func (c *Client) Limits() *liopv1.Limits {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.Limits
}

// Datasets are those of the session.
func (c *Client) Datasets() []string { return c.o.Datasets }

// negotiate opens a session, unless another call has replaced old already.
func (c *Client) negotiate(ctx context.Context, old *liopv1.IntentResponse) (*liopv1.IntentResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != old {
		return c.session, nil
	}
	c.o.Progress(Negotiating, 0)
	node := c.conn.Peer()
	proof := grant.SignIntent(c.o.Identity.Ed25519(), node, c.agent, c.grantHash, c.o.Datasets)
	resp, err := liopv1.NewLogicMeshClient(c.conn.Lane(mesh.Control)).NegotiateIntent(ctx, &liopv1.IntentRequest{
		AgentDid: "did:liop:" + c.agent.String(), ProofOfIntent: proof, Grant: c.o.Grant, Datasets: c.o.Datasets,
	})
	switch {
	case err != nil:
		return nil, explain(ctx, err)
	case !resp.Accepted && resp.Denial != nil:
		return nil, fault.FromProto(resp.Denial)
	case !resp.Accepted:
		return nil, &fault.Error{Code: fault.Denied, Rule: "intent", Owner: fault.Node, Message: "the node says: " + resp.ErrorMessage}
	case resp.Limits == nil || resp.SessionToken == "":
		return nil, unverified("limits", "the node accepted without a session token or limits")
	}
	c.session = resp
	return resp, nil
}

// Request is one run of a module.
type Request struct {
	Module []byte            // WebAssembly, a wasip1 command
	Args   []string          // after argv[0]
	Inputs map[string][]byte // on stdin, see SPEC §5.2
}

// Answer is what a run gave, verified.
type Answer struct {
	Bytes   []byte
	Receipt string         // compact JWS, to be kept
	Claim   *receipt.Claim // what the receipt says
	Stats   *liopv1.Stats  // the node's word, not signed
	Limits  *liopv1.Limits // of the session
	Pushed  int            // bytes of the module that were sent, 0 if the node had it
}

// Run pushes the module, or only its hash if the node has it, and returns the
// answer after its receipt was verified: signed by this node, for this agent,
// nonce, module, arguments, inputs, datasets and grant. Cancelling ctx cancels
// the run on the node.
//
// A node that is busy is asked again, see Options.Retries. One that went away is
// asked again when it is back, within Options.Reconnect, if the run cannot have
// begun there. If it can have, Run does not know whether it counts against the
// grant, and returns an error with code Unreachable and rule "run".
func (c *Client) Run(ctx context.Context, r Request) (*Answer, error) {
	if err := guest.ValidArgs(r.Args); err != nil {
		return nil, err
	}
	if err := guest.ValidInputs(r.Inputs); err != nil {
		return nil, err
	}
	c.mu.Lock()
	session := c.session
	c.mu.Unlock()

	module := sha256.Sum256(r.Module)
	var nonce [32]byte
	rand.Read(nonce[:])
	req := &liopv1.LogicRequest{SessionToken: session.SessionToken, ModuleSha256: module[:], Args: r.Args,
		Inputs: r.Inputs, Nonce: nonce[:], WantProgress: true}

	a, err := c.try(ctx, r.Module, req, &session)
	p := patience{c: c}
	for p.again(ctx, err) {
		a, err = c.try(ctx, r.Module, req, &session)
	}
	if err != nil {
		return nil, explain(ctx, err)
	}
	a.Limits, a.Pushed = session.Limits, len(req.WasmBinary)
	if a.Claim, err = receipt.Parse(a.Receipt); err != nil {
		return nil, err
	}
	if err := a.Claim.Check(receipt.Expect{
		Node: c.conn.Peer(), Agent: c.agent, Module: module, Args: r.Args, Stdin: guest.Stdin(r.Inputs), Answer: a.Bytes,
		Nonce: nonce[:], Datasets: c.o.Datasets, Grant: c.grantHash,
	}); err != nil {
		return nil, err
	}
	return a, nil
}

// try runs req in a session. The node may have lost that (the connection broke)
// and may not have the module; each is mended once.
func (c *Client) try(ctx context.Context, module []byte, req *liopv1.LogicRequest, session **liopv1.IntentResponse) (*Answer, error) {
	c.o.Progress(Running, 0) // unless the node says that something else comes first
	a, err := c.execute(ctx, req)
	for range 2 {
		f, ok := fault.From(err)
		if !ok {
			break
		}
		if f.Code == fault.SessionUnknown {
			fresh, err := c.negotiate(ctx, *session)
			if err != nil {
				return nil, &unbegun{err}
			}
			*session, req.SessionToken = fresh, fresh.SessionToken
		} else if f.Code == fault.ModuleUnknown && req.WasmBinary == nil {
			if most := (*session).Limits.ModuleBytes; uint64(len(module)) > most {
				return nil, &fault.Error{Code: fault.InvalidRequest, Rule: "limits.module_bytes", Owner: fault.Grant,
					Message: fmt.Sprintf("the module has %d bytes, the session allows %d", len(module), most),
					Hint:    "make it smaller (strip symbols), or ask for a grant with a larger module_bytes"}
			}
			req.WasmBinary = module
			c.o.Progress(Pushing, len(module))
		} else {
			break
		}
		a, err = c.execute(ctx, req)
	}
	return a, err
}

// execute makes one call and collects what it streams.
func (c *Client) execute(ctx context.Context, req *liopv1.LogicRequest) (*Answer, error) {
	lane := mesh.Control
	if size := len(req.WasmBinary) + inputBytes(req.Inputs); size > controlRequest {
		lane = mesh.Bulk
	}
	ctx, cancel := context.WithCancel(ctx) // ends the stream on every way out
	defer cancel()
	stream, err := liopv1.NewLogicMeshClient(c.conn.Lane(lane)).ExecuteLogic(ctx, req)
	if err != nil {
		return nil, &unbegun{err} // gRPC found no connection to send it on
	}
	limit := min(c.Limits().OutputBytes, MaxAnswer)
	a := &Answer{Bytes: []byte{}}
	phase := liopv1.Phase_PHASE_UNSPECIFIED
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, broke(err, phase)
		}
		if a.Receipt != "" {
			return nil, unverified("stream", "the node went on after the receipt")
		}
		if m.Progress != liopv1.Phase_PHASE_UNSPECIFIED {
			phase = m.Progress
		}
		switch m.Progress {
		case liopv1.Phase_PHASE_QUEUED:
			c.o.Progress(Queued, 0)
		case liopv1.Phase_PHASE_COMPILING:
			c.o.Progress(Compiling, 0)
		case liopv1.Phase_PHASE_RUNNING:
			c.o.Progress(Running, 0)
		}
		if uint64(len(a.Bytes)+len(m.AnswerChunk)) > limit {
			return nil, unverified("answer", fmt.Sprintf("the node sent more than the %d bytes of the session's limit", limit))
		}
		a.Bytes = append(a.Bytes, m.AnswerChunk...)
		a.Receipt, a.Stats = m.Receipt, m.Stats
	}
	if a.Receipt == "" {
		return nil, unverified("receipt", "the node sent an answer without a receipt")
	}
	return a, nil
}

func inputBytes(in map[string][]byte) int {
	n := 0
	for k, v := range in {
		n += len(k) + len(v)
	}
	return n
}

func unverified(rule, msg string) error {
	return &fault.Error{Code: fault.Unverified, Rule: rule, Owner: fault.Protocol, Message: msg, Hint: "do not trust this node's answer"}
}

// explain makes the errors of a call errors for a reader.
func explain(ctx context.Context, err error) error {
	if f, ok := fault.From(err); ok {
		return f
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	st, _ := status.FromError(err)
	switch st.Code() {
	case codes.Unavailable:
		return &fault.Error{Code: fault.Unreachable, Rule: "connection", Owner: fault.Node,
			Message: "the connection to the node broke", Hint: "check that the node runs, and try again"}
	case codes.Canceled, codes.DeadlineExceeded:
		return &fault.Error{Code: fault.Cancelled, Rule: "context", Owner: fault.Agent, Message: "the call was cancelled"}
	}
	return fmt.Errorf("call to the node: %w", err)
}
