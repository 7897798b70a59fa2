package node

import (
	"context"
	"sync"
	"time"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/node/admission"
	"github.com/liop-project/liop/node/ledger"
)

// leaseParts: a run is debited in the ledger, with a write to disk, before it
// starts. For large budgets that is done for a thousandth of the budget at a
// time; a crash loses what was leased and not used, never the other way.
const leaseParts = 1000

// pruneEvery is how many grants become known between two prunings.
const pruneEvery = 256

// budgets counts runs per grant: how many are in flight, and how many are left.
// It is safe for concurrent use.
type budgets struct {
	ledger *ledger.Ledger
	now    func() time.Time

	mu     sync.Mutex
	grants map[string]*purse // by issuer and token id
}

type purse struct {
	inFlight uint32
	expires  time.Time
	took     time.Duration // a recent mean, of how long a run is in flight

	lease  sync.Mutex // held while the ledger is asked
	leased uint64     // debited, not used yet
}

func newBudgets(l *ledger.Ledger, now func() time.Time) *budgets {
	return &budgets{ledger: l, now: now, grants: map[string]*purse{}}
}

// key names a grant: token ids are unique per issuer only.
func key(d *admission.Decision) string {
	return d.Grant.Issuer.String() + "/" + d.Grant.ID
}

// enter counts one run in flight under d's grant, or refuses. The caller must
// call leave once.
func (b *budgets) enter(d *admission.Decision) (p *purse, leave func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p = b.grants[key(d)]
	if p == nil {
		p = &purse{expires: d.Grant.Expires}
		b.grants[key(d)] = p
		if len(b.grants)%pruneEvery == 0 {
			b.prune()
		}
	}
	if p.inFlight >= d.Limits.Concurrency {
		return nil, nil, fault.TryAgain("limits.concurrency", fault.Grant,
			"too many runs of this grant are in flight", p.took/time.Duration(max(1, p.inFlight)))
	}
	p.inFlight++
	began := b.now()
	return p, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		p.inFlight--
		const weight = 8 // of what is known already; a mean over the last ten or so
		p.took += (b.now().Sub(began) - p.took) / weight
	}, nil
}

// debit takes one run from the grant's budget, durably.
func (b *budgets) debit(ctx context.Context, p *purse, d *admission.Decision) error {
	p.lease.Lock()
	defer p.lease.Unlock()
	if p.leased == 0 {
		n := max(1, d.Limits.Runs/leaseParts)
		_, err := b.ledger.Debit(ctx, key(d), n, d.Limits.Runs, d.Grant.Expires)
		if f, ok := fault.From(err); ok && f.Code == fault.LimitRuns && n > 1 {
			n = 1 // less than a whole lease is left
			_, err = b.ledger.Debit(ctx, key(d), n, d.Limits.Runs, d.Grant.Expires)
		}
		if err != nil {
			return err
		}
		p.leased = n
	}
	p.leased--
	return nil
}

// refund takes back a debit whose run never began, so that trying again when
// the node is busy costs nothing. It goes to the lease: a crash still loses it.
func (b *budgets) refund(p *purse) {
	p.lease.Lock()
	p.leased++
	p.lease.Unlock()
}

// left is how many runs d's grant has left.
func (b *budgets) left(d *admission.Decision) (uint64, error) {
	used, err := b.ledger.Used(key(d))
	if err != nil {
		return 0, err
	}
	b.mu.Lock()
	p := b.grants[key(d)]
	b.mu.Unlock()
	var leased uint64
	if p != nil {
		p.lease.Lock()
		leased = p.leased
		p.lease.Unlock()
	}
	return d.Limits.Runs - min(d.Limits.Runs, used-min(used, leased)), nil
}

// prune forgets grants that can never be used again; b.mu is held.
func (b *budgets) prune() {
	for k, p := range b.grants {
		if p.inFlight == 0 && b.now().After(p.expires) {
			delete(b.grants, k)
		}
	}
}
