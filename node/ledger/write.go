package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// write is the writer: the one goroutine that changes the file.
func (l *Ledger) write() {
	defer close(l.done)
	batch := make([]*debit, 0, MaxBatch)
	for {
		select {
		case d := <-l.debits:
			batch = append(batch, d)
		case <-l.quit:
			return
		}
	gather:
		for len(batch) < MaxBatch {
			select {
			case d := <-l.debits:
				batch = append(batch, d)
			default:
				break gather
			}
		}
		l.commit(batch)
		for _, d := range batch {
			close(d.done)
		}
		clear(batch)
		batch = batch[:0]
		if l.broken() == nil {
			l.prune()
		}
	}
}

// commit makes the debits of a batch in one transaction, or fails them all.
func (l *Ledger) commit(batch []*debit) {
	err := l.broken()
	if err == nil {
		err = l.update(func(tx *bbolt.Tx, s *state) error {
			for _, d := range batch {
				if err := d.apply(tx.Bucket(usedBucket), s); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil {
		return
	}
	for _, d := range batch {
		d.left, d.err = 0, err
	}
}

// apply sets the outcome of a debit, and writes its record if it is made. An
// error is the file's, not the debit's.
func (d *debit) apply(used *bbolt.Bucket, s *state) error {
	r, known, err := get(used, d.key)
	if err != nil {
		return err
	}
	switch {
	case d.expires <= s.horizon:
		d.err = expired()
	case r.used > d.max || d.n > d.max-r.used:
		d.err = exhausted(r.used, d.n, d.max)
	case d.n == 0:
		d.left = d.max - r.used
	case !known && s.keys >= MaxKeys:
		d.err = full()
	default:
		if !known {
			r.expires = d.expires
			s.keys++
		}
		r.used += d.n
		s.used += d.n
		s.changed = true
		r.expires = max(r.expires, d.expires)
		d.left = d.max - r.used
		return used.Put(d.key, r.encode(d.key))
	}
	return nil
}

// update runs f in one transaction, which is on disk when it returns. f keeps s
// in step with what it does to records; if it does not mark it as changed,
// nothing is written. After an error the ledger is broken.
func (l *Ledger) update(f func(tx *bbolt.Tx, s *state) error) error {
	err := guard(func() error {
		return l.db.Update(func(tx *bbolt.Tx) error {
			s, err := getState(tx)
			if err != nil {
				return err
			}
			if err := f(tx, &s); err != nil {
				return err
			}
			if !s.changed {
				return errNoChange
			}
			return s.put(tx)
		})
	})
	if err == nil || errors.Is(err, errNoChange) {
		return nil
	}
	return l.fail(err)
}

// prune looks at the next pruneKeys keys for expired ones, if a search is under
// way or due.
func (l *Ledger) prune() {
	if l.pruneAt == nil {
		now := l.now()
		since := now.Sub(l.pruned)
		if since >= 0 && since < PruneInterval { // negative: the clock was set back
			return
		}
		l.pruned, l.pruneAt = now, []byte{}
	}
	_ = l.pruneNext(pruneKeys) // an error breaks the ledger, and the next debit reports it
}

// pruneNext deletes, among the next n keys, those that expired more than
// KeepExpired before the search began.
func (l *Ledger) pruneNext(n int) error {
	until := l.pruned.Add(-KeepExpired).Unix()
	return l.update(func(tx *bbolt.Tx, s *state) error {
		used := tx.Bucket(usedBucket)
		var dead [][]byte
		c := used.Cursor()
		k, v := c.Seek(l.pruneAt)
		for ; k != nil && n > 0; k, v = c.Next() {
			n--
			r, err := decodeRecord(k, v)
			if err != nil {
				return err
			}
			if r.expires < until {
				dead = append(dead, bytes.Clone(k))
				s.horizon = max(s.horizon, r.expires)
				s.keys--
				s.used -= r.used
				s.changed = true
			}
		}
		l.pruneAt = bytes.Clone(k) // nil at the end
		for _, k := range dead {   // not in the loop above: deleting moves the cursor
			if err := used.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

var errNoChange = errors.New("nothing to write")

// guard turns a panic of f into an error: bbolt panics at damage that it meets
// in the file, and a file that was cut short raises a fault in its memory map.
func guard(f func() error) (err error) {
	before := debug.SetPanicOnFault(true) // of this goroutine
	defer debug.SetPanicOnFault(before)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errDamaged, p)
		}
	}()
	return f()
}
