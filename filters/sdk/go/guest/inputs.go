package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	// MaxInputs bounds the number of inputs.
	MaxInputs = 4096
	// MaxInputBytes bounds all of stdin. The node's own limit is what an agent
	// meets first.
	MaxInputBytes = 64 << 20
)

// Inputs reads the agent's inputs from stdin to its end. It fails if they are
// larger than MaxInputBytes or not as the node writes them.
func Inputs() (map[string][]byte, error) {
	b, err := io.ReadAll(io.LimitReader(os.Stdin, MaxInputBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the inputs: %w", err)
	}
	if len(b) > MaxInputBytes {
		return nil, fmt.Errorf("the inputs are larger than %d bytes", MaxInputBytes)
	}
	return decodeInputs(b)
}

var errInputs = errors.New("the inputs are not pairs of netstrings")

// decodeInputs decodes netstrings (D. J. Bernstein, 1997: "3:abc,") key, value,
// key, value …, with keys in strictly ascending bytewise order. The values
// share b's memory.
func decodeInputs(b []byte) (map[string][]byte, error) {
	inputs := make(map[string][]byte)
	var last []byte
	for len(b) > 0 {
		key, rest, ok := cutNetstring(b)
		if !ok {
			return nil, errInputs
		}
		value, rest, ok := cutNetstring(rest)
		if !ok {
			return nil, errInputs
		}
		if len(inputs) > 0 && bytes.Compare(last, key) >= 0 {
			return nil, errors.New("the keys of the inputs are not in ascending order")
		}
		if len(inputs) == MaxInputs {
			return nil, fmt.Errorf("more than %d inputs", MaxInputs)
		}
		inputs[string(key)] = value
		last, b = key, rest
	}
	return inputs, nil
}

// cutNetstring takes one netstring off the front of b. Its length has one to
// nine digits and no leading zeros, so that there is one form of each string.
func cutNetstring(b []byte) (s, rest []byte, ok bool) {
	n, digits := 0, 0
	for digits < len(b) && b[digits] >= '0' && b[digits] <= '9' {
		if digits == 9 || digits == 1 && n == 0 {
			return nil, nil, false
		}
		n = n*10 + int(b[digits]-'0')
		digits++
	}
	b = b[digits:]
	if digits == 0 || len(b) < n+2 || b[0] != ':' || b[n+1] != ',' {
		return nil, nil, false
	}
	return b[1 : n+1 : n+1], b[n+2:], true
}
