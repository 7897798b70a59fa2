// Package ledger keeps what grants have used up, so that a grant for a hundred
// runs gives a hundred runs, also across crashes.
//
// It promises that
//
//   - an acknowledged debit is on disk: neither kill -9 nor a power failure
//     undoes it, as far as the disk keeps what it has said to have written;
//   - the debits of a key never add up to more than the limit that was given
//     with them, however many callers there are;
//   - an error means that nothing was debited, with one exception: after an
//     error in writing the debit may or may not be on disk. The ledger then
//     refuses everything until it is opened again, so it errs on the side of
//     the owner of the data.
//
// A ledger is one bbolt file that one process has open. Concurrent debits are
// written together: while one transaction is flushed, the next one gathers all
// callers that wait.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/liop-project/liop/core/fault"
)

// Limits of a ledger.
const (
	// MaxKeyBytes is the longest key.
	MaxKeyBytes = 1024

	// MaxKeys is how many keys a ledger holds. Debits of further keys are
	// refused as busy until some have expired.
	MaxKeys = 1_000_000

	// MaxBatch is how many debits one transaction takes.
	MaxBatch = 256

	// LockTimeout is how long Open waits for another process to close the file.
	LockTimeout = time.Second

	// KeepExpired is how long a key is kept after it has expired, for nodes
	// that allow for wrong clocks when they check a grant.
	KeepExpired = time.Hour

	// PruneInterval is how often expired keys are looked for.
	PruneInterval = time.Hour

	// pruneKeys is how many keys are looked at in one transaction, while debits
	// wait.
	pruneKeys = 10_000
)

// ErrClosed is returned by a [Ledger] after [Ledger.Close].
var ErrClosed = errors.New("ledger is closed")

// Options of a ledger. The zero value is useful.
type Options struct {
	// Now is the clock that decides what has expired; nil is time.Now.
	Now func() time.Time
}

// Ledger is an open ledger. Its methods are safe for concurrent use.
type Ledger struct {
	path string
	file *os.File // db's
	db   *bbolt.DB
	now  func() time.Time

	debits chan *debit   // to the writer, unbuffered: whoever is through will be answered
	quit   chan struct{} // closed by Close
	done   chan struct{} // closed when the writer has ended
	close  func() error  // once

	mu     sync.Mutex
	failed error // set by a failed write; refuses everything

	// Of the writer alone.
	pruned  time.Time // when the latest search for expired keys began
	pruneAt []byte    // the key where that search goes on; nil: it is done
}

// debit is one call of Debit on its way through the writer.
type debit struct {
	key     []byte
	n, max  uint64
	expires int64
	left    uint64
	err     error
	done    chan struct{} // closed when left and err are set
}

// Debit adds n to what key has used, unless that would exceed max, and returns
// how much is left. It is on disk when Debit returns.
//
// key names whose purse it is: with the issuer of the grant, never by what an
// agent says of itself. It is 1 to [MaxKeyBytes] bytes. expires is when the last
// grant with this key becomes invalid; some time after it the ledger forgets
// the key. If calls differ in expires, the latest counts.
//
// With n = 0 nothing is written, and the answer is what is left.
//
// Refusals are [*fault.Error]: [fault.LimitRuns] if n does not fit,
// [fault.GrantInvalid] if expires is so long ago that the key may have been
// forgotten, [fault.Busy] if the ledger holds [MaxKeys]. Otherwise the error is
// ctx's, [ErrClosed], or one for the operator that names the file. The end of
// ctx is heeded until the debit is taken up; from then on Debit waits for the
// disk, so that its outcome is known.
func (l *Ledger) Debit(ctx context.Context, key string, n, max uint64, expires time.Time) (left uint64, err error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	d := &debit{key: []byte(key), n: n, max: max, expires: ceilSecond(expires), done: make(chan struct{})}
	select {
	case l.debits <- d:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-l.quit:
		return 0, ErrClosed
	}
	<-d.done
	return d.left, d.err
}

// Used is what key has used, 0 if the ledger does not know it.
func (l *Ledger) Used(key string) (used uint64, err error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	if err := l.broken(); err != nil {
		return 0, err
	}
	err = guard(func() error {
		return l.db.View(func(tx *bbolt.Tx) error {
			r, _, err := get(tx.Bucket(usedBucket), []byte(key))
			used = r.used
			return err
		})
	})
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return 0, ErrClosed
	}
	if err != nil {
		return 0, fmt.Errorf("ledger %q: %w", l.path, err)
	}
	return used, nil
}

// Close finishes the debits that were taken up and closes the file. It is
// idempotent and gives each caller the same answer.
func (l *Ledger) Close() error { return l.close() }

func (l *Ledger) broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// fail refuses everything from now on.
func (l *Ledger) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = fmt.Errorf("ledger %q cannot be written, see to the disk and restart the node: %w", l.path, err)
	return l.failed
}

func checkKey(key string) error {
	if len(key) == 0 || len(key) > MaxKeyBytes {
		return fmt.Errorf("ledger key of %d bytes, it must have 1 to %d", len(key), MaxKeyBytes)
	}
	return nil
}

func exhausted(used, n, max uint64) *fault.Error {
	e := &fault.Error{
		Code: fault.LimitRuns, Rule: "limits.runs", Owner: fault.Grant,
		Message: fmt.Sprintf("the grant's runs are used up: %d of %d", used, max),
		Hint:    "ask the issuer for a new grant",
	}
	if used < max {
		e.Message = fmt.Sprintf("the grant has too few runs left: %d of %d are used, %d more do not fit", used, max, n)
		e.Hint = fmt.Sprintf("at most %d more", max-used)
	}
	return e
}

func expired() *fault.Error {
	return &fault.Error{
		Code: fault.GrantInvalid, Rule: "exp", Owner: fault.Grant,
		Message: "the grant has expired", Hint: "ask the issuer for a new grant",
	}
}

func full() *fault.Error {
	return &fault.Error{
		Code: fault.Busy, Rule: "ledger.keys", Owner: fault.Node,
		Message: fmt.Sprintf("the node keeps account of %d grants, its limit", MaxKeys),
		Hint:    "try again when some of them have expired, or use a grant that does not limit runs",
	}
}

// ceilSecond is t in seconds since the Unix epoch, rounded up.
func ceilSecond(t time.Time) int64 {
	s := t.Unix()
	if t.Nanosecond() > 0 {
		s++
	}
	return s
}
