package kad

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
)

const (
	// Prefix of the protocol: /liop/kad/1.0.0.
	Prefix = "/liop"
	// Protocol is what peers of the DHT speak.
	Protocol = Prefix + "/kad/1.0.0"
	// MaxValueBytes bounds a value. kad-dht would lose one of 4 MiB without a
	// word, and every peer keeps the values of many others.
	MaxValueBytes = 64 << 10

	namespace  = "liop"
	namePrefix = "liop:dataset:" // keeps names apart from whatever else is ever hashed
)

// NameKey is the key of a dataset's provider records: CIDv1, raw, of the SHA-256
// of "liop:dataset:" and the name.
func NameKey(name string) cid.Cid {
	sum := sha256.Sum256([]byte(namePrefix + name))
	h, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		panic(err) // of a constant code and length
	}
	return cid.NewCidV1(cid.Raw, h)
}

// ValueKey is the key of a peer's value: /liop/ and its id in text.
func ValueKey(p peer.ID) string { return "/" + namespace + "/" + p.String() }

// validator is Config.Validator behind the checks that hold for all values.
type validator struct{ record.Validator }

func (v validator) Validate(key string, value []byte) error {
	if len(value) == 0 || len(value) > MaxValueBytes {
		return fmt.Errorf("kad: a value has 1 to %d bytes", MaxValueBytes)
	}
	id, ok := strings.CutPrefix(key, "/"+namespace+"/")
	if !ok {
		return errors.New("kad: not the key of a peer")
	}
	if p, err := peer.Decode(id); err != nil || ValueKey(p) != key {
		return errors.New("kad: not the key of a peer")
	}
	return v.Validator.Validate(key, value)
}

// Select prefers the first of equal values: kad-dht stamps a record that is put
// again with the time of today only if it is the one selected.
func (v validator) Select(key string, values [][]byte) (int, error) {
	i, err := v.Validator.Select(key, values)
	if err != nil || i < 0 || i >= len(values) {
		return i, err
	}
	for first, value := range values[:i] {
		if bytes.Equal(value, values[i]) {
			return first, nil
		}
	}
	return i, nil
}
