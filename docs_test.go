package liop

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tests are the names of all test functions of the repository, and the text of
// the files that they are in.
func tests(t *testing.T) (names map[string]bool, text string) {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(`)
	names = map[string]bool{}
	var all strings.Builder
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		all.Write(b)
		for _, m := range declared.FindAllSubmatch(b, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil || len(names) < 200 {
		t.Fatalf("%d tests were found, %v", len(names), err)
	}
	return names, all.String()
}

var testName = regexp.MustCompile(`\b((?:Test|Fuzz)[A-Z]\w*)(?:/([\w-]+\w))?`)

// What the documents say is tested, is.
func TestNamedTestsExist(t *testing.T) {
	names, text := tests(t)
	// The names of the attacks on the engine are in its corpus.
	hostile, _ := filepath.Glob("node/sandbox/testdata/hostile/*.go")
	for _, path := range hostile {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text += string(b)
	}
	for _, doc := range []string{"docs/THREATS.md", "docs/RATIONALE.md", "docs/BUGS.md", "node/bounds/bounds.go"} {
		b, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testName.FindAllStringSubmatch(string(b), -1) {
			name, sub := m[1], m[2]
			if !names[name] {
				t.Errorf("%s names %s, which does not exist", doc, name)
			}
			if sub == "" || name == "TestHostile" && len(hostile) == 0 {
				continue
			}
			sub = strings.TrimPrefix(sub, "compiler-")
			if !strings.Contains(text, `"`+sub+`"`) && !strings.Contains(text, `"`+sub+`=`) {
				t.Errorf("%s names %s, and no test has a case %q", doc, m[0], sub)
			}
		}
	}
}

// Every promise of docs/THREATS.md names a test.
func TestPromisesAreTested(t *testing.T) {
	b, err := os.ReadFile("docs/THREATS.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, tested := 0, false // whether the table that a line is in has a column for tests
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		switch {
		case !strings.HasPrefix(line, "|"):
			tested = false
		case strings.HasSuffix(line, "| tests |"):
			tested = true
		case tested && !strings.HasPrefix(line, "|--"):
			rows++
			cells := strings.Split(strings.Trim(line, "|"), "|")
			if !testName.MatchString(cells[len(cells)-1]) {
				t.Errorf("no test is named for: %s", line)
			}
		}
	}
	if rows < 50 {
		t.Errorf("only %d promises were looked at", rows)
	}
}

// Every bound has a reason and the test that shows it bind.
func TestBoundsHaveReasonAndTest(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "node/bounds/bounds.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	bounds := 0
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			name := v.Names[0].Name
			bounds++
			reason, test, ok := strings.Cut(v.Doc.Text(), "Test: ")
			if !ok || !testName.MatchString(test) {
				t.Errorf("%s names no test", name)
			}
			reason = strings.Join(strings.Fields(reason), " ")
			if !strings.HasPrefix(reason, name+" ") || !strings.HasSuffix(reason, ".") {
				t.Errorf("%s has no comment that says what it is and why: %q", name, reason)
			}
		}
	}
	if bounds < 40 {
		t.Errorf("only %d bounds were found", bounds)
	}
}
