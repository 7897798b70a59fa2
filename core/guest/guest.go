// Package guest is the contract between a guest module and whoever calls it,
// in the form that both sides compute: which arguments, inputs and dataset
// names are allowed, and the exact bytes that a module reads on stdin.
//
// The package promises that its encodings are deterministic and injective:
// equal inputs give equal bytes on every machine, different inputs give
// different bytes. Receipts hash these bytes, so they never change within one
// version of the protocol (SPEC §5.2).
//
// Everything that the Valid functions refuse is a [*fault.Error] with code
// [fault.InvalidRequest] whose Rule is the name of the field. All functions
// are pure and safe for concurrent use.
package guest

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/liop-project/liop/core/fault"
)

// Limits of one request. They bound what a node allocates for a caller before
// any policy was asked; the limits of a session may be tighter.
const (
	MaxArgs        = 256      // arguments after argv[0]
	MaxArgBytes    = 64 << 10 // all arguments together, in bytes
	MaxInputs      = 256      // entries of the inputs map
	MaxInputName   = 128      // one input's name, in bytes
	MaxDatasets    = 16       // datasets of one session; their commitments must fit a receipt
	MaxDatasetName = 128      // one dataset's name, in bytes
	maxSegment     = 63       // one segment of a dataset's name, in bytes
	// HintPattern says what [ValidPattern] accepts.
	HintPattern = `a dataset name, or one segment and "/*"`

	hintDataset = "one or two segments joined by '/', each 1 to 63 of a-z 0-9 . _ - and starting with a letter or digit"
)

// Stdin is what a module reads on standard input: for each entry of inputs, in
// bytewise order of the keys, the netstring of the key and the netstring of the
// value. No inputs give no bytes.
//
// Stdin encodes any map; callers check untrusted ones with [ValidInputs] first.
func Stdin(inputs map[string][]byte) []byte {
	if len(inputs) == 0 {
		return nil
	}
	size := 0
	for k, v := range inputs {
		size += len(k) + len(v) + 2*netstringOverhead
	}
	b := make([]byte, 0, size)
	for _, k := range slices.Sorted(maps.Keys(inputs)) {
		b = AppendNetstring(b, k)
		b = AppendNetstring(b, inputs[k])
	}
	return b
}

// ParseStdin is the inverse of [Stdin]. It accepts exactly the encodings of
// maps that pass [ValidInputs], so that one map has one encoding: keys MUST
// ascend strictly and lengths have no leading zero. The values alias b.
//
// It refuses everything else with a [*fault.Error] whose rule is "stdin", and
// allocates no more than [MaxInputs] entries for any input.
func ParseStdin(b []byte) (map[string][]byte, error) {
	inputs := make(map[string][]byte)
	last := ""
	for len(b) > 0 {
		if len(inputs) == MaxInputs {
			return nil, invalid("stdin", fmt.Sprintf("more than %d inputs", MaxInputs), "")
		}
		key, rest, ok := cutNetstring(b)
		if !ok {
			return nil, invalid("stdin", "malformed name of an input", hintStdin)
		}
		value, rest, ok := cutNetstring(rest)
		if !ok {
			return nil, invalid("stdin", "malformed value of an input", hintStdin)
		}
		name := string(key[:min(len(key), MaxInputName+1)])
		if err := validInputName("stdin", name); err != nil {
			return nil, err
		}
		if name <= last {
			return nil, invalid("stdin", "names of inputs do not ascend", hintStdin)
		}
		inputs[name], last, b = value, name, rest
	}
	return inputs, nil
}

// ArgsHash is the SHA-256 of the netstrings of args, in order. A receipt names
// the arguments by it.
func ArgsHash(args []string) [32]byte {
	var b []byte
	for _, a := range args {
		b = AppendNetstring(b, a)
	}
	return sha256.Sum256(b)
}

// ValidArgs checks arguments before they become a module's argv[1:]. At most
// [MaxArgs] of at most [MaxArgBytes] in total, each valid UTF-8 without NUL,
// which WASI cannot express.
func ValidArgs(args []string) error {
	if len(args) > MaxArgs {
		return invalid("args", fmt.Sprintf("%d arguments", len(args)), fmt.Sprintf("at most %d", MaxArgs))
	}
	total := 0
	for i, a := range args {
		total += len(a)
		if total > MaxArgBytes {
			return invalid("args", "arguments are too long", fmt.Sprintf("at most %d bytes together; use inputs for more", MaxArgBytes))
		}
		if !utf8.ValidString(a) || strings.IndexByte(a, 0) >= 0 {
			return invalid("args", fmt.Sprintf("argument %d is not text", i+1), "valid UTF-8 without NUL; use inputs for bytes")
		}
	}
	return nil
}

// ValidInputs checks inputs before they become a module's stdin: at most
// [MaxInputs], each name 1 to [MaxInputName] bytes of UTF-8 without NUL. Values
// are any bytes; how many is the session's limit (input_bytes), not this
// function's.
func ValidInputs(inputs map[string][]byte) error {
	if len(inputs) > MaxInputs {
		return invalid("inputs", fmt.Sprintf("%d inputs", len(inputs)), fmt.Sprintf("at most %d", MaxInputs))
	}
	for name := range inputs {
		if err := validInputName("inputs", name); err != nil {
			return err
		}
	}
	return nil
}

// ValidDatasets checks the datasets that a session asks for: 1 to [MaxDatasets]
// names, each passing [ValidDataset], none twice.
func ValidDatasets(names []string) error {
	if len(names) == 0 || len(names) > MaxDatasets {
		return invalid("datasets", fmt.Sprintf("%d datasets", len(names)), fmt.Sprintf("1 to %d", MaxDatasets))
	}
	for i, name := range names {
		if err := ValidDataset(name); err != nil {
			return err
		}
		if slices.Contains(names[:i], name) {
			return invalid("datasets", fmt.Sprintf("%q is named twice", name), "name each dataset once")
		}
	}
	return nil
}

// ValidDataset checks the name of a dataset: one or two segments joined by '/',
// each matching [a-z0-9][a-z0-9._-]{0,62}, at most [MaxDatasetName] bytes
// together. Such a name is also a relative path without "." or ".." segments.
func ValidDataset(name string) error {
	if name == "" {
		return invalid("datasets", "empty dataset name", hintDataset)
	}
	if len(name) > MaxDatasetName {
		return invalid("datasets", "dataset name is too long", hintDataset)
	}
	first, second, two := strings.Cut(name, "/")
	if !validSegment(first) || two && !validSegment(second) {
		return invalid("datasets", fmt.Sprintf("%q is not a dataset name", name), hintDataset)
	}
	return nil
}

// ValidPattern checks a pattern of dataset names: a name, or one segment and
// "/*". Its error does not say what is right; HintPattern does.
func ValidPattern(p string) error {
	name, wild := strings.CutSuffix(p, "/*")
	if ValidDataset(name) != nil || wild && strings.Contains(name, "/") {
		return fmt.Errorf("%.80q is not a dataset pattern", p)
	}
	return nil
}

// Covers reports whether one of patterns is for the dataset of that name. The
// pattern "a/*" covers "a/b", but neither "a" nor "ab/c".
func Covers(patterns []string, dataset string) bool {
	if ValidDataset(dataset) != nil {
		return false
	}
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, wild := strings.CutSuffix(p, "*")
		return p == dataset || wild && strings.HasPrefix(dataset, prefix)
	})
}

func validSegment(s string) bool {
	if s == "" || len(s) > maxSegment {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}

func validInputName(rule, name string) error {
	switch {
	case name == "":
		return invalid(rule, "empty name of an input", "")
	case len(name) > MaxInputName:
		return invalid(rule, "name of an input is too long", fmt.Sprintf("at most %d bytes", MaxInputName))
	case !utf8.ValidString(name) || strings.IndexByte(name, 0) >= 0:
		return invalid(rule, "name of an input is not text", "valid UTF-8 without NUL")
	}
	return nil
}

func invalid(rule, message, hint string) *fault.Error {
	return &fault.Error{Code: fault.InvalidRequest, Rule: rule, Owner: fault.Protocol, Message: message, Hint: hint}
}
