package filters_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// The answer of stats, as a client reads it.
type statsAnswer struct {
	Column, By    *string
	Rows, Skipped int64
	Groups        []statsGroup
}

type statsGroup struct {
	Key                 *string
	Count, Skipped      int64
	Sum, Mean, Min, Max json.Number
}

func stats(tb testing.TB, j job) statsAnswer {
	tb.Helper()
	var a statsAnswer
	decode(tb, plain().answer(tb, ready(tb, "stats"), j), &a)
	return a
}

func TestStatsAnswers(t *testing.T) {
	const plane = "phase,cost,size\nclimb,10,L\ntaxi,-3,S\nclimb,,L\nclimb,5,S\nparked,n/a,S\n"
	tests := []struct {
		name  string
		files map[string]string
		args  string // separated by |
		want  string
	}{
		{
			name: "count", files: map[string]string{"a.csv": plane}, args: "",
			want: `{"column":null,"by":null,"rows":5,"groups":[{"key":null,"count":5}]}`,
		},
		{
			name: "count by key", files: map[string]string{"a.csv": plane}, args: "--by|phase",
			want: `{"column":null,"by":"phase","rows":5,"groups":[{"key":"climb","count":3},{"key":"parked","count":1},{"key":"taxi","count":1}]}`,
		},
		{
			name: "numbers by key", files: map[string]string{"a.csv": plane}, args: "--by|phase|--column|cost",
			want: `{"column":"cost","by":"phase","rows":5,"skipped":2,"groups":[` +
				`{"key":"climb","count":3,"skipped":1,"sum":15,"mean":7.5,"min":5,"max":10},` +
				`{"key":"parked","count":1,"skipped":1,"sum":0,"mean":null,"min":null,"max":null},` +
				`{"key":"taxi","count":1,"skipped":0,"sum":-3,"mean":-3,"min":-3,"max":-3}]}`,
		},
		{
			name: "numbers of all rows", files: map[string]string{"a.csv": plane}, args: "--column=cost",
			want: `{"column":"cost","by":null,"rows":5,"skipped":2,"groups":[{"key":null,"count":5,"skipped":2,"sum":12,"mean":4,"min":-3,"max":10}]}`,
		},
		{
			name: "where", files: map[string]string{"a.csv": plane}, args: "--by|phase|--where|phase=climb|--where|size=L",
			want: `{"column":null,"by":"phase","rows":2,"groups":[{"key":"climb","count":2}]}`,
		},
		{
			name: "where nothing", files: map[string]string{"a.csv": plane}, args: "--by|phase|--where|phase=clim",
			want: `{"column":null,"by":"phase","rows":0,"groups":[]}`,
		},
		{
			name: "where nothing, no key", files: map[string]string{"a.csv": plane}, args: "--where|phase=climbs|--column|cost",
			want: `{"column":"cost","by":null,"rows":0,"skipped":0,"groups":[{"key":null,"count":0,"skipped":0,"sum":0,"mean":null,"min":null,"max":null}]}`,
		},
		{
			name: "where empty, with equals sign", files: map[string]string{"a.csv": "a,b\n,x\n=1=,y\n,x\n"}, args: "--where|a=|--by|b",
			want: `{"column":null,"by":"b","rows":2,"groups":[{"key":"x","count":2}]}`,
		},
		{
			name: "where value with equals sign", files: map[string]string{"a.csv": "a,b\n,x\n=1=,y\n,x\n"}, args: "--where|a==1=|--by|b",
			want: `{"column":null,"by":"b","rows":1,"groups":[{"key":"y","count":1}]}`,
		},
		{
			name: "where long value", files: map[string]string{"a.csv": "a\n0123456789abcdef\n0123456789abcdeF\n01234567\n"}, args: "--where|a=0123456789abcdef",
			want: `{"column":null,"by":null,"rows":1,"groups":[{"key":null,"count":1}]}`,
		},
		{
			name: "sort by count", files: map[string]string{"a.csv": plane}, args: "--by|phase|--sort|count|--top|2",
			want: `{"column":null,"by":"phase","rows":5,"groups":[{"key":"climb","count":3},{"key":"parked","count":1}]}`,
		},
		{
			name: "sort by sum", files: map[string]string{"a.csv": "k,v\na,1\nb,2.5\nc,2.49\nd,-1\ne,1\n"}, args: "--by|k|--column|v|--sort|sum|--top|4",
			want: `{"column":"v","by":"k","rows":5,"skipped":0,"groups":[` +
				`{"key":"b","count":1,"skipped":0,"sum":2.5,"mean":2.5,"min":2.5,"max":2.5},` +
				`{"key":"c","count":1,"skipped":0,"sum":2.49,"mean":2.49,"min":2.49,"max":2.49},` +
				`{"key":"a","count":1,"skipped":0,"sum":1,"mean":1,"min":1,"max":1},` +
				`{"key":"e","count":1,"skipped":0,"sum":1,"mean":1,"min":1,"max":1}]}`,
		},
		{
			name: "sort by sum with doubles", files: map[string]string{"a.csv": "k,v\na,1\nb,1e300\nc,1e20\n"}, args: "--by|k|--column|v|--sort|sum",
			want: `{"column":"v","by":"k","rows":3,"skipped":0,"groups":[` +
				`{"key":"b","count":1,"skipped":0,"sum":1e+300,"mean":1e+300,"min":1e+300,"max":1e+300},` +
				`{"key":"c","count":1,"skipped":0,"sum":1e+20,"mean":1e+20,"min":1e+20,"max":1e+20},` +
				`{"key":"a","count":1,"skipped":0,"sum":1,"mean":1,"min":1,"max":1}]}`,
		},
		{
			name: "files of folders, in order", files: map[string]string{"b.csv": "k\nx\n", "a/deep/er.csv": "z,k\n1,y\n", "c.txt": "no"}, args: "--by|k",
			want: `{"column":null,"by":"k","rows":2,"groups":[{"key":"x","count":1},{"key":"y","count":1}]}`,
		},
		{
			name: "file by last name", files: map[string]string{"b.csv": "k\nx\n", "a/b.csv": "k\ny\n", "c.csv": "no"}, args: "--by|k|--file|b.csv",
			want: `{"column":null,"by":"k","rows":2,"groups":[{"key":"x","count":1},{"key":"y","count":1}]}`,
		},
		{
			name: "file by whole name", files: map[string]string{"b.csv": "k\nx\n", "a/b.csv": "k\ny\n", "c.csv": "no"}, args: "--by|k|--file|set/b.*",
			want: `{"column":null,"by":"k","rows":1,"groups":[{"key":"x","count":1}]}`,
		},
		{
			name: "file that is not .csv", files: map[string]string{"b.tsv": "k\nx\n"}, args: "--by|k|--file|?.tsv",
			want: `{"column":null,"by":"k","rows":1,"groups":[{"key":"x","count":1}]}`,
		},
		{
			name: "empty files", files: map[string]string{"a.csv": "", "b.csv": "\n\r\n\n", "c.csv": "\xef\xbb\xbf", "d.csv": "\xef", "e.csv": "k", "f.csv": "\xef\xbb"}, args: "",
			want: `{"column":null,"by":null,"rows":0,"groups":[{"key":null,"count":0}]}`,
		},
		{
			name: "CRLF, mark, no line end", files: map[string]string{"a.csv": "\xef\xbb\xbfk,v\r\nx,1\r\ny,2"}, args: "--by|k|--column|v",
			want: `{"column":"v","by":"k","rows":2,"skipped":0,"groups":[` +
				`{"key":"x","count":1,"skipped":0,"sum":1,"mean":1,"min":1,"max":1},` +
				`{"key":"y","count":1,"skipped":0,"sum":2,"mean":2,"min":2,"max":2}]}`,
		},
		{
			name: "longest row", files: map[string]string{"a.csv": "v\n" + strings.Repeat("y", 1<<20-2) + "\r\n"}, args: "",
			want: `{"column":null,"by":null,"rows":1,"groups":[{"key":null,"count":1}]}`,
		},
		{
			name: "quotes", args: "--by|a, \"b\"|--column|v",
			files: map[string]string{"a.csv": "\"a, \"\"b\"\"\",v\n\"x\"\"\",\"1\"\n\"two\r\nlines\",\"2\"\r\n\"\",3\n"},
			want: `{"column":"v","by":"a, \"b\"","rows":3,"skipped":0,"groups":[` +
				`{"key":"","count":1,"skipped":0,"sum":3,"mean":3,"min":3,"max":3},` +
				`{"key":"two\u000alines","count":1,"skipped":0,"sum":2,"mean":2,"min":2,"max":2},` +
				`{"key":"x\"","count":1,"skipped":0,"sum":1,"mean":1,"min":1,"max":1}]}`,
		},
		{
			name: "keys that are not UTF-8", files: map[string]string{"a.csv": "k\nz\xff\n\xed\xa0\x80\n\xc3\xa9\n\xf0\x9f\x98\x80\n\x00\n"}, args: "--by|k",
			want: `{"column":null,"by":"k","rows":5,"groups":[{"key":"\u0000","count":1},{"key":"z\ufffd","count":1},{"key":"é","count":1},` +
				`{"key":"\ufffd\ufffd\ufffd","count":1},{"key":"😀","count":1}]}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var args []string
			if tt.args != "" {
				args = strings.Split(tt.args, "|")
			}
			got := plain().answer(t, ready(t, "stats"), job{args: args, data: map[string]string{"set": write(t, tt.files)}})
			if got != tt.want+"\n" {
				t.Errorf("got  %swant %s", got, tt.want)
			}
		})
	}
}

func TestStatsNumbers(t *testing.T) {
	tests := []struct {
		name, cells         string // separated by spaces, which are "_" in a cell
		skipped             int64
		sum, mean, min, max string
	}{
		{"integers", "1 2 -4", 0, "-1", "-0.3333333333333333", "-4", "2"},
		{"signs and zeros", "+7 -0 007", 0, "14", "4.666666666666667", "0", "7"},
		{"blanks around", "_12 3_ __", 1, "15", "7.5", "3", "12"},
		{"eight and nine digits", "99999999 100000000 123456789", 0, "323456788", "107818929.33333333", "99999999", "123456789"},
		{"past 64 bits", strings.Repeat("9223372036854775807 ", 9) + "9223372036854775807", 0, "92233720368547758070", "9.223372036854776e+18", "9223372036854775807", "9223372036854775807"},
		{"smallest", "-9223372036854775808 -1", 0, "-9223372036854775809", "-4.611686018427388e+18", "-9223372036854775808", "-1"},
		{"cents", "0.10 0.20 .3", 0, "0.6", "0.2", "0.1", "0.3"},
		{"places grow", "1 0.5 0.25 100", 0, "101.75", "25.4375", "0.25", "100"},
		{"places shrink", "0.125 2 1.5", 0, "3.625", "1.2083333333333333", "0.125", "2"},
		{"point without digits after", "5. -.5", 0, "4.5", "2.25", "-0.5", "5"},
		{"eighteen places", "0.000000000000000001 1 -1", 0, "0.000000000000000001", "3.3333333333333334e-19", "-1", "1"},
		{"large at eighteen places", "9223372036854775807 0.000000000000000001", 0, "9223372036854775807.000000000000000001", "4.611686018427388e+18", "0.000000000000000001", "9223372036854775807"},
		{"nineteen places are a double", "0.0000000000000000005 1", 0, "1", "0.5", "5e-19", "1"},
		{"too large for 64 bits", "9223372036854775808 1", 0, "9.223372036854776e+18", "4.611686018427388e+18", "1", "9.223372036854776e+18"},
		{"exponents", "1e3 2.5E-1 1e+0", 0, "1001.25", "333.75", "0.25", "1000"},
		{"not numbers", "x 1x 0x10 nan inf -inf 1e 1e+ - + . -. 1,0 1_0 1.2.3 1e999 --1 ١", 18, "0", "", "", ""},
		{"text of 65 digits", strings.Repeat("1", 65) + " 1", 1, "1", "1", "1", "1"},
		{"sum past a double", "1e308 1e308 1e308", 0, "null", "null", "1e+308", "1e+308"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var file strings.Builder
			file.WriteString("v\n")
			for _, cell := range strings.Fields(tt.cells) {
				// 1_0 stands for itself: only blanks around matter here.
				if strings.Trim(cell, "_") == cell {
					fmt.Fprintf(&file, "\"%s\"\n", cell)
				} else {
					fmt.Fprintf(&file, "\"%s\"\n", strings.ReplaceAll(cell, "_", " "))
				}
			}
			text := plain().answer(t, ready(t, "stats"), job{
				args: []string{"--column", "v"}, data: map[string]string{"set": write(t, map[string]string{"a.csv": file.String()})},
			})
			null := func(s string) string {
				if s == "" {
					return "null"
				}
				return s
			}
			want := fmt.Sprintf(`"skipped":%d,"sum":%s,"mean":%s,"min":%s,"max":%s}]}`,
				tt.skipped, tt.sum, null(tt.mean), null(tt.min), null(tt.max))
			if !strings.Contains(text, want) {
				t.Errorf("got %swant %s", text, want)
			}
			if !json.Valid([]byte(text)) {
				t.Errorf("not JSON: %s", text)
			}
		})
	}
}

func TestStatsRefusals(t *testing.T) {
	const usage = "\nusage: stats "
	many := strings.Repeat("x,", 4096) + "x\n"
	tests := []struct {
		name  string
		files map[string]string
		args  string
		want  string // start of the message
	}{
		{"ragged, short", map[string]string{"a.csv": "a,b\n1,2\n3\n"}, "", "set/a.csv: row 2 has 1 cells, the header has 2\n"},
		{"ragged, long", map[string]string{"a/b.csv": "a,b\n1,2\n\n3,4,5\n"}, "", "set/a/b.csv: row 2: more cells than the header has\n"},
		{"ragged, quoted", map[string]string{"a.csv": "a,b\n\"1\",2,3\n"}, "", "set/a.csv: row 1: more cells than the header has\n"},
		{"ragged, quoted, short", map[string]string{"a.csv": "a,b\n\"1\n\"\n"}, "", "set/a.csv: row 1 has 1 cells, the header has 2\n"},
		{"quote inside", map[string]string{"a.csv": "a,b\n1,2\n3,x\"y\"\n"}, "", "set/a.csv: row 2: a quote inside an unquoted cell\n"},
		{"quote inside the header", map[string]string{"a.csv": "a\",b\n1,2\n"}, "", "set/a.csv: header: a quote inside an unquoted cell\n"},
		{"text after quote", map[string]string{"a.csv": "a,b\n\"1\"x,2\n"}, "", "set/a.csv: row 1: text after a closing quote\n"},
		{"open quote", map[string]string{"a.csv": "a,b\n1,\"2\n3,4\n"}, "", "set/a.csv: row 1: a quoted cell does not end\n"},
		{"open quote in the header", map[string]string{"a.csv": "\"a,b\n1,2"}, "", "set/a.csv: header: a quoted cell does not end\n"},
		{"long row", map[string]string{"a.csv": "a\nx\n" + strings.Repeat("y", 1<<20) + "\n"}, "", "set/a.csv: row 2: longer than 1 MiB\n"},
		{"long row with CRLF", map[string]string{"a.csv": "a\n" + strings.Repeat("y", 1<<20-1) + "\r\n"}, "", "set/a.csv: row 1: longer than 1 MiB\n"},
		{"endless row", map[string]string{"a.csv": "a\nx\n" + strings.Repeat("y", 3<<20)}, "", "set/a.csv: row 2: longer than 1 MiB\n"},
		{"endless quote", map[string]string{"a.csv": "a\n\"" + strings.Repeat("y\n", 3<<20)}, "", "set/a.csv: row 1: longer than 1 MiB\n"},
		{"wide header", map[string]string{"a.csv": many}, "", "set/a.csv: header: more than 4096 columns\n"},
		{"no file", map[string]string{"a.txt": ""}, "", "no .csv file in the granted datasets\n"},
		{"no file matches", map[string]string{"a.csv": ""}, "--file|b*", "no file matches --file\n"},
		{"no column", map[string]string{"a.csv": "a,b\n", "b.csv": "b\n"}, "--by|a", "set/b.csv: no column named \"a\"\n"},
		{"no column of a condition", map[string]string{"a.csv": "a,b\n"}, "--where|c=1", "set/a.csv: no column named \"c\"\n"},
		{"two columns", map[string]string{"a.csv": "a,b,a\n"}, "--column|a", "set/a.csv: two columns named \"a\"\n"},
		{"unknown option", nil, "--nope", "filter: unrecognized option: nope\n"},
		{"no value", nil, "--by", "filter: option requires an argument: by\n"},
		{"argument", nil, "a.csv", "unexpected argument" + usage},
		{"sort order", nil, "--sort|up", "--sort: want key, count or sum" + usage},
		{"sort by sum of nothing", nil, "--sort|sum", "--sort sum needs --column" + usage},
		{"top zero", nil, "--top|0", "--top: want a number from 1 to 100000" + usage},
		{"top text", nil, "--top|5x", "--top: want a number from 1 to 100000" + usage},
		{"top negative", nil, "--top|-1", "--top: want a number from 1 to 100000" + usage},
		{"top too large", nil, "--top|99999999999999999999", "--top: want a number from 1 to 100000" + usage},
		{"condition without value", nil, "--where|a", "--where: want COLUMN=VALUE" + usage},
		{"condition without column", nil, "--where|=a", "--where: want COLUMN=VALUE" + usage},
		{"many conditions", nil, strings.TrimSuffix(strings.Repeat("--where|a=1|", 17), "|"), "--where: at most 16 conditions" + usage},
		{"long condition", nil, "--where|a=" + strings.Repeat("x", 4097), "--where: the value is longer than 4096 bytes" + usage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := job{data: map[string]string{"set": write(t, tt.files)}}
			if tt.args != "" {
				j.args = strings.Split(tt.args, "|")
			}
			if got := plain().refusal(t, ready(t, "stats"), j); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestStatsBounds(t *testing.T) {
	groups := func(n int) string {
		var b strings.Builder
		b.WriteString("k\n")
		for i := range n {
			fmt.Fprintf(&b, "key %d\n", i)
		}
		return b.String()
	}
	data := map[string]string{"set": write(t, map[string]string{"most.csv": groups(100_000), "over.csv": groups(100_001)})}
	a := stats(t, job{args: []string{"--by", "k", "--file", "most.csv"}, data: data})
	if a.Rows != 100_000 || len(a.Groups) != 100_000 {
		t.Errorf("%d rows in %d groups, want 100,000", a.Rows, len(a.Groups))
	}
	for _, g := range a.Groups {
		if g.Count != 1 {
			t.Fatalf("%q has %d rows, want 1", *g.Key, g.Count)
		}
	}
	got := plain().refusal(t, ready(t, "stats"), job{args: []string{"--by", "k", "--file", "over.csv"}, data: data})
	if want := "more than 100000 groups; choose another column for --by\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	var keys strings.Builder
	keys.WriteString("k\n")
	for i := range 33 {
		fmt.Fprintf(&keys, "%s%02d\n", strings.Repeat("x", 1<<20-3), i)
	}
	got = plain().refusal(t, ready(t, "stats"), job{args: []string{"--by", "k"}, data: map[string]string{"set": write(t, map[string]string{"a.csv": keys.String()})}})
	if want := "the keys of the groups are larger than 32 MiB; choose another column for --by\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestStatsDatasets reads all granted datasets and nothing else.
func TestStatsDatasets(t *testing.T) {
	j := job{args: []string{"--by", "k"}, data: map[string]string{
		"one/two": write(t, map[string]string{"x.csv": "k\n2\n"}),
		"one":     write(t, map[string]string{"x.csv": "k\n1\n2\n"}),
	}}
	want := `{"column":null,"by":"k","rows":3,"groups":[{"key":"1","count":1},{"key":"2","count":2}]}` + "\n"
	if got := plain().answer(t, ready(t, "stats"), j); got != want {
		t.Errorf("got %s", got)
	}
	if got := plain().refusal(t, ready(t, "stats"), job{}); got != "no .csv file in the granted datasets\n" {
		t.Errorf("got %q", got)
	}
}
