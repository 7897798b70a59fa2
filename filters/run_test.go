package filters_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// Modules run in wazero here: these are tests of the modules, not of the
// engine that nodes use.

// An engine compiles each module once.
type engine struct {
	runtime wazero.Runtime

	mu       sync.Mutex
	compiled map[[sha256.Size]byte]wazero.CompiledModule
}

// plain returns the engine of all tests that want nothing special. It cannot
// interrupt a module.
var plain = sync.OnceValue(func() *engine { return newEngine(wazero.NewRuntimeConfig()) })

// newEngine makes an engine that lives as long as the process.
func newEngine(config wazero.RuntimeConfig) *engine {
	e := &engine{
		runtime:  wazero.NewRuntimeWithConfig(context.Background(), config),
		compiled: map[[sha256.Size]byte]wazero.CompiledModule{},
	}
	wasi_snapshot_preview1.MustInstantiate(context.Background(), e.runtime)
	return e
}

func (e *engine) compile(tb fataler, module []byte) wazero.CompiledModule {
	tb.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	key := sha256.Sum256(module)
	m, ok := e.compiled[key]
	if !ok {
		var err error
		if m, err = e.runtime.CompileModule(context.Background(), module); err != nil {
			tb.Fatal(err)
		}
		e.compiled[key] = m
	}
	return m
}

// A fataler is a testing.TB or a *rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

// A job is one run of a module.
type job struct {
	args   []string
	stdin  []byte
	data   map[string]string // datasets: name to directory
	stdout io.Writer         // nil collects it in the result
	stderr io.Writer
	rand   io.Reader

	// For modules that write, to be the dataset "set". (wazero lets modules
	// create files in directories mounted read-only; an fs.FS cannot.)
	fs       fs.FS
	writable string
}

type result struct {
	code           uint32
	err            error // a trap, or a failure to instantiate
	stdout, stderr string
}

func (e *engine) run(ctx context.Context, tb fataler, module []byte, j job) result {
	tb.Helper()
	var stdout, stderr bytes.Buffer
	if j.stdout == nil {
		j.stdout = &stdout
	}
	if j.stderr == nil {
		j.stderr = &stderr
	}
	mounts := wazero.NewFSConfig()
	for name, dir := range j.data {
		mounts = mounts.WithReadOnlyDirMount(dir, "/data/"+name)
	}
	if j.fs != nil {
		mounts = mounts.WithFSMount(j.fs, "/data/set")
	}
	if j.writable != "" {
		mounts = mounts.WithDirMount(j.writable, "/data/set")
	}
	config := wazero.NewModuleConfig().WithName("").WithFSConfig(mounts).
		WithArgs(append([]string{"filter"}, j.args...)...).
		WithStdin(bytes.NewReader(j.stdin)).WithStdout(j.stdout).WithStderr(j.stderr)
	if j.rand != nil {
		config = config.WithRandSource(j.rand)
	}
	instance, err := e.runtime.InstantiateModule(ctx, e.compile(tb, module), config)
	if instance != nil {
		instance.Close(ctx)
	}
	r := result{stdout: stdout.String(), stderr: stderr.String()}
	var exit *sys.ExitError
	if errors.As(err, &exit) {
		r.code = exit.ExitCode()
	} else {
		r.err = err
	}
	return r
}

// answer runs a module and returns its answer. It fails the test unless the
// module exits with code 0 and keeps silent on stderr.
func (e *engine) answer(tb testing.TB, module []byte, j job) string {
	tb.Helper()
	r := e.run(context.Background(), tb, module, j)
	if r.err != nil || r.code != 0 || r.stderr != "" {
		tb.Fatalf("%q: code %d, error %v, stderr %q", j.args, r.code, r.err, r.stderr)
	}
	return r.stdout
}

// refusal runs a module and returns its message. It fails the test unless the
// module exits with code 1 and answers nothing.
func (e *engine) refusal(tb testing.TB, module []byte, j job) string {
	tb.Helper()
	r := e.run(context.Background(), tb, module, j)
	if r.err != nil || r.code != 1 || r.stdout != "" {
		tb.Fatalf("%q: code %d, error %v, stdout %q, want code 1 and no answer", j.args, r.code, r.err, r.stdout)
	}
	return r.stderr
}

// write makes a dataset's directory of these files.
func write(tb testing.TB, files map[string]string) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// publicData copies a file of the public tables that lie beside the
// repository's folder, or skips the test.
func publicData(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "shared", "data", name))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("no public data: ../../shared/data/%s is not there", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return write(t, map[string]string{name: string(b)})
}

func decode(tb testing.TB, text string, into any) {
	tb.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		tb.Fatalf("%v in %.1000q", err, text)
	}
}
