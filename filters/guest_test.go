package filters_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestHello(t *testing.T) {
	e := plain()
	if got := e.answer(t, testGuest(t, "hello"), job{}); got != "hello\n" {
		t.Errorf("got %q", got)
	}
}

func TestEcho(t *testing.T) {
	e := plain()
	long := strings.Repeat("0123456789", 20_000)
	got := e.answer(t, testGuest(t, "echo"), job{args: []string{"--a", "", "b c"}, stdin: []byte(long)})
	if want := "--a\n\nb c\n" + long; got != want {
		t.Errorf("got %.100q… of %d bytes, want %d", got, len(got), len(want))
	}
}

// TestInputs is the test of sdk/c/liop.h; the Go SDK tests the same inputs
// natively.
func TestInputs(t *testing.T) {
	e := plain()
	var many strings.Builder
	for i := range 4097 {
		fmt.Fprintf(&many, "4:%04d,0:,", i)
	}
	long := strings.Repeat("x", 300_000)
	tests := []struct {
		name, in, want string
		err            string // "" is none
	}{
		{name: "empty"},
		{name: "one", in: "1:a,3:xyz,", want: "1:a,\n3:xyz,\n"},
		{name: "empty key and value", in: "0:,0:,", want: "0:,\n0:,\n"},
		{name: "delimiters inside", in: "3:1:,,4:,,::,", want: "3:1:,,\n4:,,::,\n"},
		{name: "prefix first", in: "1:a,0:,2:aa,1:\x00,", want: "1:a,\n0:,\n2:aa,\n1:\x00,\n"},
		{name: "long", in: "1:k,300000:" + long + ",", want: "1:k,\n300000:" + long + ",\n"},
		{name: "equal keys", in: "1:a,0:,1:a,0:,", err: "the keys of the inputs are not in ascending order"},
		{name: "unsorted", in: "1:b,0:,1:a,0:,", err: "the keys of the inputs are not in ascending order"},
		{name: "longer before prefix", in: "2:aa,0:,1:a,0:,", err: "the keys of the inputs are not in ascending order"},
		{name: "no value", in: "1:a,", err: "the inputs are not pairs of netstrings"},
		{name: "leading zero", in: "01:a,0:,", err: "the inputs are not pairs of netstrings"},
		{name: "no comma", in: "1:a", err: "the inputs are not pairs of netstrings"},
		{name: "other end", in: "1:a;0:,", err: "the inputs are not pairs of netstrings"},
		{name: "length without bytes", in: "999999999:a,0:,", err: "the inputs are not pairs of netstrings"},
		{name: "length of ten digits", in: "4294967297:a,0:,", err: "the inputs are not pairs of netstrings"},
		{name: "text after", in: "1:a,0:,x", err: "the inputs are not pairs of netstrings"},
		{name: "too many", in: many.String(), err: "more than 4096 inputs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := job{stdin: []byte(tt.in)}
			if tt.err != "" {
				if got := e.run(t.Context(), t, testGuest(t, "inputs"), j); got.code != 1 || got.stderr != tt.err+"\n" {
					t.Errorf("code %d, stderr %q, want %q", got.code, got.stderr, tt.err)
				}
				return
			}
			if got := e.answer(t, testGuest(t, "inputs"), j); got != tt.want {
				t.Errorf("got %.200q, want %.200q", got, tt.want)
			}
		})
	}
}

func TestDatasets(t *testing.T) {
	e := plain()
	got := e.answer(t, testGuest(t, "inputs"), job{data: map[string]string{
		"zoo": t.TempDir(), "ant": t.TempDir(), "two/parts": t.TempDir(), "an.ant-2": t.TempDir(),
	}})
	if want := "an.ant-2 /data/an.ant-2\nant /data/ant\ntwo/parts /data/two/parts\nzoo /data/zoo\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPread(t *testing.T) {
	got := plain().answer(t, testGuest(t, "pread"), job{data: map[string]string{"d": write(t, map[string]string{"f": "abc"})}})
	if want := "3 99\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
