package filters_test

import (
	"fmt"
	"strings"
	"testing"
)

type schemaAnswer struct {
	Files []struct {
		File    string
		Rows    int64
		Columns []struct {
			Name, Type string
			Empty      int64
		}
	}
}

// lines shows each file as "name rows type type/empty …".
func (a schemaAnswer) lines() []string {
	var lines []string
	for _, f := range a.Files {
		s := fmt.Sprintf("%s %d", f.File, f.Rows)
		for _, c := range f.Columns {
			s += " " + c.Type
			if c.Empty > 0 {
				s += fmt.Sprintf("/%d", c.Empty)
			}
		}
		lines = append(lines, s)
	}
	return lines
}

func TestSchemaAnswers(t *testing.T) {
	got := plain().answer(t, ready(t, "head-schema"), job{data: map[string]string{
		"one": write(t, map[string]string{
			"b/x.csv": "\xef\xbb\xbf\"a, b\",c\r\n1,secret\r\n,\"two\nlines\"\r\n",
			"a.csv":   "k\n",
			"c.txt":   "not CSV",
		}),
		"two/parts": write(t, map[string]string{"none.csv": "", "blank.csv": "\n\n"}),
	}})
	want := `{"files":[{"file":"one/a.csv","rows":0,"columns":[{"name":"k","type":"text","empty":0}]},` +
		`{"file":"one/b/x.csv","rows":2,"columns":[{"name":"a, b","type":"integer","empty":1},{"name":"c","type":"text","empty":0}]},` +
		`{"file":"two/parts/blank.csv","rows":0,"columns":[]},{"file":"two/parts/none.csv","rows":0,"columns":[]}]}` + "\n"
	if got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

func TestSchemaTypes(t *testing.T) {
	tests := []struct{ cells, want string }{ // cells are separated by |
		{"1|-2|+3|007", "integer"},
		{"1| 2 |", "integer/1"},
		{"9223372036854775807", "integer"},
		{"9223372036854775808|1", "decimal"},
		{"1|2.5|.5|5.|1e3|-1E-3", "decimal"},
		{"1.5|1", "decimal"},
		{"true|FALSE|Yes|no", "boolean"},
		{"true|1", "text"},
		{"0|1", "integer"},
		{"2024-02-29", "date"},
		{"2024-02-30", "text"},
		{"2024-02-29|2024-02-29 12:30:00|2024-02-29T12:30:00|2024-02-29T12:30:00.5Z|2024-02-29T12:30:00+01:00", "date"},
		{"2024-02-29|20240229", "text"},
		{"29.02.2024", "text"},
		{"nan", "text"}, {"inf", "text"}, {"0x10", "text"}, {"1_000", "text"}, {"1,000", "text"}, {"1e999", "text"}, {"-", "text"}, {"1e", "text"},
		{"|  |", "text/3"},
		{"x|1|2024-01-01|true", "text"},
	}
	for _, tt := range tests {
		t.Run(tt.cells, func(t *testing.T) {
			var file strings.Builder
			file.WriteString("v,w\n")
			for _, cell := range strings.Split(tt.cells, "|") {
				fmt.Fprintf(&file, "%q,w\n", cell)
			}
			var a schemaAnswer
			decode(t, plain().answer(t, ready(t, "head-schema"), job{data: map[string]string{"set": write(t, map[string]string{"a.csv": file.String()})}}), &a)
			c := a.Files[0].Columns[0]
			got := c.Type
			if c.Empty > 0 {
				got += fmt.Sprintf("/%d", c.Empty)
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestSchemaRefusals(t *testing.T) {
	tests := []struct{ name, file, args, want string }{
		{"ragged", "a,b\n1,2\nsecret\n", "", "set/a.csv: record on line 3: wrong number of fields\n"},
		{"quote", "a,b\n1,sec\"ret\n", "", "set/a.csv: parse error on line 2, column 6: bare \" in non-quoted-field\n"},
		{"long row", "a\nx\n" + strings.Repeat("y", 1<<20) + "\nz\n", "", "set/a.csv: a row is longer than 1048576 bytes\n"},
		{"endless quote", "a\n\"" + strings.Repeat("y\n", 4<<20), "", "set/a.csv: a row is longer than 1048576 bytes\n"},
		{"wide header", strings.Repeat("x,", 4096) + "x\n", "", "set/a.csv: more than 4096 columns\n"},
		{"no file", "", "--file|b.csv", "no file matches \"b.csv\" in the granted datasets\n"},
		{"argument", "", "a.csv", "unexpected argument\nusage: head-schema [--file PATTERN]\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := job{data: map[string]string{"set": write(t, map[string]string{"a.csv": tt.file})}}
			if tt.args != "" {
				j.args = strings.Split(tt.args, "|")
			}
			if got := plain().refusal(t, ready(t, "head-schema"), j); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
