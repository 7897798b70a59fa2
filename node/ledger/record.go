package ledger

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"

	"go.etcd.io/bbolt"
)

// The file has two buckets: used has a record for each key, meta the format and
// the state. Integers are big endian; times are seconds since the Unix epoch.
// Records and state end with a CRC-32C of their key and the rest, because bbolt
// has no checksums of data, and a flipped bit would be a gift of runs.
var (
	usedBucket = []byte("used")
	metaBucket = []byte("meta")
	formatKey  = []byte("format")
	stateKey   = []byte("state")

	format = []byte("liop-ledger-v1")

	errDamaged = errors.New("the file is damaged")
)

// record is what one key has used. Both it and state are two integers.
type record struct {
	used    uint64
	expires int64
}

// state is about all keys together.
type state struct {
	keys uint64 // how many there are

	// horizon is the latest expiry among all keys that were ever deleted. A
	// grant that expires no later may have been forgotten, so it is refused,
	// whatever the clock says by then.
	horizon int64
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

func (r record) encode(key []byte) []byte { return encode(key, r.used, r.expires) }

func decodeRecord(key, b []byte) (record, error) {
	used, expires, err := decode(key, b)
	return record{used, expires}, err
}

func getState(tx *bbolt.Tx) (state, error) {
	keys, horizon, err := decode(stateKey, tx.Bucket(metaBucket).Get(stateKey))
	return state{keys, horizon}, err
}

func (s state) put(tx *bbolt.Tx) error {
	return tx.Bucket(metaBucket).Put(stateKey, encode(stateKey, s.keys, s.horizon))
}

// noHorizon is before every expiry.
const noHorizon = math.MinInt64

const (
	sumAt       = 8 + 8
	recordBytes = sumAt + 4
)

func encode(key []byte, n uint64, t int64) []byte {
	b := make([]byte, 0, recordBytes)
	b = binary.BigEndian.AppendUint64(b, n)
	b = binary.BigEndian.AppendUint64(b, uint64(t))
	return binary.BigEndian.AppendUint32(b, checksum(key, b))
}

func decode(key, b []byte) (n uint64, t int64, err error) {
	if len(b) != recordBytes || binary.BigEndian.Uint32(b[sumAt:]) != checksum(key, b[:sumAt]) {
		return 0, 0, errDamaged
	}
	return binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint64(b[8:])), nil
}

func checksum(key, b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(key, table), table, b)
}
