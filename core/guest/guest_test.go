package guest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/liop-project/liop/core/fault"
)

func TestStdin(t *testing.T) {
	for _, c := range []struct {
		name string
		in   map[string][]byte
		want string
	}{
		{"nil", nil, ""},
		{"empty", map[string][]byte{}, ""},
		{"one", map[string][]byte{"k": []byte("value")}, "1:k,5:value,"},
		{"nil value", map[string][]byte{"k": nil}, "1:k,0:,"},
		{"bytewise order", map[string][]byte{"b": []byte("2"), "a": []byte("1"), "B": []byte("0"), "é": []byte("3"), "aa": []byte("4")},
			"1:B,1:0,1:a,1:1,2:aa,1:4,1:b,1:2,2:é,1:3,"},
		{"bytes that look like framing", map[string][]byte{"k": []byte("1:x,\x00\n")}, "1:k,6:1:x,\x00\n,"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Stdin(c.in)
			if string(got) != c.want {
				t.Fatalf("Stdin = %q, want %q", got, c.want)
			}
			back, err := ParseStdin(got)
			if err != nil {
				t.Fatal(err)
			}
			if !maps.EqualFunc(back, c.in, bytes.Equal) {
				t.Fatalf("ParseStdin = %q, want %q", back, c.in)
			}
		})
	}
}

func TestParseStdinRefuses(t *testing.T) {
	var many []byte
	for i := range MaxInputs + 1 {
		many = AppendNetstring(AppendNetstring(many, fmt.Sprintf("%04d", i)), "")
	}
	for name, in := range map[string]string{
		"no length":           ":a,1:b,",
		"not a number":        "x:a,1:b,",
		"negative":            "-1:a,1:b,",
		"leading zero":        "01:a,1:b,",
		"no colon":            "11111111111",
		"short":               "5:a,1:b,",
		"no comma":            "1:a",
		"wrong comma":         "1:a;1:b,",
		"length beyond input": "9999999999:a,",
		"overlong length":     "99999999999999999999:a,",
		"key without value":   "1:a,",
		"trailing byte":       "1:a,1:b,\n",
		"descending":          "1:b,0:,1:a,0:,",
		"duplicate":           "1:a,0:,1:a,0:,",
		"empty name":          "0:,1:a,",
		"name with NUL":       "1:\x00,0:,",
		"name not UTF-8":      "1:\xff,0:,",
		"name too long":       string(AppendNetstring(AppendNetstring(nil, strings.Repeat("a", MaxInputName+1)), "")),
		"too many":            string(many),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseStdin([]byte(in))
			if !errors.Is(err, &fault.Error{Code: fault.InvalidRequest, Rule: "stdin"}) {
				t.Fatalf("error %v", err)
			}
		})
	}
}

func TestParseStdinDoesNotLetValuesGrowIntoEachOther(t *testing.T) {
	b := Stdin(map[string][]byte{"a": []byte("x"), "b": []byte("y")})
	m, err := ParseStdin(b)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(m["a"], "overwritten"...)
	if string(m["b"]) != "y" {
		t.Fatalf("b = %q", m["b"])
	}
}

func TestStdinRoundTrip(t *testing.T) {
	name := rapid.StringOfN(rapid.RuneFrom([]rune("ab:,0é")), 1, 20, MaxInputName)
	value := rapid.SliceOfN(rapid.Byte(), 0, 40)
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.MapOfN(name, value, 0, 12).Draw(t, "inputs")
		if err := ValidInputs(in); err != nil {
			t.Fatal(err)
		}
		back, err := ParseStdin(Stdin(in))
		if err != nil {
			t.Fatal(err)
		}
		if !maps.EqualFunc(back, in, bytes.Equal) {
			t.Fatalf("%q, want %q", back, in)
		}
	})
}

func TestArgsHash(t *testing.T) {
	for _, c := range []struct {
		args  []string
		bytes string
	}{
		{nil, ""},
		{[]string{""}, "0:,"},
		{[]string{"ab", "c"}, "2:ab,1:c,"},
		{[]string{"a", "bc"}, "1:a,2:bc,"},
	} {
		if got, want := ArgsHash(c.args), sha256.Sum256([]byte(c.bytes)); got != want {
			t.Errorf("ArgsHash(%q) = %x, want %x", c.args, got, want)
		}
	}
}

func TestValidArgs(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		ok   bool
	}{
		{"none", nil, true},
		{"text", []string{"--by", "región", ""}, true},
		{"most", make([]string, MaxArgs), true},
		{"too many", make([]string, MaxArgs+1), false},
		{"longest", []string{strings.Repeat("a", MaxArgBytes-1), "b"}, true},
		{"too long", []string{strings.Repeat("a", MaxArgBytes), "b"}, false},
		{"NUL", []string{"a\x00b"}, false},
		{"not UTF-8", []string{"a\xff"}, false},
	} {
		check(t, c.name, ValidArgs(c.args), c.ok, "args")
	}
}

func TestValidInputs(t *testing.T) {
	many := make(map[string][]byte)
	for i := range MaxInputs {
		many[fmt.Sprint(i)] = nil
	}
	check(t, "most", ValidInputs(many), true, "inputs")
	many["one more"] = nil
	check(t, "too many", ValidInputs(many), false, "inputs")
	for _, c := range []struct {
		name string
		ok   bool
	}{
		{"a", true}, {"región/1", true}, {strings.Repeat("a", MaxInputName), true},
		{"", false}, {"a\x00", false}, {"\xff", false}, {strings.Repeat("a", MaxInputName+1), false},
	} {
		check(t, c.name, ValidInputs(map[string][]byte{c.name: nil}), c.ok, "inputs")
	}
}

func TestValidDataset(t *testing.T) {
	long := strings.Repeat("a", maxSegment)
	for _, c := range []struct {
		name string
		ok   bool
	}{
		{"sales", true}, {"sales/2026", true}, {"0.a_b-c", true}, {long, true}, {long + "/" + long, true},
		{"", false}, {"/", false}, {"a/", false}, {"/a", false}, {"a//b", false}, {"a/b/c", false},
		{".", false}, {"..", false}, {"a/..", false}, {".hidden", false}, {"-a", false}, {"_a", false},
		{"Sales", false}, {"sal es", false}, {"é", false}, {"a\x00", false}, {"a\n", false}, {"sales/*", false},
		{`a\b`, false}, {long + "a", false}, {strings.Repeat("a/", 80), false},
	} {
		check(t, c.name, ValidDataset(c.name), c.ok, "datasets")
	}
}

func TestValidDatasets(t *testing.T) {
	var most []string
	for i := range MaxDatasets {
		most = append(most, fmt.Sprintf("d%d", i))
	}
	check(t, "one", ValidDatasets([]string{"sales"}), true, "datasets")
	check(t, "most", ValidDatasets(most), true, "datasets")
	check(t, "too many", ValidDatasets(append(most, "one-more")), false, "datasets")
	check(t, "none", ValidDatasets(nil), false, "datasets")
	check(t, "twice", ValidDatasets([]string{"a", "b", "a"}), false, "datasets")
	check(t, "bad name", ValidDatasets([]string{"a", "B"}), false, "datasets")
}

func check(t *testing.T, name string, err error, ok bool, rule string) {
	t.Helper()
	if ok {
		if err != nil {
			t.Errorf("%q refused: %v", name, err)
		}
		return
	}
	if !errors.Is(err, &fault.Error{Code: fault.InvalidRequest, Rule: rule}) {
		t.Errorf("%q: error %v, want %s", name, err, rule)
	}
}

// Whatever ParseStdin accepts, Stdin gives back byte for byte: an encoding that
// is not unique would let two different requests share a receipt.
func FuzzParseStdin(f *testing.F) {
	for _, s := range []string{"", "1:k,5:value,", "1:a,0:,1:b,0:,", "01:a,0:,", "9999999999:", "1:b,0:,1:a,0:,", "0:,0:,"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseStdin(b)
		if err != nil {
			return
		}
		if err := ValidInputs(m); err != nil {
			t.Fatal(err)
		}
		if got := Stdin(m); !bytes.Equal(got, b) {
			t.Fatalf("%q parsed, encoded again as %q", b, got)
		}
	})
}

func FuzzValidDataset(f *testing.F) {
	for _, s := range []string{"sales", "a/b", "..", "a/../b", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if ValidDataset(name) != nil {
			return
		}
		if len(name) > MaxDatasetName || strings.Contains(name, "..") && strings.Trim(name, ".") == "" ||
			strings.HasPrefix(name, ".") || strings.HasPrefix(name, "/") || strings.Contains(name, "/.") {
			t.Fatalf("accepted %q", name)
		}
	})
}
