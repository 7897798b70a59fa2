//go:build linux

package engine

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var soakRuns = flag.Int("soak.runs", 450, "runs that TestSoak makes")

// What runs leave behind does not add up: after many, honest and hostile, of
// several tenants at the same time, the node is what it was after the first ones,
// and every answer was right. The long form takes ten minutes and more:
//
//	go test ./node/engine -run TestSoak -soak.runs 20000 -timeout 1h -v
func TestSoak(t *testing.T) {
	const inFlight = 8
	// A small cache, so that artifacts are evicted while they are in use.
	e := newTest(t, Config{CacheBytes: 2 << 20, CompileTime: 3 * time.Second, Idle: 500 * time.Millisecond, Reuse: 50})
	w := newWorkload(t, e, 20*time.Second, 30*time.Millisecond, 4)
	run := func(from, to int) {
		var next, wrong atomic.Int64
		next.Store(int64(from))
		var wg sync.WaitGroup
		for range inFlight {
			wg.Go(func() {
				for wrong.Load() < 10 {
					n := int(next.Add(1)) - 1
					if n >= to {
						return
					}
					d := w.deed(n)
					if r, err := d.do(e); !d.right(r, err) {
						wrong.Add(1)
						t.Errorf("run %d, %s: %s", n, d.what, came(r, err))
					}
				}
			})
		}
		wg.Wait()
		canary(t, e)
	}
	warm := min(500, *soakRuns/3)
	start := time.Now()
	run(0, warm)
	before := settled(t, e)
	t.Logf("after %d runs: %s", warm, before)
	after := before
	for n := warm; n < *soakRuns && !t.Failed(); {
		from := n
		n = min(n+5000, *soakRuns)
		run(from, n)
		after = settled(t, e)
		t.Logf("after %d runs, %.1f/s: %s", n, float64(n)/time.Since(start).Seconds(), after)
	}

	if most := max(before.resident+before.resident/20, before.resident+4<<20); after.resident > most {
		t.Errorf("resident memory grew from %d to %d bytes", before.resident, after.resident)
	}
	before.resident, after.resident = 0, 0
	if after != before {
		t.Errorf("went from %s to %s", before, after)
	}
}

// usage is what this process holds.
type usage struct {
	resident                     int // bytes
	files, processes, goroutines int
}

func (u usage) String() string {
	return fmt.Sprintf("%.1f MB resident, %d open files, %d child processes, %d goroutines",
		float64(u.resident)/1e6, u.files, u.processes, u.goroutines)
}

// settled waits until nothing but the blank runners is left of e's workers, and
// what belongs to the others is gone, and says what this process holds then.
func settled(t *testing.T, e *Engine) usage {
	t.Helper()
	var u usage
	awaitTrue(t, func() bool {
		e.pool.mu.Lock()
		idle := len(e.pool.idle)
		e.pool.mu.Unlock()
		last := u
		u = look(t)
		return idle == 0 && u.processes == cap(e.pool.blanks) && u == last
	}, "all but the blank runners to end")
	runtime.GC()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := bytes.Cut(status, []byte("VmRSS:"))
	if n, err := fmt.Sscan(string(after), &u.resident); n != 1 {
		t.Fatal(err)
	}
	u.resident <<= 10
	return u
}

// look counts all but the memory.
func look(t *testing.T) usage {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return usage{files: len(files), processes: len(children(t)), goroutines: runtime.NumGoroutine()}
}
