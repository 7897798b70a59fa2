//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/client/attack"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/liopv1"
	"github.com/liop-project/liop/filters"
	"github.com/liop-project/liop/mesh"
	"github.com/liop-project/liop/node"
	"github.com/liop-project/liop/node/sandbox/testdata/hostile"
)

// owner is a node in this process, with real workers, and its owner's key.
type owner struct {
	id   *identity.Identity
	node *node.Node
	log  *syncBuffer
	addr map[string]string // by transport
}

func startOwner(t testing.TB, change func(*node.Config)) *owner {
	t.Helper()
	home, data := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "d.csv"), []byte("k,v\na,1\nb,2\na,3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &owner{id: identity.Generate(), log: &syncBuffer{more: make(chan struct{}, 1)}, addr: map[string]string{}}
	c := node.Config{Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"},
		Datasets: []node.Dataset{{Name: "d", Dir: data}}}
	if change != nil {
		change(&c)
	}
	n, err := node.Start(t.Context(), home, o.id, c, slog.New(slog.NewJSONHandler(o.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	o.node = n
	t.Cleanup(func() { n.Close() })
	for _, a := range n.Addrs() {
		if strings.Contains(a, "quic") {
			o.addr["quic"] = a
		} else {
			o.addr["tcp"] = a
		}
	}
	return o
}

func (o *owner) grant(t testing.TB, agent *identity.Identity, l grant.Limits) string {
	t.Helper()
	chain, err := grant.Issue(o.id.Ed25519(), grant.Spec{Holder: agent.ID(), Audience: o.id.ID().String(), Datasets: []string{"d"}, Limits: l}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func (o *owner) dial(t testing.TB, transport string, l grant.Limits) *client.Client {
	t.Helper()
	agent := identity.Generate()
	// What the node refuses is what the tests are about.
	c, err := client.Dial(t.Context(), o.addr[transport], client.Options{Identity: agent, Grant: o.grant(t, agent, l), Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func testGuest(t testing.TB, name string) []byte {
	t.Helper()
	wasm, ok := filters.TestGuest(name)
	if !ok {
		if wasm, ok = hostile.Module(name); !ok {
			t.Fatalf("there is no module %s", name)
		}
	}
	return wasm
}

func TestAnswersOnBothTransports(t *testing.T) {
	o := startOwner(t, nil)
	for transport := range o.addr {
		t.Run(transport, func(t *testing.T) {
			c := o.dial(t, transport, grant.Limits{OutputBytes: 4 << 20, InputBytes: 4 << 20})
			if c.Conn().Transport() != transport {
				t.Errorf("connected by %s", c.Conn().Transport())
			}
			// Large enough for the bulk lane and for many chunks of the answer.
			in := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
			for range 2 {
				a, err := c.Run(t.Context(), client.Request{Module: testGuest(t, "echo"), Args: []string{"x"}, Inputs: map[string][]byte{"k": in}})
				if err != nil {
					t.Fatal(err)
				}
				if want := fmt.Sprintf("x\n1:k,%d:%s,", len(in), in); string(a.Bytes) != want {
					t.Fatalf("answer of %d bytes, want %d", len(a.Bytes), len(want))
				}
				if len(a.Claim.Containment) == 0 {
					t.Error("the receipt names no containment")
				}
			}
		})
	}
}

func TestManyAtOnce(t *testing.T) {
	o := startOwner(t, nil)
	c := o.dial(t, "quic", grant.Limits{})
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			a, err := c.Run(t.Context(), client.Request{Module: testGuest(t, "echo"), Args: []string{fmt.Sprint(n)}})
			if err != nil {
				t.Error(err)
			} else if string(a.Bytes) != fmt.Sprintf("%d\n", n) {
				t.Errorf("run %d answered %q", n, a.Bytes)
			}
		})
	}
	wg.Wait()
}

func TestConcurrencyLimit(t *testing.T) {
	o := startOwner(t, nil)
	c := o.dial(t, "quic", grant.Limits{Concurrency: 1})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { _, err := c.Run(ctx, client.Request{Module: testGuest(t, "loop")}); ended <- err }()
	o.log.wait(t, "run started")
	if _, err := c.Run(t.Context(), client.Request{Module: testGuest(t, "hello")}); !errors.Is(err, &fault.Error{Code: fault.Busy, Rule: "limits.concurrency"}) {
		t.Errorf("got %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// The client is gone, so its run is, too: there is room again at once.
	o.log.wait(t, `"outcome":"cancelled"`)
	if _, err := c.Run(t.Context(), client.Request{Module: testGuest(t, "hello")}); err != nil {
		t.Error(err)
	}
}

// An agent in a hurry, with one run at a time in its grant and a client that
// waits when told to, gets all its answers, and pays for each once.
func TestBusyIsTriedAgain(t *testing.T) {
	o := startOwner(t, nil)
	agent := identity.Generate()
	const runs = 6
	c, err := client.Dial(t.Context(), o.addr["quic"], client.Options{Identity: agent, Retries: 1000,
		Grant: o.grant(t, agent, grant.Limits{Concurrency: 1, Runs: runs})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	var wg sync.WaitGroup
	for range runs {
		wg.Go(func() {
			if _, err := c.Run(t.Context(), client.Request{Module: testGuest(t, "hello")}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := c.Run(t.Context(), client.Request{Module: testGuest(t, "hello")}); !errors.Is(err, &fault.Error{Code: fault.LimitRuns}) {
		t.Errorf("one run more than the grant allows: %v", err)
	}
}

// A run that the node had no room for is not taken from the grant, and one that
// it never has room for names whose rule that is.
func TestRefusedRunsAreFree(t *testing.T) {
	o := startOwner(t, func(c *node.Config) { c.Engine.Memory = 256 << 20 })
	c := o.dial(t, "tcp", grant.Limits{MemoryBytes: 512 << 20, Runs: 2})
	for range 5 {
		_, err := c.Run(t.Context(), client.Request{Module: testGuest(t, "hello")})
		f, ok := fault.From(err)
		if !ok || f.Code != fault.LimitMemory || f.Rule != "engine.memory" || f.Owner != fault.Node || f.Hint == "" {
			t.Fatalf("got %+v", err)
		}
	}
}

// The acceptance test fails where a node does what it must not: here the
// expectation is wrong, and the node right, which looks the same.
func TestAttackThatGetsThrough(t *testing.T) {
	o := startOwner(t, nil)
	stopped := hostile.Expect{Words: "stopped", Faults: []hostile.Refusal{{Code: fault.LimitTime}}}
	attacks := []hostile.Attack{
		{Name: "answered", Class: hostile.IO, Wasm: func() []byte { return testGuest(t, "hello") }, Expect: stopped},
		{Name: "refused", Class: hostile.IO, Wasm: func() []byte { return testGuest(t, "sock") }, Expect: stopped},
		{Name: "right", Class: hostile.CPU, Wasm: func() []byte { return testGuest(t, "loop") }, Expect: stopped},
	}
	l := grant.Limits{WallMS: 200}
	s, err := attack.Run(t.Context(), o.dial(t, "quic", l), o.dial(t, "tcp", l), attacks, attack.Options{Late: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range s.Failed() {
		got[r.Name] = r.Got
	}
	want := map[string]string{"answered": `got through: answered "hello\n"`, "refused": "module_invalid by imports"}
	if s.Passed() || !maps.Equal(got, want) {
		t.Errorf("failed: %q, want %q", got, want)
	}

	// And where the node ends.
	attacks = attacks[2:]
	attacks[0].Wasm = func() []byte {
		o.node.Close()
		return testGuest(t, "loop")
	}
	s, err = attack.Run(t.Context(), o.dial(t, "quic", l), o.dial(t, "tcp", l), attacks, attack.Options{Late: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if s.Passed() || s.Gone == "" {
		t.Errorf("the node ended, and the summary says %+v", s)
	}
}

// wait returns when the log has text.
func (s *syncBuffer) wait(t testing.TB, text string) {
	t.Helper()
	late := time.After(30 * time.Second)
	for !strings.Contains(s.String(), text) {
		select {
		case <-s.more:
		case <-late:
			t.Fatalf("the log never had %q: %s", text, s)
		}
	}
}

// raw is an agent that speaks the protocol without the client's good manners.
type raw struct {
	liopv1.LogicMeshClient
	agent *identity.Identity
	host  *mesh.Host
}

func (o *owner) raw(t *testing.T) *raw {
	t.Helper()
	agent := identity.Generate()
	h, err := mesh.New(mesh.Config{Key: agent.Key()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	c, err := h.Dial(t.Context(), o.addr["quic"])
	if err != nil {
		t.Fatal(err)
	}
	return &raw{liopv1.NewLogicMeshClient(c.Lane(mesh.Bulk)), agent, h}
}

func (r *raw) open(t *testing.T, o *owner, l grant.Limits) string {
	t.Helper()
	resp, err := r.NegotiateIntent(t.Context(), r.intent(t, o, l))
	if err != nil || !resp.Accepted {
		t.Fatalf("negotiate: %v, %v", resp, err)
	}
	return resp.SessionToken
}

func (r *raw) intent(t *testing.T, o *owner, l grant.Limits) *liopv1.IntentRequest {
	chain := o.grant(t, r.agent, l)
	hash := sha256.Sum256([]byte(chain))
	return &liopv1.IntentRequest{Grant: chain, Datasets: []string{"d"},
		ProofOfIntent: grant.SignIntent(r.agent.Ed25519(), o.id.ID(), r.agent.ID(), hash, []string{"d"})}
}

func request(token string, wasm []byte) *liopv1.LogicRequest {
	module := sha256.Sum256(wasm)
	nonce := make([]byte, 32)
	rand.Read(nonce)
	return &liopv1.LogicRequest{SessionToken: token, WasmBinary: wasm, ModuleSha256: module[:], Nonce: nonce}
}

func (r *raw) run(t *testing.T, req *liopv1.LogicRequest) error {
	t.Helper()
	s, err := r.ExecuteLogic(t.Context(), req)
	for err == nil {
		_, err = s.Recv()
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func TestBadRequests(t *testing.T) {
	o := startOwner(t, nil)
	r := o.raw(t)
	hello := testGuest(t, "hello")
	token := r.open(t, o, grant.Limits{ModuleBytes: 100 << 10, InputBytes: 1000})
	other := o.raw(t)
	for _, tc := range []struct {
		name   string
		change func(*liopv1.LogicRequest)
		code   fault.Code
		rule   string
	}{
		{"good", func(*liopv1.LogicRequest) {}, "", ""},
		{"no session", func(q *liopv1.LogicRequest) { q.SessionToken = "" }, fault.SessionUnknown, "session_token"},
		{"session of nobody", func(q *liopv1.LogicRequest) { q.SessionToken = strings.Repeat("A", 43) }, fault.SessionUnknown, "session_token"},
		{"session of another peer", func(q *liopv1.LogicRequest) { q.SessionToken = other.open(t, o, grant.Limits{}) }, fault.SessionUnknown, "session_token"},
		{"short nonce", func(q *liopv1.LogicRequest) { q.Nonce = q.Nonce[:15] }, fault.InvalidRequest, "nonce"},
		{"long nonce", func(q *liopv1.LogicRequest) { q.Nonce = make([]byte, 65) }, fault.InvalidRequest, "nonce"},
		{"no hash", func(q *liopv1.LogicRequest) { q.ModuleSha256 = nil }, fault.InvalidRequest, "module_sha256"},
		{"wrong hash", func(q *liopv1.LogicRequest) { q.ModuleSha256 = make([]byte, 32) }, fault.InvalidRequest, "module_sha256"},
		{"unknown hash", func(q *liopv1.LogicRequest) { q.ModuleSha256, q.WasmBinary = make([]byte, 32), nil }, fault.ModuleUnknown, "module_sha256"},
		{"large module", func(q *liopv1.LogicRequest) {
			q.WasmBinary = append(bytes.Clone(hello), make([]byte, 100<<10)...)
		}, fault.InvalidRequest, "limits.module_bytes"},
		{"large input", func(q *liopv1.LogicRequest) { q.Inputs = map[string][]byte{"k": make([]byte, 1001)} }, fault.InvalidRequest, "limits.input_bytes"},
		{"many args", func(q *liopv1.LogicRequest) { q.Args = make([]string, 257) }, fault.InvalidRequest, "args"},
		{"large arg", func(q *liopv1.LogicRequest) { q.Args = []string{strings.Repeat("x", 64<<10+1)} }, fault.InvalidRequest, "args"},
		{"arg with NUL", func(q *liopv1.LogicRequest) { q.Args = []string{"a\x00b"} }, fault.InvalidRequest, "args"},
		{"truncated module", func(q *liopv1.LogicRequest) {
			q.WasmBinary = q.WasmBinary[:len(q.WasmBinary)-1]
			h := sha256.Sum256(q.WasmBinary)
			q.ModuleSha256 = h[:]
		}, fault.ModuleInvalid, "sections"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := request(token, hello)
			tc.change(q)
			err := r.run(t, q)
			if tc.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			f, _ := fault.From(err)
			if f == nil || f.Code != tc.code || f.Rule != tc.rule || f.Hint == "" {
				t.Errorf("got %+v (%v), want %s by %s", f, err, tc.code, tc.rule)
			}
		})
	}
	// The same request again is another run: it is not an answer from a store.
	q := request(token, hello)
	for range 2 {
		if err := r.run(t, q); err != nil {
			t.Error(err)
		}
	}
	// A session ends with the connections of its peer.
	if err := o.node.Disconnect(r.agent.ID()); err != nil {
		t.Fatal(err)
	}
	err := r.run(t, q)
	if f, ok := fault.From(err); !ok || f.Code != fault.SessionUnknown {
		// The first call after the cut may be the one that notices it.
		err = r.run(t, q)
	}
	if f, ok := fault.From(err); !ok || f.Code != fault.SessionUnknown {
		t.Errorf("a session outlived its connection: %v", err)
	}
}

func TestIntentMustBeSigned(t *testing.T) {
	o := startOwner(t, nil)
	r := o.raw(t)
	for name, change := range map[string]func(*liopv1.IntentRequest){
		"none":           func(q *liopv1.IntentRequest) { q.ProofOfIntent = nil },
		"another's":      func(q *liopv1.IntentRequest) { q.ProofOfIntent = o.raw(t).intent(t, o, grant.Limits{}).ProofOfIntent },
		"other datasets": func(q *liopv1.IntentRequest) { q.Datasets = []string{"d", "d"} },
	} {
		q := r.intent(t, o, grant.Limits{})
		change(q)
		resp, err := r.NegotiateIntent(t.Context(), q)
		if err != nil || resp.Accepted || resp.Denial.GetRule() == "" || resp.ErrorMessage == "" {
			t.Errorf("%s: %v, %v", name, resp, err)
		}
	}
}

// The client opens a new session by itself when the node has lost its own.
func TestClientReconnects(t *testing.T) {
	o := startOwner(t, nil)
	c := o.dial(t, "tcp", grant.Limits{})
	for range 3 {
		a, err := c.Run(t.Context(), client.Request{Module: testGuest(t, "hello")})
		if err != nil {
			// A call that was under way when the connection broke may fail,
			// and says so; the next one must not.
			if !errors.Is(err, &fault.Error{Code: fault.Unreachable}) {
				t.Fatal(err)
			}
			if a, err = c.Run(t.Context(), client.Request{Module: testGuest(t, "hello")}); err != nil {
				t.Fatal(err)
			}
		}
		if string(a.Bytes) != "hello\n" {
			t.Errorf("answer %q", a.Bytes)
		}
		if err := o.node.Disconnect(a.Claim.Agent); err != nil {
			t.Fatal(err)
		}
	}
}

// No goroutine, process, descriptor or file outlives its request.
func TestNothingIsLeft(t *testing.T) {
	// It ends by itself half a minute after its database was closed.
	drain := goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain")
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), drain)
	home := t.TempDir()
	data := t.TempDir()
	id := identity.Generate()
	log := &syncBuffer{more: make(chan struct{}, 1)}
	n, err := node.Start(t.Context(), home, id, node.Config{Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"},
		Datasets: []node.Dataset{{Name: "d", Dir: data}}, Engine: node.Engine{Runners: 2}}, slog.New(slog.NewJSONHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	o := &owner{id: id, node: n, log: log, addr: map[string]string{"quic": n.Addrs()[0]}}
	agent := identity.Generate()
	chain := o.grant(t, agent, grant.Limits{WallMS: 100})
	c, err := client.Dial(t.Context(), o.addr["quic"], client.Options{Identity: agent, Grant: chain})
	if err != nil {
		t.Fatal(err)
	}
	round := func() {
		for _, name := range []string{"hello", "loop", "trap", "exit3", "memory-bomb", "badimport", "flood-stdout"} {
			c.Run(t.Context(), client.Request{Module: testGuest(t, name)})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		c.Run(ctx, client.Request{Module: testGuest(t, "loop")})
	}
	count := func() (fds, files int) {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("this system does not list descriptors")
		}
		filepath.WalkDir(home, func(string, os.DirEntry, error) error { files++; return nil })
		return len(d), files
	}
	for range 3 {
		round()
	}
	fds, files := count()
	routines := runtime.NumGoroutine()
	for range 10 {
		round()
	}
	// Runners come and go in small numbers, each with one descriptor and a
	// few goroutines; what grows with the number of requests is a leak.
	fds2, files2 := count()
	if fds2 > fds+20 || files2 > files || runtime.NumGoroutine() > routines+40 {
		t.Errorf("before 80 more requests %d descriptors, %d files, %d goroutines; after %d, %d, %d",
			fds, files, routines, fds2, files2, runtime.NumGoroutine())
	}
	c.Close()
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}
