package ledger

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"

	"go.etcd.io/bbolt"
)

// The file has two buckets: used has a record for each key, meta the format and
// the state. Both are big-endian integers and a CRC-32C of their key and these;
// times are in seconds since the Unix epoch. bbolt has no checksums of data, and
// a flipped bit would be a gift of runs. The state has sums over all records,
// because a wrong pointer in the file may lead to old pages, whose records are
// whole.
var (
	usedBucket = []byte("used")
	metaBucket = []byte("meta")
	formatKey  = []byte("format")
	stateKey   = []byte("state")

	format = []byte("liop-ledger-v1")

	errDamaged = errors.New("the file is damaged")
)

// record is what one key has used.
type record struct {
	used    uint64
	expires int64
}

// state is about all keys together.
type state struct {
	keys uint64 // how many there are
	used uint64 // what they have used, modulo 2^64

	// horizon is the latest expiry among all keys that were ever deleted. A
	// grant that expires no later may have been forgotten, so it is refused,
	// whatever the clock says by then.
	horizon int64

	changed bool // not in the file: something is to be written
}

// get is key's record, and whether there is one.
func get(used *bbolt.Bucket, key []byte) (r record, ok bool, err error) {
	v := used.Get(key)
	if v == nil {
		return record{}, false, nil
	}
	r, err = decodeRecord(key, v)
	return r, true, err
}

func (r record) encode(key []byte) []byte { return encode(key, r.used, uint64(r.expires)) }

func decodeRecord(key, b []byte) (r record, err error) {
	var expires uint64
	err = decode(key, b, &r.used, &expires)
	r.expires = int64(expires)
	return r, err
}

func getState(tx *bbolt.Tx) (s state, err error) {
	var horizon uint64
	err = decode(stateKey, tx.Bucket(metaBucket).Get(stateKey), &s.keys, &s.used, &horizon)
	s.horizon = int64(horizon)
	return s, err
}

func (s state) put(tx *bbolt.Tx) error {
	return tx.Bucket(metaBucket).Put(stateKey, encode(stateKey, s.keys, s.used, uint64(s.horizon)))
}

// noHorizon is before every expiry.
const noHorizon = math.MinInt64

func encode(key []byte, values ...uint64) []byte {
	b := make([]byte, 0, 8*len(values)+4)
	for _, v := range values {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return binary.BigEndian.AppendUint32(b, checksum(key, b))
}

// decode is the inverse of encode. It sets nothing unless b is whole.
func decode(key, b []byte, values ...*uint64) error {
	n := 8 * len(values)
	if len(b) != n+4 || binary.BigEndian.Uint32(b[n:]) != checksum(key, b[:n]) {
		return errDamaged
	}
	for i, v := range values {
		*v = binary.BigEndian.Uint64(b[8*i:])
	}
	return nil
}

func checksum(key, b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(key, table), table, b)
}
