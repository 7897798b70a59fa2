package filters_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

type grepAnswer struct {
	Pattern        string
	Files          int
	Lines, Matches int64
	Shown          []struct {
		File      string
		Line      int64
		Text      string
		Truncated bool
	}
}

func grep(t *testing.T, j job) grepAnswer {
	t.Helper()
	var a grepAnswer
	decode(t, plain().answer(t, ready(t, "grep"), j), &a)
	return a
}

func TestGrepAnswers(t *testing.T) {
	data := map[string]string{
		"logs": write(t, map[string]string{"b.log": "error: one\r\nok\r\nError: two", "a/c.txt": "<error> & \xff\n\n", "empty": ""}),
		"more": write(t, map[string]string{"b.log": "error\n"}),
	}
	tests := []struct {
		args string // separated by |
		want string
	}{
		{"error", `{"pattern":"error","files":4,"lines":6,"matches":3,"shown":[` +
			`{"file":"logs/a/c.txt","line":1,"text":"<error> & \ufffd"},{"file":"logs/b.log","line":1,"text":"error: one"},{"file":"more/b.log","line":1,"text":"error"}]}`},
		{"--ignore-case|^error|--file", ``},
		{"--ignore-case|--file|*.log|^error", `{"pattern":"^error","files":2,"lines":4,"matches":3,"shown":[` +
			`{"file":"logs/b.log","line":1,"text":"error: one"},{"file":"logs/b.log","line":3,"text":"Error: two"},{"file":"more/b.log","line":1,"text":"error"}]}`},
		{"--ignore-case|--file|logs/*|a)|(b", ``},
		{"--count|error", `{"pattern":"error","files":4,"lines":6,"matches":3}`},
		{"--max|1|error", `{"pattern":"error","files":4,"lines":6,"matches":3,"shown":[{"file":"logs/a/c.txt","line":1,"text":"<error> & \ufffd"}]}`},
		{"--max=0|error", `{"pattern":"error","files":4,"lines":6,"matches":3,"shown":[]}`},
		{"--file|logs/*.log|one$", `{"pattern":"one$","files":1,"lines":3,"matches":1,"shown":[{"file":"logs/b.log","line":1,"text":"error: one"}]}`},
		{"^$", `{"pattern":"^$","files":4,"lines":6,"matches":1,"shown":[{"file":"logs/a/c.txt","line":2,"text":""}]}`},
		{"nothing like it", `{"pattern":"nothing like it","files":4,"lines":6,"matches":0,"shown":[]}`},
		{"--|--max", `{"pattern":"--max","files":4,"lines":6,"matches":0,"shown":[]}`},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			j := job{args: strings.Split(tt.args, "|"), data: data}
			if tt.want == "" {
				plain().refusal(t, ready(t, "grep"), j)
				return
			}
			if got := plain().answer(t, ready(t, "grep"), j); got != tt.want+"\n" {
				t.Errorf("got  %swant %s", got, tt.want)
			}
		})
	}
}

func TestGrepRefusals(t *testing.T) {
	data := map[string]string{"logs": write(t, map[string]string{"a": "x\n"})}
	const usage = "\nusage: grep "
	tests := []struct{ args, want string }{
		{"(", "error parsing regexp: missing closing ): `(`" + usage},
		{"a|b", "want one regular expression, after the options" + usage},
		{"--count", "want one regular expression, after the options" + usage},
		{"--max|10001|a", "--max: want a number from 0 to 10000" + usage},
		{"--max|-1|a", "--max: want a number from 0 to 10000" + usage},
		{"--max|x|a", "invalid value \"x\" for flag -max: parse error" + usage},
		{"--nope|a", "flag provided but not defined: -nope" + usage},
		{strings.Repeat("a", 4097), "the regular expression is longer than 4096 bytes" + usage},
		{"--file|b|a", "no file matches \"b\" in the granted datasets\n"},
		{"--file|[|a", "pattern \"[\": syntax error in pattern\n"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.20s", tt.args), func(t *testing.T) {
			got := plain().refusal(t, ready(t, "grep"), job{args: strings.Split(tt.args, "|"), data: data})
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestGrepLongLines(t *testing.T) {
	const most = 1 << 20
	long := func(n int) string { return strings.Repeat("x", n-1) + "y" }
	file := strings.Join([]string{long(most) + "\r", long(most + 1), long(3 * most), "xy", long(300_000)}, "\n")
	a := grep(t, job{args: []string{"y$"}, data: map[string]string{"set": write(t, map[string]string{"a": file})}})
	var got []string
	for _, m := range a.Shown {
		got = append(got, fmt.Sprintf("%d %d %v", m.Line, len(m.Text), m.Truncated))
	}
	// Lines 2 and 3 have their y past what is looked at.
	if want := []string{"1 1048576 false", "4 2 false", "5 300000 false"}; a.Lines != 5 || !slices.Equal(got, want) {
		t.Errorf("%d lines, shown %q, want 5 and %q", a.Lines, got, want)
	}
	a = grep(t, job{args: []string{"--max", "3", "^x"}, data: map[string]string{"set": write(t, map[string]string{"a": file})}})
	got = nil
	for _, m := range a.Shown {
		got = append(got, fmt.Sprintf("%d %d %v", m.Line, len(m.Text), m.Truncated))
	}
	if want := []string{"1 1048576 false", "2 1048576 true", "3 1048576 true"}; !slices.Equal(got, want) {
		t.Errorf("shown %q, want %q", got, want)
	}
}

// TestGrepShownBytes ends what is shown at 16 MiB, and counts on.
func TestGrepShownBytes(t *testing.T) {
	file := strings.Repeat(strings.Repeat("x", 1<<20-1)+"\n", 18) + "x\n"
	a := grep(t, job{args: []string{"x"}, data: map[string]string{"set": write(t, map[string]string{"a": file})}})
	if a.Matches != 19 || len(a.Shown) != 16 {
		t.Errorf("%d matches, %d shown, want 19 and 16", a.Matches, len(a.Shown))
	}
}
