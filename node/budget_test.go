package node

import (
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/node/admission"
	"github.com/liop-project/liop/node/ledger"
)

func budgetOf(id string, l grant.Limits) *admission.Decision {
	return &admission.Decision{Limits: l, Grant: &grant.Grant{ID: id, Issuer: identity.Generate().ID(), Expires: time.Now().Add(time.Hour)}}
}

func openLedger(t *testing.T, path string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(path, ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// However many callers and restarts, a budget is never overspent; and without
// a crash it can be spent to the last run.
func TestBudgetIsSpentExactly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	for _, runs := range []uint64{1, 7, 999, 2500} {
		l := openLedger(t, path)
		b := newBudgets(l, time.Now)
		d := budgetOf("g", grant.Limits{Concurrency: 64, Runs: runs})
		var spent atomic.Uint64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					p, leave, err := b.enter(d)
					if err != nil {
						t.Error(err)
						return
					}
					err = b.debit(t.Context(), p, d)
					leave()
					if errors.Is(err, &fault.Error{Code: fault.LimitRuns}) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					spent.Add(1)
				}
			})
		}
		wg.Wait()
		if spent.Load() != runs {
			t.Errorf("of %d runs %d were spent", runs, spent.Load())
		}
		if left, err := b.left(d); err != nil || left != 0 {
			t.Errorf("%d are left, %v", left, err)
		}
		l.Close()
		again := newBudgets(openLedger(t, path), time.Now)
		p, _, err := again.enter(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.debit(t.Context(), p, d); !errors.Is(err, &fault.Error{Code: fault.LimitRuns}) {
			t.Errorf("after a restart: %v", err)
		}
		again.ledger.Close()
	}
}

func TestLeftCountsWhatIsLeased(t *testing.T) {
	b := newBudgets(openLedger(t, filepath.Join(t.TempDir(), "ledger.db")), time.Now)
	d := budgetOf("g", grant.Limits{Concurrency: 1, Runs: 10_000})
	p, _, err := b.enter(d)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := b.debit(t.Context(), p, d); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := b.left(d); err != nil || left != 9997 {
		t.Errorf("%d are left, %v", left, err)
	}
}

// A run that never began is not spent; what is refunded is not more than that.
func TestRefund(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := openLedger(t, path)
	b := newBudgets(l, time.Now)
	d := budgetOf("g", grant.Limits{Concurrency: 1, Runs: 2})
	p, _, err := b.enter(d)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := b.debit(t.Context(), p, d); err != nil {
			t.Fatal(err)
		}
		b.refund(p)
	}
	if left, err := b.left(d); err != nil || left != 2 {
		t.Errorf("%d are left of 2, %v", left, err)
	}
	for i := range 3 {
		if err := b.debit(t.Context(), p, d); errors.Is(err, &fault.Error{Code: fault.LimitRuns}) != (i == 2) {
			t.Errorf("run %d: %v", i, err)
		}
	}
}

func TestBusyGrantSaysWhenToTryAgain(t *testing.T) {
	c := newClock()
	b := newBudgets(openLedger(t, filepath.Join(t.TempDir(), "ledger.db")), c.now)
	d := budgetOf("g", grant.Limits{Concurrency: 1, Runs: 2})
	for range 100 {
		_, leave, err := b.enter(d)
		if err != nil {
			t.Fatal(err)
		}
		c.t = c.t.Add(time.Second)
		leave()
	}
	if _, _, err := b.enter(d); err != nil {
		t.Fatal(err)
	}
	_, _, err := b.enter(d)
	if f, ok := fault.From(err); !ok || f.RetryAfter != 1600*time.Millisecond {
		t.Errorf("runs take a second; the refusal is %+v", f)
	}
}

func TestConcurrencyIsPerGrant(t *testing.T) {
	b := newBudgets(openLedger(t, filepath.Join(t.TempDir(), "ledger.db")), time.Now)
	d, other := budgetOf("a", grant.Limits{Concurrency: 2, Runs: 1}), budgetOf("b", grant.Limits{Concurrency: 1, Runs: 1})
	_, leave, err := b.enter(d)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.enter(d); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.enter(d); !errors.Is(err, &fault.Error{Code: fault.Busy, Rule: "limits.concurrency"}) {
		t.Errorf("a third run: %v", err)
	}
	if _, _, err := b.enter(other); err != nil {
		t.Errorf("another grant: %v", err)
	}
	leave()
	if _, _, err := b.enter(d); err != nil {
		t.Errorf("after one had ended: %v", err)
	}
}
