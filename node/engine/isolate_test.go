package engine

import (
	"strings"
	"testing"

	"github.com/liop-project/liop/node/sandbox/wire"
)

// Of a machine with several gaps each is told, and none twice.
func TestLack(t *testing.T) {
	for _, tc := range []struct{ found, want string }{
		{"namespaces", "namespaces"},
		{"namespaces uid", "namespaces uid"},         // root in a container without either
		{"namespaces:pid namespaces", "namespaces"},  // the whole of it is more than a part
		{"namespaces:pid uid", "namespaces:pid uid"}, // another thing
		{"namespaces namespaces uid uid", "namespaces uid"},
		{"", ""},
	} {
		var gaps []*wire.Gap
		for f := range strings.FieldsSeq(tc.found) {
			gaps = lack(gaps, &wire.Gap{Feature: f})
		}
		var got []string
		for _, g := range lack(gaps, nil) {
			got = append(got, g.Feature)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%q: %q, want %q", tc.found, got, tc.want)
		}
	}
}
