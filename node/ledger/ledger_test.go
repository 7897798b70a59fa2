//go:build unix

package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/liop-project/liop/core/fault"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(debitorEnv); path != "" {
		debitForever(path)
	}
	goleak.VerifyTestMain(m)
}

// epoch is the time at which the tests' clocks start.
var epoch = time.Unix(2_000_000_000, 0)

// day is an expiry that the tests do not reach.
var day = epoch.Add(24 * time.Hour)

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func start(t testing.TB, path string) (*Ledger, *clock) {
	t.Helper()
	c := &clock{now: epoch}
	l, err := Open(path, Options{Now: c.Now})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l, c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func used(t testing.TB, l *Ledger, key string) uint64 {
	t.Helper()
	n, err := l.Used(key)
	must(t, err)
	return n
}

// fill writes n records in one transaction, with the keys "00000", "00001" …
func fill(t *testing.T, l *Ledger, n int, of func(i int) record) {
	t.Helper()
	must(t, l.update(func(tx *bbolt.Tx, s *state) error {
		for i := range n {
			r, key := of(i), fmt.Appendf(nil, "%05d", i)
			if err := tx.Bucket(usedBucket).Put(key, r.encode(key)); err != nil {
				return err
			}
			s.keys++
			s.used += r.used
		}
		s.changed = true
		return nil
	}))
}

func TestDebit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, _ := start(t, path)
	const big = math.MaxUint64
	for i, c := range []struct {
		key     string
		n, max  uint64
		left    uint64
		refused string // the message, "" if the debit is made
		hint    string
	}{
		{key: "a", n: 0, max: 10, left: 10},
		{key: "a", n: 1, max: 10, left: 9},
		{key: "a", n: 8, max: 10, left: 1},
		{key: "a", n: 0, max: 10, left: 1},
		{key: "a", n: 2, max: 10, refused: "the grant has too few runs left: 9 of 10 are used, 2 more do not fit", hint: "at most 1 more"},
		{key: "b", n: 3, max: 3, left: 0},
		{key: "b", n: 0, max: 3, left: 0},
		{key: "b", n: 1, max: 3, refused: "the grant's runs are used up: 3 of 3", hint: "ask the issuer for a new grant"},
		{key: "a", n: 1, max: 10, left: 0},
		{key: "a", n: 1, max: 5, refused: "the grant's runs are used up: 10 of 5", hint: "ask the issuer for a new grant"},
		{key: "a", n: 0, max: 5, refused: "the grant's runs are used up: 10 of 5", hint: "ask the issuer for a new grant"},
		{key: "a", n: 10, max: 20, left: 0},
		{key: "c", n: 1, max: 0, refused: "the grant's runs are used up: 0 of 0", hint: "ask the issuer for a new grant"},
		{key: "d", n: big - 1, max: big, left: 1},
		{key: "d", n: 2, max: big, refused: "the grant has too few runs left: 18446744073709551614 of 18446744073709551615 are used, 2 more do not fit", hint: "at most 1 more"},
		{key: "d", n: big, max: big, refused: "the grant has too few runs left: 18446744073709551614 of 18446744073709551615 are used, 18446744073709551615 more do not fit", hint: "at most 1 more"},
		{key: strings.Repeat("k", MaxKeyBytes), n: 1, max: 1, left: 0},
		{key: "\x00\xff", n: 1, max: 2, left: 1},
	} {
		left, err := l.Debit(t.Context(), c.key, c.n, c.max, day)
		if c.refused == "" {
			if err != nil || left != c.left {
				t.Errorf("%d: left %d (%v), want %d", i, left, err, c.left)
			}
			continue
		}
		want := fault.Error{Code: fault.LimitRuns, Rule: "limits.runs", Owner: fault.Grant, Message: c.refused, Hint: c.hint}
		var f *fault.Error
		if !errors.As(err, &f) || *f != want || left != 0 {
			t.Errorf("%d: left %d, got %#v\nwant %#v", i, left, err, want)
		}
	}
	for _, key := range []string{"", strings.Repeat("k", MaxKeyBytes+1)} {
		if _, err := l.Debit(t.Context(), key, 1, 1, day); err == nil || !strings.Contains(err.Error(), "must have 1 to 1024") {
			t.Errorf("key of %d bytes: %v", len(key), err)
		}
		if _, err := l.Used(key); err == nil {
			t.Errorf("Used takes a key of %d bytes", len(key))
		}
	}

	must(t, l.Close())
	l, _ = start(t, path)
	for key, want := range map[string]uint64{"a": 20, "b": 3, "c": 0, "d": big - 1, "unheard of": 0} {
		if got := used(t, l, key); got != want {
			t.Errorf("after it was opened again, %q has used %d, want %d", key, got, want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
}

func TestConcurrentDebitsNeverOverspend(t *testing.T) {
	l, _ := start(t, filepath.Join(t.TempDir(), "ledger.db"))
	const limit, callers = 400, 16
	lefts := make([][]uint64, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for {
				left, err := l.Debit(t.Context(), "shared", 1, limit, day)
				if errors.Is(err, &fault.Error{Code: fault.LimitRuns}) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				lefts[i] = append(lefts[i], left)
				if _, err := l.Debit(t.Context(), fmt.Sprint("own ", i), 1, math.MaxUint64, day); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	all := slices.Concat(lefts...)
	slices.Sort(all)
	if len(all) != limit {
		t.Fatalf("%d debits were made with a limit of %d", len(all), limit)
	}
	for i, left := range all { // each of limit-1 … 0 once
		if left != uint64(i) {
			t.Fatalf("%d was left twice or never", i)
		}
	}
	if n := used(t, l, "shared"); n != limit {
		t.Errorf("%d are used", n)
	}
	for i := range callers {
		if n := used(t, l, fmt.Sprint("own ", i)); n != uint64(len(lefts[i])) {
			t.Errorf("caller %d: %d are used after %d debits", i, n, len(lefts[i]))
		}
	}
}

func TestContext(t *testing.T) {
	l, _ := start(t, filepath.Join(t.TempDir(), "ledger.db"))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Debit(ended, "a", 1, 1, day); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}

	// A context that ends at any moment leaves no doubt: what was not
	// acknowledged was not debited.
	const callers, rounds = 8, 25
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := uint64(0)
	for range callers {
		wg.Go(func() {
			for i := range rounds {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*20*time.Microsecond)
				_, err := l.Debit(ctx, "b", 1, math.MaxUint64, day)
				cancel()
				switch {
				case err == nil:
					mu.Lock()
					made++
					mu.Unlock()
				case !errors.Is(err, context.DeadlineExceeded):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := used(t, l, "b"); n != made {
		t.Errorf("%d are used after %d acknowledged debits", n, made)
	}
}

func TestClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, _ := start(t, path)
	const callers = 8
	made := make([]uint64, callers)
	var wg, entered sync.WaitGroup
	entered.Add(callers)
	for i := range callers {
		wg.Go(func() {
			for {
				_, err := l.Debit(t.Context(), "a", 1, math.MaxUint64, day)
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if made[i]++; made[i] == 1 {
					entered.Done()
				}
			}
		})
	}
	entered.Wait()
	for range 2 {
		must(t, l.Close())
	}
	wg.Wait()
	if _, err := l.Used("a"); !errors.Is(err, ErrClosed) {
		t.Errorf("Used after Close: %v", err)
	}
	l, _ = start(t, path)
	sum := uint64(0)
	for _, n := range made {
		sum += n
	}
	if n := used(t, l, "a"); n != sum {
		t.Errorf("%d are used after %d acknowledged debits", n, sum)
	}
}

func TestExpiry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, c := start(t, path)
	debit := func(key string, expires time.Time) error {
		t.Helper()
		_, err := l.Debit(t.Context(), key, 1, 10, expires)
		return err
	}
	gone := fault.Error{Code: fault.GrantInvalid, Rule: "exp"}

	short := epoch.Add(time.Minute)
	must(t, debit("short", short))
	must(t, debit("long", day))
	must(t, debit("both", short))
	must(t, debit("both", day)) // the latest counts
	must(t, debit("both", short))

	// Kept for a while, in case clocks differ.
	c.pass(time.Minute + KeepExpired)
	must(t, debit("short", short))
	if n := used(t, l, "short"); n != 2 {
		t.Errorf("an expired key has used %d before it is forgotten, want 2", n)
	}

	// Forgotten by a later debit; the one that finds it due does it after its
	// own answer, so another one follows.
	c.pass(PruneInterval)
	must(t, debit("long", day))
	must(t, debit("long", day))
	for key, want := range map[string]uint64{"short": 0, "long": 3, "both": 3} {
		if n := used(t, l, key); n != want {
			t.Errorf("%s has used %d, want %d", key, n, want)
		}
	}

	// What was forgotten is not begun again, not even by a clock set back.
	c.pass(-2 * time.Hour)
	for _, expires := range []time.Time{short, short.Add(-time.Hour), {}} {
		if err := debit("short", expires); !errors.Is(err, &gone) {
			t.Errorf("a grant that expired at %v: %v", expires, err)
		}
	}
	must(t, debit("new", short.Add(time.Nanosecond))) // expiries are rounded up

	// Forgotten at the next start, and still not begun again.
	must(t, l.Close())
	late := &clock{now: day.Add(KeepExpired + time.Second)}
	l, err := Open(path, Options{Now: late.Now})
	must(t, err)
	defer l.Close()
	for _, key := range []string{"short", "long", "both", "new"} {
		if n := used(t, l, key); n != 0 {
			t.Errorf("%s has used %d after all has expired", key, n)
		}
		if err := debit(key, day); !errors.Is(err, &gone) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// A search for expired keys in a large ledger goes on step by step, one after
// each batch of debits.
func TestPruneLarge(t *testing.T) {
	const n = 2*pruneKeys + pruneKeys/2
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, c := start(t, path)
	fill(t, l, n, func(i int) record {
		if i%3 == 0 {
			return record{used: 1, expires: day.Unix()}
		}
		return record{used: 1, expires: epoch.Unix()}
	})
	known := func() (keys int) {
		t.Helper()
		must(t, l.db.View(func(tx *bbolt.Tx) error {
			keys = tx.Bucket(usedBucket).Inspect().KeyN
			s, err := getState(tx)
			if err == nil && s.keys != uint64(keys) {
				t.Errorf("%d keys by the state, %d by count", s.keys, keys)
			}
			return err
		}))
		return keys
	}
	// Each debit starts a step when it is answered; the next one waits for it.
	debits := func(n int) {
		t.Helper()
		for range n {
			if _, err := l.Debit(t.Context(), "00000", 0, 10, day); err != nil {
				t.Fatal(err)
			}
		}
	}
	const live = (n + 2) / 3
	debits(2)
	if got := known(); got != n {
		t.Errorf("%d keys before any is old enough, want %d", got, n)
	}
	c.pass(PruneInterval + 2*KeepExpired)
	debits(2)
	if got := known(); got >= n || got <= live {
		t.Errorf("%d keys after one or two of three steps, want fewer than %d and more than %d", got, n, live)
	}
	debits(2)
	if got := known(); got != live {
		t.Errorf("%d keys in the end, want %d", got, live)
	}

	// The rest at the next start, in one go.
	must(t, l.Close())
	late := &clock{now: day.Add(2 * KeepExpired)}
	l, err := Open(path, Options{Now: late.Now})
	must(t, err)
	defer l.Close()
	if got := known(); got != 0 {
		t.Errorf("%d keys after all have expired", got)
	}
}

// Debits are written also if they leave the sum over all records, which is
// modulo 2^64, as it was.
func TestSumComesRound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, _ := start(t, path)
	var batch []*debit
	for _, key := range []string{"a", "b"} {
		if _, err := l.Debit(t.Context(), key, 1, 1, day); err != nil {
			t.Fatal(err)
		}
		batch = append(batch, &debit{key: []byte(key), n: 1 << 63, max: math.MaxUint64, expires: day.Unix()})
	}
	l.commit(batch)
	must(t, l.Close())
	l, _ = start(t, path)
	for i, key := range []string{"a", "b"} {
		if n := used(t, l, key); batch[i].err != nil || n != 1<<63+1 {
			t.Errorf("%s has used %d (%v)", key, n, batch[i].err)
		}
	}
}

func TestFull(t *testing.T) {
	l, _ := start(t, filepath.Join(t.TempDir(), "ledger.db"))
	if _, err := l.Debit(t.Context(), "old", 1, 2, day); err != nil {
		t.Fatal(err)
	}
	must(t, l.update(func(_ *bbolt.Tx, s *state) error { s.keys, s.changed = MaxKeys, true; return nil }))
	if _, err := l.Debit(t.Context(), "new", 1, 2, day); !errors.Is(err, &fault.Error{Code: fault.Busy}) {
		t.Errorf("a further key: %v", err)
	}
	if _, err := l.Debit(t.Context(), "old", 1, 2, day); err != nil {
		t.Errorf("a key that is there: %v", err)
	}
}

func TestOpenTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l, _ := start(t, path)
	_, err := Open(path, Options{})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another process has it open") {
		t.Errorf("got %v", err)
	}
	must(t, l.Close())
	start(t, path)
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("key"), record{used: 7, expires: -1}.encode([]byte("key")))
	f.Add([]byte(""), []byte{})
	f.Add([]byte("key"), make([]byte, 20))
	f.Fuzz(func(t *testing.T, key, b []byte) {
		r, err := decodeRecord(key, b)
		if err == nil && string(r.encode(key)) != string(b) {
			t.Errorf("%x was read as %v", b, r)
		}
	})
}

func BenchmarkDebit(b *testing.B) {
	l, _ := start(b, filepath.Join(b.TempDir(), "ledger.db"))
	for b.Loop() {
		if _, err := l.Debit(b.Context(), "a", 1, math.MaxUint64, day); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDebitParallel16 has 16 callers with a key each.
func BenchmarkDebitParallel16(b *testing.B) {
	l, _ := start(b, filepath.Join(b.TempDir(), "ledger.db"))
	work := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range work {
				if _, err := l.Debit(b.Context(), fmt.Sprint(i), 1, math.MaxUint64, day); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
}
