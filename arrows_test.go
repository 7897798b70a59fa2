// Package liop has no code: its tests guard the architecture and the documents.
package liop

import (
	"os/exec"
	"strings"
	"testing"
)

const (
	module  = "github.com/liop-project/liop/"
	hostile = "node/sandbox/testdata/hostile" // which "./..." leaves out
)

// allowed lists, for each part of the tree, which other parts it may import.
// The longest matching prefix counts; cmd may import everything.
var allowed = map[string][]string{
	"core":           {"core"},
	"mesh":           {"core", "mesh"},
	"client":         {"core", "mesh", "client"},
	"client/attack":  {"core", "mesh", "client", "filters", hostile},
	"filters":        {"filters"},
	"node":           {"core", "mesh", "node"},
	"node/admission": {"core"},
	"node/bounds":    {},
	"node/dataset":   {"core", "node/bounds"},
	"node/engine":    {"core", "node/bounds", "node/sandbox/wire"},
	"node/ledger":    {"core"},
	"node/oracle":    {},
	"node/sandbox":   {"node/bounds", "node/sandbox/wire"},
	hostile:          {"core"},
	"bench":          {"core", "mesh", "client", "node", "filters", "bench"},
	"cmd":            {""},
}

func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...", "./"+hostile).Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], module)
		if pkg+"/" == module {
			continue
		}
		seen++
		rule, ok := longest(pkg)
		if !ok {
			t.Errorf("%s: no rule says what it may import", pkg)
			continue
		}
		for _, imp := range fields[1:] {
			if strings.HasPrefix(imp, "github.com/bytecodealliance/") && pkg != "node/sandbox" && !strings.HasPrefix(pkg, "bench") {
				t.Errorf("%s imports the engine; only node/sandbox may", pkg)
			}
			if strings.HasPrefix(imp, "github.com/tetratelabs/wazero") && pkg != "node/oracle" {
				t.Errorf("%s imports the second engine; only tests may, and node/oracle", pkg)
			}
			if imp == module+"node/oracle" {
				t.Errorf("%s imports node/oracle; only tests may", pkg)
			}
			own, ok := strings.CutPrefix(imp, module)
			if ok && !under(own, allowed[rule]) {
				t.Errorf("%s imports %s; %s may import %v", pkg, own, rule, allowed[rule])
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d packages were looked at", seen)
	}
}

func longest(pkg string) (rule string, ok bool) {
	for r := range allowed {
		if under(pkg, []string{r}) && len(r) >= len(rule) {
			rule, ok = r, true
		}
	}
	return rule, ok
}

// under reports whether pkg is one of dirs or below one.
func under(pkg string, dirs []string) bool {
	for _, d := range dirs {
		if d == "" || pkg == d || strings.HasPrefix(pkg, d+"/") {
			return true
		}
	}
	return false
}
