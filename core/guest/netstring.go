package guest

import (
	"bytes"
	"strconv"
)

// Netstrings: https://cr.yp.to/proto/netstrings.txt, decimal length, ':',
// bytes, ','. Lengths have no leading zero.

const (
	maxLengthDigits   = 10                  // a netstring is shorter than 10 GB
	netstringOverhead = maxLengthDigits + 2 // digits, ':' and ','

	hintStdin = "netstrings of name and value in turn, names in ascending bytewise order"
)

// AppendNetstring appends the netstring of s to dst.
func AppendNetstring[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = strconv.AppendInt(dst, int64(len(s)), 10)
	dst = append(dst, ':')
	dst = append(dst, s...)
	return append(dst, ',')
}

// cutNetstring splits b after its first netstring. The content aliases b and
// cannot be appended to in place.
func cutNetstring(b []byte) (content, rest []byte, ok bool) {
	colon := bytes.IndexByte(b[:min(len(b), maxLengthDigits+1)], ':')
	if colon < 1 || colon > 1 && b[0] == '0' {
		return nil, nil, false
	}
	n := int64(0)
	for _, c := range b[:colon] {
		if c < '0' || c > '9' {
			return nil, nil, false
		}
		n = n*10 + int64(c-'0')
	}
	b = b[colon+1:]
	if n >= int64(len(b)) || b[n] != ',' { // the comma needs one more byte
		return nil, nil, false
	}
	return b[:n:n], b[n+1:], true
}
