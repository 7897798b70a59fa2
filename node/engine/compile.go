package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/sandbox/wire"
)

func sum(b []byte) [32]byte { return sha256.Sum256(b) }

// hexID is how a module is named in logs.
func hexID(m [32]byte) string { return hex.EncodeToString(m[:8]) }

// compile makes the artifact of j's module and returns its path. Calls of one
// agent with the same module share one compilation, which goes on if they leave:
// the next one wants it too, and it is bounded. Those of another agent do not
// share it: they would wait for the first one's turn.
func (e *Engine) compile(ctx context.Context, j *Job) (string, error) {
	id := j.artifact()
	ch := e.compiles.DoChan(string(id[:])+j.agent(), func() (any, error) {
		if !e.begin() {
			return "", closed()
		}
		defer e.busy.Done()
		turn, err := e.compilers.enter(e.life, claim{agent: j.agent()}, func() {})
		if err != nil {
			if e.life.Err() != nil {
				err = closed()
			}
			return "", err
		}
		defer e.compilers.leave(turn)
		if path, ok := e.cache.get(id); ok { // by now
			return path, nil
		}
		artifact, err := e.compileIn(j.Wasm, j.Limits.Fuel > 0)
		if err != nil {
			return "", err
		}
		path, err := e.cache.put(id, artifact)
		if err != nil {
			e.log.Error("store compiled module", "module", hexID(j.Module), "bytes", len(artifact), "error", err)
			return "", &fault.Error{Code: fault.Internal, Rule: "cache", Owner: fault.Node,
				Message: "the node has no room to keep the compiled module",
				Hint:    "tell the node's operator; modules that the node has already still run"}
		}
		return path, nil
	})
	select {
	case r := <-ch:
		if r.Err != nil {
			return "", r.Err
		}
		return r.Val.(string), nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// compileIn has one module compiled in a worker of its own.
func (e *Engine) compileIn(wasm []byte, fuel bool) ([]byte, error) {
	w, err := e.spawner.start(wire.CompilerName)
	if err != nil {
		e.log.Error("start compiler", "error", err)
		return nil, noWorker()
	}
	defer w.kill()
	if err := setNice(w, bounds.Nice); err != nil {
		e.log.Warn("lower a compiler's priority", "error", err)
	}
	stop := context.AfterFunc(e.life, w.kill)
	defer stop()
	w.sock.SetDeadline(time.Now().Add(bounds.CompileWall * e.maxTime))

	var done wire.Compiled
	err = w.conn.Send(&wire.Compile{MaxArtifactBytes: uint64(e.maxArtifact), CpuSeconds: uint64(e.maxTime / time.Second), Fuel: fuel}, wasm)
	if err == nil {
		err = w.conn.Recv(&done)
	}
	if err == nil && !done.Ok {
		return nil, &fault.Error{Code: fault.ModuleInvalid, Rule: "compile", Owner: fault.Node,
			Message: "the module does not compile: " + done.Message,
			Hint:    "build it as a wasip1 command, without SIMD, threads or other extensions"}
	}
	var artifact []byte
	if err == nil {
		artifact, err = w.conn.RecvRaw(e.maxArtifact)
	}
	if err != nil {
		if e.life.Err() != nil {
			return nil, closed()
		}
		// Too slow, too large, or the compiler died of it: the module's doing.
		e.log.Warn("compiler ended without a result", "error", err, "stderr", w.lastWords())
		return nil, &fault.Error{Code: fault.LimitCompile, Rule: "compile", Owner: fault.Node,
			Message: fmt.Sprintf("compiling the module takes more time or memory than allowed (%s of CPU time)", e.maxTime),
			Hint:    "use smaller functions with fewer locals and less nesting"}
	}
	return artifact, nil
}

// noWorker is all that an agent is told of why a worker could not be started.
func noWorker() error {
	return &fault.Error{Code: fault.Internal, Rule: "worker", Owner: fault.Node,
		Message: "the node could not start a worker", Hint: "try again; if it persists, tell the node's operator"}
}

func closed() error {
	return &fault.Error{Code: fault.Draining, Rule: "shutdown", Owner: fault.Node,
		Message: "the node is shutting down", Hint: "try another node, or later"}
}
