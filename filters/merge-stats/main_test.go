package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	north := `{"column":"x","by":"k","rows":3,"skipped":1,"groups":[
		{"key":"a","count":2,"skipped":0,"sum":3.5,"mean":1.75,"min":1,"max":2.5},
		{"key":"b","count":1,"skipped":1,"sum":0,"mean":null,"min":null,"max":null}]}`
	south := `{"column":"x","by":"k","rows":2,"skipped":0,"groups":[
		{"key":"a","count":1,"skipped":0,"sum":9007199254740993.25,"mean":9007199254740993,"min":-4,"max":2},
		{"key":null,"count":1,"skipped":0,"sum":1e2,"mean":100,"min":1e2,"max":1e2}]}`
	plain := `{"column":null,"by":"k","rows":2,"groups":[{"key":"a","count":2}]}`
	for _, tc := range []struct {
		name   string
		args   string
		inputs []string
		want   string // of the answer, or of the error if it begins with "!"
	}{
		{"one", "", []string{plain}, `{"nodes":1,"column":null,"by":"k","rows":2,"groups":[{"key":"a","count":2}]}`},
		{"two, exact", "", []string{north, south}, `{"nodes":2,"column":"x","by":"k","rows":5,"skipped":1,"groups":[` +
			`{"key":null,"count":1,"skipped":0,"sum":100,"mean":100,"min":1e2,"max":1e2},` +
			`{"key":"a","count":3,"skipped":0,"sum":9007199254740996.75,"mean":3002399751580332,"min":-4,"max":2.5},` +
			`{"key":"b","count":1,"skipped":1,"sum":0,"mean":null,"min":null,"max":null}]}`},
		{"top", "--sort count --top 1", []string{north, south}, `"groups":[{"key":"a","count":3`},
		{"by sum", "--sort sum --top 2", []string{north, south}, `"groups":[{"key":"a"`},
		{"merged again", "", []string{`{"nodes":2,"column":null,"by":"k","rows":2,"groups":[{"key":"a","count":2}]}`, plain}, `{"nodes":3,`},
		{"none", "", nil, "!no inputs"},
		{"another question", "", []string{plain, north}, "!another question"},
		{"cut", "", []string{`{"column":null,"by":"k","rows":3,"groups":[{"key":"a","count":2}]}`}, "!without --top"},
		{"not JSON", "", []string{"hello"}, "!no answer of stats"},
		{"no sum", "", []string{`{"column":"x","by":null,"rows":1,"skipped":0,"groups":[{"key":null,"count":1}]}`}, "!has no sum"},
		{"long number", "", []string{`{"column":"x","by":null,"rows":1,"skipped":0,"groups":[{"key":null,"count":1,"skipped":0,"sum":1e999999}]}`}, "!too long"},
		{"sort by nothing", "--sort sum", []string{plain}, "!--column"},
		{"usage", "--sort up", []string{plain}, "!usage"},
		{"flag", "--what", []string{plain}, "!usage"},
	} {
		inputs := map[string][]byte{}
		for i, in := range tc.inputs {
			inputs[string(rune('a'+i))] = []byte(in)
		}
		var out bytes.Buffer
		err := run(strings.Fields(tc.args), inputs, &out)
		if want, bad := strings.CutPrefix(tc.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", tc.name, err, want)
			}
		} else if err != nil || !strings.Contains(out.String(), tc.want) {
			t.Errorf("%s: %v\ngot  %s\nwant %s", tc.name, err, out.String(), tc.want)
		}
	}
}

func FuzzAdd(f *testing.F) {
	f.Add([]byte(`{"column":"x","by":"k","rows":1,"skipped":0,"groups":[{"key":"a","count":1,"skipped":0,"sum":3.5,"mean":1,"min":1,"max":2e3}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var out bytes.Buffer
		run(nil, map[string][]byte{"a": text, "b": text}, &out) // must return
	})
}
