package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/liopv1"
	"github.com/liop-project/liop/core/receipt"
	"github.com/liop-project/liop/mesh"
	"github.com/liop-project/liop/node/admission"
	"github.com/liop-project/liop/node/dataset"
	"github.com/liop-project/liop/node/engine"
)

const (
	// ChunkBytes is how much of an answer one message carries.
	ChunkBytes = 128 << 10
	// maxStderrLog is how much of a guest's stderr the node's log keeps, in bytes.
	maxStderrLog = 512
)

// service implements LogicMesh. It decides nothing itself: policy is
// admission's, execution the engine's, proof the receipt's.
type service struct {
	liopv1.UnimplementedLogicMeshServer

	log      *slog.Logger
	id       *identity.Identity
	policy   *admission.Policy
	datasets map[string]*dataset.Dataset
	sessions *sessions
	budgets  *budgets
	sandbox  engine.Sandbox
	has      func(*engine.Job) bool
	now      func() time.Time
	draining atomic.Bool
}

func draining() error {
	return &fault.Error{Code: fault.Draining, Rule: "shutdown", Owner: fault.Node,
		Message: "the node is shutting down", Hint: "try another node, or later"}
}

// NegotiateIntent opens a session (SPEC §4).
func (s *service) NegotiateIntent(ctx context.Context, req *liopv1.IntentRequest) (*liopv1.IntentResponse, error) {
	caller, ok := mesh.Caller(ctx)
	if !ok {
		return nil, fmt.Errorf("call without a peer")
	}
	resp, err := s.negotiate(ctx, caller.ID, req)
	if f, ok := fault.From(err); ok {
		s.log.InfoContext(ctx, "session denied", "agent", caller.ID, "code", f.Code, "rule", f.Rule, "owner", f.Owner)
		return &liopv1.IntentResponse{ErrorMessage: f.Message, Denial: f.Proto()}, nil
	}
	return resp, err
}

func (s *service) negotiate(ctx context.Context, agent peer.ID, req *liopv1.IntentRequest) (*liopv1.IntentResponse, error) {
	if s.draining.Load() {
		return nil, draining()
	}
	if err := guest.ValidDatasets(req.Datasets); err != nil && len(req.Datasets) > 0 {
		return nil, err
	}
	d, err := s.policy.Decide(agent, req.Grant, req.Datasets, s.now())
	if err != nil {
		return nil, err
	}
	if err := grant.VerifyIntent(s.id.ID(), agent, d.Grant.Hash, req.Datasets, req.ProofOfIntent); err != nil {
		return nil, err
	}
	left, err := s.budgets.left(d)
	if err != nil {
		return nil, err
	}
	token, err := s.sessions.open(d)
	if err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "session opened", "agent", agent, "issuer", d.Grant.Issuer, "grant", d.Grant.ID, "datasets", d.Datasets)
	l := d.Limits
	return &liopv1.IntentResponse{
		Accepted:     true,
		SessionToken: token,
		SessionTtlMs: uint32(SessionTTL.Milliseconds()),
		Limits: &liopv1.Limits{MemoryBytes: l.MemoryBytes, WallMs: l.WallMS, OutputBytes: l.OutputBytes,
			InputBytes: l.InputBytes, ModuleBytes: l.ModuleBytes, Concurrency: l.Concurrency, Fuel: l.Fuel,
			RunsLeft: left, RunsLimited: true},
	}, nil
}

// ExecuteLogic runs one module in a session (SPEC §5).
func (s *service) ExecuteLogic(req *liopv1.LogicRequest, stream liopv1.LogicMesh_ExecuteLogicServer) error {
	ctx := stream.Context()
	caller, ok := mesh.Caller(ctx)
	if !ok {
		return fmt.Errorf("call without a peer")
	}
	d, err := s.sessions.use(req.SessionToken, caller.ID)
	if err != nil {
		return err
	}
	if s.draining.Load() {
		return draining()
	}
	job, err := s.job(d, req)
	if err != nil {
		return err
	}
	purse, leave, err := s.budgets.enter(d)
	if err != nil {
		return err
	}
	defer leave()
	if job.Wasm == nil && !s.has(job) {
		return engine.UnknownModule() // before the debit: the agent will call again with the bytes
	}
	if err := s.budgets.debit(ctx, purse, d); err != nil {
		return err
	}

	claim := &receipt.Claim{
		V: receipt.Version, Assurance: receipt.Signed, Outcome: receipt.OK,
		Node: s.id.ID(), Agent: caller.ID, Time: s.now().UnixMilli(), Nonce: req.Nonce,
		Module: job.Module, Args: guest.ArgsHash(req.Args), Stdin: sha256.Sum256(job.Stdin), Grant: d.Grant.Hash,
		Limits: receipt.Limits{MemoryBytes: d.Limits.MemoryBytes, WallMS: d.Limits.WallMS, OutputBytes: d.Limits.OutputBytes,
			InputBytes: d.Limits.InputBytes, ModuleBytes: d.Limits.ModuleBytes, Concurrency: d.Limits.Concurrency, Fuel: d.Limits.Fuel},
	}
	for _, name := range d.Datasets {
		ds := s.datasets[name]
		v, err := ds.Snapshot(ctx)
		if err != nil {
			return s.snapshotFault(ctx, name, err)
		}
		job.Mounts = append(job.Mounts, engine.Mount{Name: name, Dir: ds.Dir()})
		claim.Datasets = append(claim.Datasets, receipt.Dataset{Name: name, Commitment: v.Commitment,
			Basis: receipt.Basis(v.Basis), Files: uint64(v.Files), Bytes: uint64(v.Bytes)})
	}

	if req.WantProgress {
		// Only what a reader would notice: a run that neither waits nor
		// compiles has nothing to tell, and a message costs as much as a call.
		slow := false
		job.Progress = func(p liopv1.Phase) {
			if slow = slow || p != liopv1.Phase_PHASE_RUNNING; slow {
				stream.Send(&liopv1.LogicResponse{Progress: p})
			}
		}
	}
	s.log.InfoContext(ctx, "run started", "agent", caller.ID, "grant", d.Grant.ID,
		"module", hex.EncodeToString(job.Module[:8]), "datasets", d.Datasets)
	res, err := s.sandbox.Run(ctx, job)
	s.logRun(ctx, caller.ID, d, job, res, err)
	if neverBegan(err) {
		s.budgets.refund(purse)
	}
	if err != nil {
		return err
	}
	claim.Answer = receipt.Answer{Bytes: uint64(len(res.Answer)), SHA256: sha256.Sum256(res.Answer)}
	claim.Fuel, claim.Containment = res.Fuel, res.Containment.GetActive()
	for _, g := range res.Containment.GetGaps() {
		claim.Gaps = append(claim.Gaps, g.Feature)
	}
	jws, err := receipt.Sign(s.id.Ed25519(), claim)
	if err != nil {
		return fmt.Errorf("sign receipt: %w", err)
	}
	return s.reply(stream, res, claim, jws)
}

// neverBegan reports whether the engine refused a run before its module began,
// for a reason of the node's.
func neverBegan(err error) bool {
	f, ok := fault.From(err)
	return ok && (f.Code == fault.Busy || f.Rule == "engine.memory")
}

// job makes an engine job of a request, checking every field (SPEC §5.1, §5.2).
func (s *service) job(d *admission.Decision, req *liopv1.LogicRequest) (*engine.Job, error) {
	bad := func(field, msg, hint string) error {
		return &fault.Error{Code: fault.InvalidRequest, Rule: field, Owner: fault.Protocol, Message: msg, Hint: hint}
	}
	if n := len(req.Nonce); n < receipt.MinNonce || n > receipt.MaxNonce {
		return nil, bad("nonce", fmt.Sprintf("nonce has %d bytes", n), fmt.Sprintf("send %d to %d random bytes", receipt.MinNonce, receipt.MaxNonce))
	}
	if len(req.ModuleSha256) != 32 {
		return nil, bad("module_sha256", fmt.Sprintf("module_sha256 has %d bytes", len(req.ModuleSha256)), "send the 32 bytes of the module's SHA-256")
	}
	if err := guest.ValidArgs(req.Args); err != nil {
		return nil, err
	}
	if err := guest.ValidInputs(req.Inputs); err != nil {
		return nil, err
	}
	over := func(rule string, got int, max uint64) error {
		return &fault.Error{Code: fault.InvalidRequest, Rule: "limits." + rule, Owner: fault.Grant,
			Message: fmt.Sprintf("%d bytes are more than the %d that the session allows", got, max),
			Hint:    "send less, or ask for a grant with a larger " + rule}
	}
	if uint64(len(req.WasmBinary)) > d.Limits.ModuleBytes {
		return nil, over("module_bytes", len(req.WasmBinary), d.Limits.ModuleBytes)
	}
	j := &engine.Job{
		Module: [32]byte(req.ModuleSha256),
		Args:   req.Args,
		Stdin:  guest.Stdin(req.Inputs),
		Limits: engine.Limits{Memory: d.Limits.MemoryBytes, Output: d.Limits.OutputBytes,
			Wall: time.Duration(d.Limits.WallMS) * time.Millisecond, Fuel: d.Limits.Fuel},
		// An agent with two grants is two tenants: what one may see, the other
		// may not.
		Tenant: d.Agent.String() + "/" + key(d),
		// But it is one agent, and has one share.
		Agent: d.Agent.String(),
	}
	if len(req.WasmBinary) > 0 {
		j.Wasm = req.WasmBinary
	}
	if uint64(len(j.Stdin)) > d.Limits.InputBytes {
		return nil, over("input_bytes", len(j.Stdin), d.Limits.InputBytes)
	}
	return j, nil
}

func (s *service) reply(stream liopv1.LogicMesh_ExecuteLogicServer, res *engine.Result, claim *receipt.Claim, jws string) error {
	ms := func(d time.Duration) uint64 { return uint64((d + time.Millisecond - 1) / time.Millisecond) }
	last := &liopv1.LogicResponse{Receipt: jws, Stats: &liopv1.Stats{
		QueueMs: ms(res.Queue), CompileMs: ms(res.Compile), RunMs: ms(res.Run), ModuleCached: res.Cached, Fuel: res.Fuel}}
	for _, d := range claim.Datasets {
		last.Stats.DatasetBytes += d.Bytes
	}
	answer := res.Answer
	for len(answer) > ChunkBytes {
		if err := stream.Send(&liopv1.LogicResponse{AnswerChunk: answer[:ChunkBytes]}); err != nil {
			return err
		}
		answer = answer[ChunkBytes:]
	}
	last.AnswerChunk = answer
	return stream.Send(last)
}

// snapshotFault hides from the agent why a dataset cannot be read: that names
// files of the host.
func (s *service) snapshotFault(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.log.ErrorContext(ctx, "read dataset", "dataset", name, "error", err)
	return &fault.Error{Code: fault.Internal, Rule: "dataset", Owner: fault.Node,
		Message: fmt.Sprintf("dataset %q cannot be read at the moment", name), Hint: "tell the node's operator"}
}

// logRun is the operator's record of a run: who, what, on what, how it ended;
// never the answer.
func (s *service) logRun(ctx context.Context, agent peer.ID, d *admission.Decision, j *engine.Job, r *engine.Result, err error) {
	attrs := []slog.Attr{
		slog.String("agent", agent.String()), slog.String("grant", d.Grant.ID),
		slog.Any("datasets", d.Datasets), slog.String("module", hex.EncodeToString(j.Module[:8])),
	}
	outcome := "ok"
	if f, ok := fault.From(err); ok {
		outcome = string(f.Code)
		attrs = append(attrs, slog.String("rule", f.Rule))
	} else if err != nil {
		outcome = string(fault.Cancelled)
	}
	attrs = append(attrs, slog.String("outcome", outcome))
	if r != nil {
		attrs = append(attrs, slog.Int("answer_bytes", len(r.Answer)), slog.Bool("cached", r.Cached),
			slog.Duration("queue", r.Queue), slog.Duration("compile", r.Compile), slog.Duration("run", r.Run))
		if len(r.Stderr) > 0 {
			attrs = append(attrs, slog.String("stderr", string(r.Stderr[:min(len(r.Stderr), maxStderrLog)])))
		}
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "run", attrs...)
}
