//go:build linux && cgo

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/liop-project/liop/filters"
	"github.com/liop-project/liop/mesh/netlab"
	"github.com/liop-project/liop/node/engine"
	_ "github.com/liop-project/liop/node/sandbox" // engines in this process start it again as their workers
)

func TestMain(m *testing.M) {
	maybeChild()
	os.Exit(m.Run())
}

func TestQuickReceipt(t *testing.T) {
	o, err := parse([]string{"--quick", "--only", "receipt", "--json"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), o, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Groups []struct {
			Group, Error string
			Rows         []struct {
				What, Target string
				Ours, Ratio  float64
				Met          *bool
			}
		}
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Groups) != 1 || got.Groups[0].Group != "receipt" || got.Groups[0].Error != "" || len(got.Groups[0].Rows) != 3 {
		t.Fatalf("got %s", out.Bytes())
	}
	for _, r := range got.Groups[0].Rows {
		if r.Ours <= 0 || r.Ratio <= 0 || r.Target == "" || r.Met == nil {
			t.Errorf("row is incomplete: %+v", r)
		}
	}
}

// TestQuickLanes bounds nothing but nonsense: on one lane, the median call waits
// for several round trips.
func TestQuickLanes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	if l, err := netlab.Open(); err != nil {
		t.Skip(err)
	} else {
		l.Close()
	}
	l, err := newLab(options{quick: true}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	rows, err := lanes(t.Context(), l)
	if err != nil || len(rows) != 4*len(transports) {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, r := range rows {
		t.Logf("%s: %v, %s %v", r.what, r.ours, r.peerIs, r.peer)
		if r.ours.v <= 0 || r.peer.v <= 0 {
			t.Errorf("%s: not measured", r.what)
		}
		if r.target.met != nil && r.ratio() > 10 {
			t.Errorf("%s: %.1f times as long as alone", r.what, r.ratio())
		}
	}
}

// TestNeighbours takes few hosts and no time, for the shape of the result.
func TestNeighbours(t *testing.T) {
	goroutines := map[bool]float64{}
	for _, dht := range []bool{false, true} {
		order, err := json.Marshal(neighboursOrder{N: 4, DHT: dht, Idle: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := serveNeighbours([]string{string(order)}, &out); err != nil {
			t.Fatal(err)
		}
		var r neighboursResult
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		goroutines[dht] = r.Goroutines
	}
	if goroutines[false] < 1 || goroutines[true] <= goroutines[false] {
		t.Errorf("goroutines for each end, by whether there is a DHT: %v", goroutines)
	}
}

func TestLeftOpen(t *testing.T) {
	var left leftOpen
	order := ""
	c := contender{name: "c", after: left.close, op: func(context.Context) error {
		for _, name := range []string{"a", "b"} {
			left.add(closer(func() error { order += name; return nil }))
		}
		return io.ErrUnexpectedEOF
	}}
	if _, err := c.time(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) || order != "ba" || len(left) != 0 {
		t.Errorf("closed %q, left %d, %v", order, len(left), err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"receipt"}, {"--only", "("}, {"--csv-mb", "-1"}, {"--csv-mb", "10001"}, {"--nope"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

// TestBareIsTheNodesEngine loads what the node's compiler made: Wasmtime
// refuses code that was compiled with other settings.
func TestBareIsTheNodesEngine(t *testing.T) {
	dir := t.TempDir()
	e, err := engine.New(engine.Config{Dir: dir, Blank: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	wasm, _ := filters.Ready("stats")
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "d.csv"), []byte("k\n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := e.Run(t.Context(), &engine.Job{Module: sha256.Sum256(wasm), Wasm: wasm, Tenant: "t",
		Mounts: []engine.Mount{{Name: "d", Dir: data}},
		Limits: engine.Limits{Memory: 64 << 20, Output: 1 << 10, Wall: 10 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	artifacts, err := filepath.Glob(filepath.Join(dir, "*", "*.cwasm"))
	if err != nil || len(artifacts) != 1 {
		t.Fatalf("%q, %v", artifacts, err)
	}
	b := newBare()
	theirs, err := b.load(artifacts[0])
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.close()
	ours, err := b.compiled(wasm, filepath.Join(t.TempDir(), "stats.cwasm"))
	if err != nil {
		t.Fatal(err)
	}
	defer ours.close()
	for name, m := range map[string]*bareModule{"theirs": theirs, "ours": ours} {
		out := filepath.Join(t.TempDir(), "out")
		if err := m.run(nil, "d", data, out); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(out); !bytes.Equal(got, r.Answer) {
			t.Errorf("%s: got %q, the node answers %q", name, got, r.Answer)
		}
	}
}

func TestUnseen(t *testing.T) {
	wasm, _ := filters.TestGuest("hello")
	a, b := unseen(wasm), unseen(wasm)
	if bytes.Equal(a, b) || !bytes.HasPrefix(a, wasm) {
		t.Error("not a module with another hash")
	}
	m, err := newBare().compile(a)
	if err != nil {
		t.Fatal(err)
	}
	m.close()
}

func TestNativeStats(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big.csv")
	if err := writeCSV(big, 3_000_000); err != nil { // many buffers, and repeated rows
		t.Fatal(err)
	}
	if info, err := os.Stat(big); err != nil || info.Size() > 3_000_000 || info.Size() < 2_999_000 {
		t.Errorf("size %v, %v", info.Size(), err)
	}
	file := func(text string) string {
		p := filepath.Join(t.TempDir(), "t.csv")
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, c := range map[string]struct {
		file, by, column string
		want             map[string]*tally // nil: what the other says
	}{
		"large":       {file: big, by: csvBy, column: csvColumn},
		"last column": {file: big, by: "Airport Name", column: "Speed IAS in knots"},
		"signs, skipped": {file: file("a,b\nx,-3\ny,5\nx,\nx,q\n"), by: "a", column: "b",
			want: map[string]*tally{"x": {Rows: 3, Skipped: 2, Sum: -3, Min: -3, Max: -3}, "y": {Rows: 1, Sum: 5, Min: 5, Max: 5}}},
		"header only": {file: file("a,b\r\n"), by: "b", column: "a", want: map[string]*tally{}},
	} {
		fast, err := statsFast(c.file, c.by, c.column)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		slow, err := statsCSV(c.file, c.by, c.column)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.want == nil {
			c.want = slow
		}
		if !reflect.DeepEqual(fast, c.want) || !reflect.DeepEqual(slow, c.want) {
			t.Errorf("%s: fast %v, slow %v", name, fast, slow)
		}
	}
	if _, err := statsFast(file("a,b\n\"x\",1\n"), "a", "b"); err == nil {
		t.Error("quotes: no error")
	}
}

func TestQuantile(t *testing.T) {
	var s samples
	for i := 100; i > 0; i-- {
		s = append(s, time.Duration(i))
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := s.quantile(q); got != want {
			t.Errorf("quantile %v: got %d, want %d", q, got, want)
		}
	}
	if samples(nil).p50() != 0 {
		t.Error("no samples: want 0")
	}
}

func TestInTurns(t *testing.T) {
	order := ""
	one := func(name string) contender {
		return contender{name: name, op: func(context.Context) error { order += name; return nil }}
	}
	s, err := inTurns(t.Context(), 5, 2, one("a"), one("b"))
	if err != nil || len(s) != 2 || len(s[0]) != 5 || len(s[1]) != 5 || order != "aabbaabbab" {
		t.Errorf("got %d, %q, %v", len(s), order, err)
	}
	order = ""
	if s, err := sideBySide(t.Context(), 3, 10, one("a")); err != nil || len(s[0]) != 3 || order != "aaaaaa" {
		t.Errorf("got %d, %q, %v", len(s), order, err)
	}
	bad := contender{name: "bad", op: func(context.Context) error { return io.ErrUnexpectedEOF }}
	if _, err := inTurns(t.Context(), 1, 1, bad); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "bad") {
		t.Errorf("got %v", err)
	}
}

func TestTable(t *testing.T) {
	tb := &table{}
	tb.add("g", []row{
		{what: "latency", ours: took(300 * time.Microsecond), peer: took(100 * time.Microsecond), peerIs: "peer", target: ratioAtMost(2.5)},
		{what: "rate", ours: figure{6000, perSecond}, peer: figure{200, perSecond}, peerIs: sdkIs, target: ratioAtLeast(30)},
		{what: "size", ours: figure{1136, octets}, target: atMost(figure{1500, octets})},
		{what: "files", ours: figure{12, pieces}},
	}, nil)
	var out bytes.Buffer
	if err := tb.print(&out); err != nil {
		t.Fatal(err)
	}
	var got [][]string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Fields(line))
	}
	for _, want := range []string{
		"latency 300 µs 100 µs peer 3.00× ≤ 2.5× no", "rate 6000/s 200/s TypeScript SDK* 30.00× ≥ 30× yes",
		"size 1.14 kB – – ≤ 1.50 kB yes", "files 12 – –", "* not measured in this run: " + sdkNote,
	} {
		found := false
		for _, line := range got {
			found = found || strings.Join(line, " ") == want
		}
		if !found {
			t.Errorf("no line %q in\n%s", want, out.String())
		}
	}
}

func TestFigures(t *testing.T) {
	for want, f := range map[string]figure{
		"500 ns": took(500), "12.3 µs": took(12_345), "1.00 s": took(time.Second), "-3.50 ms": took(-3500 * time.Microsecond),
		"0 ns": took(0), "1.14 kB": {1136, octets}, "64 B": {64, octets}, "274/s": {273.9, perSecond}, "7": {7, pieces}, "–": {},
	} {
		if got := f.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if !math.IsNaN((row{ours: took(1)}).ratio()) {
		t.Error("a ratio without a peer")
	}
}

func TestParseStat(t *testing.T) {
	s, err := parseStat(7, "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 150 50 20 10 20 0 1 0 100 0 0")
	if err != nil || s.parent != 3 || s.cpu != 200*tick || s.reaped != 30*tick {
		t.Errorf("got %+v, %v", s, err)
	}
	for _, bad := range []string{"", "7 (x) S", "7 (x) S p 7 7 0 -1 0 1 2 3 4 5 6 7 8"} {
		if _, err := parseStat(7, bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
