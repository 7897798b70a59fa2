package catalog

import (
	"cmp"
	"errors"
	"strings"
	"time"
)

// Validator decides for a DHT which records it keeps and believes. It has the
// methods of libp2p's record.Validator for the namespace "liop".
type Validator struct {
	// Now is the clock. Required.
	Now func() time.Time
}

// Validate accepts a record under the key of the node that signed it.
func (v Validator) Validate(key string, value []byte) error {
	node, ok := strings.CutPrefix(key, keyNamespace)
	if !ok {
		return refuse("key", "catalog records are under "+keyNamespace)
	}
	if len(value) > MaxRecord { // before it is copied
		return refuse("record", "the catalog record is too long")
	}
	r, err := Parse(string(value), v.Now())
	if err != nil {
		return err
	}
	if r.Node.String() != node {
		return refuse("node", "the catalog record is under the key of another node")
	}
	return nil
}

// Select is the index of the record to believe: that with the highest sequence
// number, and of equal ones the one that lasts longest. A record that Validate
// refuses never wins.
func (v Validator) Select(key string, values [][]byte) (int, error) {
	best, at := (*Record)(nil), -1
	for i, b := range values {
		if v.Validate(key, b) != nil {
			continue
		}
		r, err := Parse(string(b), v.Now())
		if err != nil {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(r.Seq, best.Seq), cmp.Compare(r.Expires, best.Expires),
			strings.Compare(string(b), string(values[at]))) > 0 {
			best, at = r, i
		}
	}
	if at < 0 {
		return 0, errors.New("catalog: no record is valid")
	}
	return at, nil
}
