package filters_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// stats reads CSV as encoding/csv does: what one accepts the other accepts,
// and both find the same cells.

// countKeys counts the rows of a CSV file by the cell of their first column,
// as JSON would show it. It returns false if the file is not CSV.
func countKeys(file []byte) (map[string]int64, bool) {
	rows := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(file, []byte("\xef\xbb\xbf"))))
	counts := map[string]int64{}
	for header := true; ; header = false {
		row, err := rows.Read()
		if err == io.EOF {
			return counts, true
		}
		if err != nil {
			return nil, false
		}
		if !header {
			counts[row[0]]++
		}
	}
}

// shown is a string after its way through JSON.
func shown(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings do not fail
	}
	if err := json.Unmarshal(b, &s); err != nil {
		panic(err)
	}
	return s
}

// compare lets stats count the rows of a file whose first column is k.
func compare(tb rapid.TB, e *engine, module []byte, dir string, file []byte) {
	if err := os.WriteFile(filepath.Join(dir, "a.csv"), file, 0o644); err != nil {
		tb.Fatal(err)
	}
	r := e.run(context.Background(), tb, module, job{args: []string{"--by", "k"}, data: map[string]string{"set": dir}})
	if r.err != nil {
		tb.Fatalf("trap: %v for %q", r.err, file)
	}
	want, ok := countKeys(file)
	if !ok {
		if r.code != 1 || r.stdout != "" || r.stderr == "" {
			tb.Fatalf("code %d, answer %q, message %q for %q, which is not CSV", r.code, r.stdout, r.stderr, file)
		}
		return
	}
	var a statsAnswer
	if err := json.Unmarshal([]byte(r.stdout), &a); r.code != 0 || err != nil {
		tb.Fatalf("code %d, message %q, JSON %v for %q", r.code, r.stderr, err, file)
	}
	got := map[string]int64{}
	var rows int64
	for _, g := range a.Groups {
		got[*g.Key] += g.Count
		rows += g.Count
	}
	wantShown := map[string]int64{}
	for k, n := range want {
		wantShown[shown(k)] += n
	}
	if !maps.Equal(got, wantShown) || rows != a.Rows {
		tb.Fatalf("got %v (%d rows), want %v for %q", got, a.Rows, wantShown, file)
	}
}

var heads = []string{"k,v\n", "k,v\r\n", "\xef\xbb\xbfk,v\n", "k\n", "\n\r\nk,\"v\"\n", "\xef\xbb\xbf\"k\",v,w\r\n"}

func FuzzStatsCSV(f *testing.F) {
	for i, body := range []string{
		"", "a,1\nb,2\n", "a,1\r\nb,2", "\"a\",1\n", "\"a\"\"b\",\"1\n2\"\n", "a,\"1\r\n2\"\r\n", "a\n\nb\n\r\nc\r", "a,b,c\n", "\"a", "a\"b\n",
		"\"a\"b,1\n", "\r\r\n,\r\n", "\"\r\r\n\",\r", ",\n", "\"\"\n", "\"a\"\r", "\xff,\x00\n", "a,1\n\n\n\nlonger than eight,2\n",
	} {
		f.Add(byte(i), []byte(body))
	}
	module := ready(f, "stats")
	f.Fuzz(func(t *testing.T, head byte, body []byte) {
		compare(t, plain(), module, t.TempDir(), append([]byte(heads[int(head)%len(heads)]), body...))
	})
}

func TestStatsCSVProperty(t *testing.T) {
	module, dir := ready(t, "stats"), t.TempDir()
	// Cells from few letters, so that keys meet again, and with all that needs
	// quotes.
	cell := rapid.OneOf(
		rapid.StringMatching(`[ab]{0,3}`),
		rapid.StringOfN(rapid.SampledFrom([]rune("a,\"\n\r é")), 0, 12, -1),
		rapid.StringMatching(`[a-z]{7,9}`),
	)
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.IntRange(1, 4).Draw(t, "columns")
		end := rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "line end")
		quoteAll := rapid.Bool().Draw(t, "quote all")
		var file strings.Builder
		file.WriteString(rapid.SampledFrom([]string{"", "\xef\xbb\xbf"}).Draw(t, "mark"))
		file.WriteString(strings.Join([]string{"k", "v", "w", "x"}[:columns], ","))
		for range rapid.IntRange(0, 30).Draw(t, "rows") {
			file.WriteString(end)
			for i := range columns {
				if i > 0 {
					file.WriteByte(',')
				}
				s := cell.Draw(t, "cell")
				if quoteAll || strings.ContainsAny(s, ",\"\r\n") {
					s = `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
				}
				file.WriteString(s)
			}
		}
		file.WriteString(rapid.SampledFrom([]string{"", end, end + end}).Draw(t, "last"))
		compare(t, plain(), module, dir, []byte(file.String()))
	})
}

// TestStatsCSVLarge lets rows and cells lie across the ends of reads.
func TestStatsCSVLarge(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, quoted := range []bool{false, true} {
		var file bytes.Buffer
		file.WriteString("k,v,w\r\n")
		for file.Len() < 3<<20 {
			key := fmt.Sprintf("key %d", rng.IntN(50))
			filler := strings.Repeat("filler ", rng.IntN(300))
			if quoted {
				key, filler = `"`+key+`"`, `"`+strings.ReplaceAll(filler, " ", "\"\"\n,")+`"`
			}
			fmt.Fprintf(&file, "%s,%d,%s\r\n", key, rng.IntN(1000), filler)
			if rng.IntN(1000) == 0 { // a row of almost 1 MiB
				fmt.Fprintf(&file, "long,1,%s\n", strings.Repeat("z", 1<<20-20))
			}
		}
		compare(t, plain(), ready(t, "stats"), t.TempDir(), file.Bytes())
	}
}

// TestStatsSumsProperty compares sums of decimals with exact fractions.
func TestStatsSumsProperty(t *testing.T) {
	module, dir := ready(t, "stats"), t.TempDir()
	cell := rapid.OneOf(
		rapid.StringMatching(`-?[0-9]{1,9}`),
		rapid.StringMatching(`[-+]?[0-9]{1,6}\.[0-9]{1,6}`),
		rapid.StringMatching(`-?[0-8][0-9]{0,17}`),
		rapid.StringMatching(`-?0?\.[0-9]{1,18}`),
		rapid.StringMatching(`[a-z]{0,3}`),
	)
	rapid.Check(t, func(t *rapid.T) {
		cells := rapid.SliceOfN(cell, 0, 40).Draw(t, "cells")
		sum, skipped := new(big.Rat), int64(0)
		var least, most *big.Rat
		for _, c := range cells {
			v, ok := new(big.Rat).SetString(c)
			if !ok {
				skipped++
				continue
			}
			sum.Add(sum, v)
			if least == nil || v.Cmp(least) < 0 {
				least = v
			}
			if most == nil || v.Cmp(most) > 0 {
				most = v
			}
		}
		// The second column keeps empty cells from being blank lines.
		if err := os.WriteFile(filepath.Join(dir, "a.csv"), []byte("v,w\n"+strings.Join(append(cells, ""), ",\n")), 0o644); err != nil {
			t.Fatal(err)
		}
		r := plain().run(context.Background(), t, module, job{args: []string{"--column", "v"}, data: map[string]string{"set": dir}})
		var a statsAnswer
		if err := json.Unmarshal([]byte(r.stdout), &a); err != nil {
			t.Fatalf("code %d, error %v, message %q, JSON %v", r.code, r.err, r.stderr, err)
		}
		g := a.Groups[0]
		if a.Rows != int64(len(cells)) || g.Skipped != skipped || !equal(g.Sum, sum) || !equal(g.Min, least) || !equal(g.Max, most) {
			t.Fatalf("got %+v, want %d rows, %d skipped, sum %v, %v to %v", g, len(cells), skipped, sum, least, most)
		}
		if n := int64(len(cells)) - skipped; n > 0 {
			want, _ := new(big.Rat).Quo(sum, big.NewRat(n, 1)).Float64()
			if got, err := g.Mean.Float64(); err != nil || !near(got, want) {
				t.Fatalf("mean %s, want %v", g.Mean, want)
			}
		}
	})
}

// equal takes nil for null.
func equal(n json.Number, want *big.Rat) bool {
	if want == nil {
		return n == ""
	}
	got, ok := new(big.Rat).SetString(n.String())
	return ok && got.Cmp(want) == 0
}

// near allows the two roundings of a mean: of the sum, and of the quotient.
func near(a, b float64) bool { return a == b || (a-b)/b < 1e-15 && (b-a)/b < 1e-15 }
