package ledger

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"
)

// checkRecords reads all there is in the file.
func checkRecords(tx *bbolt.Tx) error {
	meta, used := tx.Bucket(metaBucket), tx.Bucket(usedBucket)
	if meta == nil || used == nil || string(meta.Get(formatKey)) != string(format) {
		return errForeign
	}
	s, err := getState(tx)
	if err != nil {
		return err
	}
	var keys, sum uint64
	var last []byte
	c := used.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		r, err := decodeRecord(k, v)
		if err != nil {
			return err
		}
		if keys++; keys > 1 && bytes.Compare(last, k) >= 0 || keys > s.keys {
			return fmt.Errorf("%w: keys are out of order or too many", errDamaged)
		}
		last, sum = k, sum+r.used
	}
	if keys != s.keys || sum != s.used {
		return fmt.Errorf("%w: it has %d keys of %d, that have used %d of %d", errDamaged, keys, s.keys, sum, s.used)
	}
	return nil
}

// pageCount is how many pages there are of each kind, those that continue a
// page included.
type pageCount struct {
	leaf, branch, freelist, free int
}

// countPages goes through the file page by page. bbolt takes the length of a
// page from its header on trust: with a wrong one, the next debit would free
// the pages of others, or fill the memory with numbers of pages that do not
// exist.
func (l *Ledger) countPages(tx *bbolt.Tx) (n pageCount, err error) {
	end := int(tx.Size() / int64(l.db.Info().PageSize))
	for id := 2; id < end; { // the two meta pages have checksums
		p, err := tx.Page(id)
		if err != nil {
			return n, err
		}
		if p.Type == "free" {
			n.free++
			id++
			continue
		}
		if p.OverflowCount >= end-id {
			return n, fmt.Errorf("%w: page %d is longer than the file", errDamaged, id)
		}
		length := 1 + p.OverflowCount
		for i := id + 1; i < id+length; i++ {
			if more, err := tx.Page(i); err != nil || more.Type == "free" {
				return n, fmt.Errorf("%w: page %d goes on in a free one", errDamaged, id)
			}
		}
		switch p.Type {
		case "leaf":
			n.leaf += length
		case "branch":
			n.branch += length
		case "freelist":
			n.freelist += length
		default:
			return n, fmt.Errorf("%w: page %d is of no known type", errDamaged, id)
		}
		id += length
	}
	if free := l.db.Stats().FreePageN; n.free != free {
		return n, fmt.Errorf("%w: it has %d free pages and a list of %d", errDamaged, n.free, free)
	}
	return n, nil
}

// agree reports an error unless the pages that can be reached are those that
// were counted.
func (n pageCount) agree(tx *bbolt.Tx) error {
	s := tx.Cursor().Bucket().Stats() // of the root, so of all buckets
	leaf, branch := s.LeafPageN+s.LeafOverflowN, s.BranchPageN+s.BranchOverflowN
	if leaf != n.leaf || branch != n.branch {
		return fmt.Errorf("%w: %d of %d leaf pages and %d of %d branch pages can be reached", errDamaged, leaf, n.leaf, branch, n.branch)
	}
	return nil
}
