package node

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	_ "github.com/liop-project/liop/node/sandbox" // the workers that Examine starts are this binary
	"github.com/liop-project/liop/node/sandbox/wire"
)

// What is missing is always said, and refused only by who wants everything.
func TestStrictContainment(t *testing.T) {
	whole := &wire.Containment{Active: []string{"seccomp"}}
	part := &wire.Containment{Active: []string{"seccomp"}, Gaps: []*wire.Gap{
		{Feature: "landlock", Reason: "an old kernel", Mend: "a new one"}, {Feature: "cgroup", Reason: "not root", Mend: "be root"}}}
	for _, tc := range []struct {
		has     *wire.Containment
		want    Containment
		refused bool
	}{{whole, Strict, false}, {whole, BestEffort, false}, {part, BestEffort, false}, {part, "", false}, {part, Strict, true}} {
		var said bytes.Buffer
		err := judge(context.Background(), slog.New(slog.NewTextHandler(&said, nil)), tc.has, tc.want)
		if (err != nil) != tc.refused {
			t.Errorf("%v with %q: %v", tc.has, tc.want, err)
		}
		if err != nil && !(strings.Contains(err.Error(), "landlock, cgroup") && strings.Contains(err.Error(), "liop doctor")) {
			t.Errorf("the refusal does not help: %v", err)
		}
		for _, g := range tc.has.Gaps {
			if !strings.Contains(said.String(), "what="+g.Feature) || !strings.Contains(said.String(), g.Mend) {
				t.Errorf("nothing is said of %s:\n%s", g.Feature, said.String())
			}
		}
	}
}

func TestExamine(t *testing.T) {
	found := Examine(context.Background(), Config{Datasets: []Dataset{{Name: "there", Dir: t.TempDir()}, {Name: "gone", Dir: "/no/such/folder"}}})
	verdict := func(name string) Verdict {
		i := slices.IndexFunc(found, func(f Finding) bool { return f.Name == name })
		if i < 0 {
			return ""
		}
		return found[i].Verdict
	}
	for name, want := range map[string]Verdict{"configuration": Fine, "process": Fine, "dataset gone": Bad, "dataset there": "", "workers": ""} {
		if got := verdict(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, f := range found {
		if f.Says == "" || (f.Mend == "") != (f.Verdict == Fine) {
			t.Errorf("%+v", f)
		}
	}
	if found := Examine(context.Background(), Config{Realm: "12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2"}); found[0].Verdict != Bad {
		t.Errorf("a configuration that is refused was found %q", found[0].Verdict)
	}
}
