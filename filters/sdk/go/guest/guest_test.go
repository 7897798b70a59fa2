package guest

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// encode is what the node does.
func encode(inputs map[string][]byte) []byte {
	var b bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(inputs)) {
		fmt.Fprintf(&b, "%d:%s,%d:%s,", len(k), k, len(inputs[k]), inputs[k])
	}
	return b.Bytes()
}

func TestDecodeInputs(t *testing.T) {
	var many bytes.Buffer
	for i := range MaxInputs + 1 {
		fmt.Fprintf(&many, "4:%04d,0:,", i)
	}
	tests := []struct {
		name, in string
		want     map[string][]byte
		err      string // "" is none
	}{
		{name: "empty", in: "", want: map[string][]byte{}},
		{name: "one", in: "1:a,3:xyz,", want: map[string][]byte{"a": []byte("xyz")}},
		{name: "empty key and value", in: "0:,0:,", want: map[string][]byte{"": {}}},
		{name: "delimiters inside", in: "3:1:,,4:,,::,", want: map[string][]byte{"1:,": []byte(",,::")}},
		{name: "two", in: "1:a,0:,1:b,1:\x00,", want: map[string][]byte{"a": {}, "b": {0}}},
		{name: "prefix first", in: "1:a,0:,2:aa,0:,", want: map[string][]byte{"a": {}, "aa": {}}},
		{name: "equal keys", in: "1:a,0:,1:a,0:,", err: "ascending"},
		{name: "unsorted", in: "1:b,0:,1:a,0:,", err: "ascending"},
		{name: "no value", in: "1:a,", err: "pairs"},
		{name: "leading zero", in: "01:a,0:,", err: "pairs"},
		{name: "no comma", in: "1:a", err: "pairs"},
		{name: "other end", in: "1:a;0:,", err: "pairs"},
		{name: "no digits", in: ":a,0:,", err: "pairs"},
		{name: "negative", in: "-1:,0:,", err: "pairs"},
		{name: "length without bytes", in: "999999999:a,0:,", err: "pairs"},
		{name: "length of ten digits", in: "4294967297:a,0:,", err: "pairs"},
		{name: "text after", in: "1:a,0:,x", err: "pairs"},
		{name: "line end after", in: "1:a,0:,\n", err: "pairs"},
		{name: "too many", in: many.String(), err: "more than 4096"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decodeInputs([]byte(tt.in))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !maps.EqualFunc(got, tt.want, bytes.Equal) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzDecodeInputs(f *testing.F) {
	for _, s := range []string{"", "1:a,3:xyz,", "0:,0:,", "1:a,0:,1:b,0:,", "1:b,0:,1:a,0:,", "01:a,0:,", "999999999:", "3:a"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		inputs, err := decodeInputs(b)
		if err != nil {
			return
		}
		// Each set of inputs has one form: what is accepted is that form.
		if again := encode(inputs); !bytes.Equal(again, b) {
			t.Fatalf("accepted %q, which encodes as %q", b, again)
		}
	})
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.csv", "a/x.csv", "a.txt", "a/deep/y.CSV", "[odd].csv"} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("b.csv", filepath.Join(dir, "link.csv")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(".", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	sets := []Dataset{{Name: "set", Dir: dir}}
	tests := []struct {
		pattern string
		want    []string
		err     string
	}{
		{pattern: "", want: []string{"set/[odd].csv", "set/a.txt", "set/a/deep/y.CSV", "set/a/x.csv", "set/b.csv"}},
		{pattern: "*.csv", want: []string{"set/[odd].csv", "set/a/x.csv", "set/b.csv"}},
		{pattern: "x.csv", want: []string{"set/a/x.csv"}},
		{pattern: "set/*.csv", want: []string{"set/[odd].csv", "set/b.csv"}},
		{pattern: "set/*/x.csv", want: []string{"set/a/x.csv"}},
		{pattern: "*.json", err: `no file matches "*.json"`},
		{pattern: "link.csv", err: "no file matches"},
		{pattern: "[", err: "syntax error in pattern"},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			files, err := Files(sets, tt.pattern)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range files {
				names = append(names, f.Name)
				if _, err := os.Stat(f.Path); err != nil {
					t.Error(err)
				}
			}
			if !slices.Equal(names, tt.want) {
				t.Fatalf("got %q, want %q", names, tt.want)
			}
		})
	}
}

func TestFilesDepth(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, strings.Repeat("d/", MaxDepth+1))
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Files([]Dataset{{Name: "set", Dir: dir}}, "")
	if err == nil || !strings.Contains(err.Error(), "more than 32 directories") {
		t.Fatalf("error %v, want the bound on depth", err)
	}
}
