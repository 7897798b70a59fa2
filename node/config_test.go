package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/liop-project/liop/core/conf"
)

func TestReadConfigRefuses(t *testing.T) {
	for _, tc := range []struct{ name, toml, want string }{
		{"unknown key", "realm = \"a\"\ndatset = 1", "node.toml:2: unknown key \"datset\""},
		{"unknown key of a dataset", "[[dataset]]\nname = \"a\"\npath = \"b\"", "node.toml:3: unknown key \"dataset.path\""},
		{"syntax", "a = [", "node.toml:1:"},
		{"size", "[limits.max]\nmemory = \"lots\"", "node.toml:2:"},
		{"no size", "[limits.max]\nmemory = \"0\"", "node.toml:2:"},
		{"time", "[limits.default]\n\ntime = \"1us\"", "node.toml:3:"},
		{"peer", "[mesh]\npeers = [\"bob\"]", "node.toml:2:"},
		{"memory of the engine", "[engine]\nrunners = 2\nmemory = \"0MiB\"", "node.toml:3:"},
		{"runs at once", "[[dataset]]\nruns_at_once = \"two\"", "node.toml:2:"},
		{"type", "listen = 7", "node.toml:1:"},
		{"twice", "realm = \"a\"\nrealm = \"b\"", "node.toml:2:"},
	} {
		path := filepath.Join(t.TempDir(), "node.toml")
		if err := os.WriteFile(path, []byte(tc.toml), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadConfig(path)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want it to say %q", tc.name, err, tc.want)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	var largeInput Config
	largeInput.Limits.Max.Input = 65 << 20
	ok := Dataset{Name: "a", Dir: "x"}
	for _, tc := range []struct {
		name string
		c    Config
		want string
	}{
		{"zero", Config{}, ""},
		{"dataset", Config{Datasets: []Dataset{ok}}, ""},
		{"containment", Config{Containment: "some"}, "containment"},
		{"realm is a peer id", Config{Realm: "12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2"}, "realm"},
		{"dataset twice", Config{Datasets: []Dataset{ok, ok}}, "dataset[1].name"},
		{"dataset name", Config{Datasets: []Dataset{{Name: "../a", Dir: "x"}}}, "dataset[0].name"},
		{"no dir", Config{Datasets: []Dataset{{Name: "a"}}}, "dataset[0].dir"},
		{"runners", Config{Engine: Engine{Runners: -1}}, "runners"},
		{"agent's runners", Config{Engine: Engine{AgentRunners: 5, Runners: 5}}, ""},
		{"more than all runners", Config{Engine: Engine{AgentRunners: 5, Runners: 4}}, "engine.agent_runners"},
		{"agent's runners, negative", Config{Engine: Engine{AgentRunners: -1}}, "engine.agent_runners"},
		{"memory", Config{Engine: Engine{Memory: 256 << 20}}, ""},
		{"little memory", Config{Engine: Engine{Memory: 255 << 20}}, "engine.memory: must be 256 MiB"},
		{"endless memory", Config{Engine: Engine{Memory: 1 << 51}}, "engine.memory"},
		{"large module", Config{Datasets: []Dataset{{Name: "a", Dir: "x", Limits: Limits{Module: 65 << 20}}}}, "dataset[0].limits.module: at most 64 MiB"},
		{"large input", largeInput, "limits.max.input: at most 64 MiB"},
		{"runs at once", Config{Datasets: []Dataset{{Name: "a", Dir: "x", RunsAtOnce: 1}}}, ""},
		{"runs at once, negative", Config{Datasets: []Dataset{ok, {Name: "b", Dir: "x", RunsAtOnce: -1}}}, "dataset[1].runs_at_once"},
		{"runs at once, many", Config{Datasets: []Dataset{{Name: "a", Dir: "x", RunsAtOnce: 1025}}}, "dataset[0].runs_at_once"},
		{"compile time", Config{Engine: Engine{CompileTime: Duration(2 * time.Second)}}, ""},
		{"part of a second", Config{Engine: Engine{CompileTime: Duration(1500 * time.Millisecond)}}, "engine.compile_time: 1.5s is not"},
		{"less than a second", Config{Engine: Engine{CompileTime: Duration(time.Millisecond)}}, "engine.compile_time"},
		{"an hour to compile", Config{Engine: Engine{CompileTime: Duration(time.Hour)}}, "engine.compile_time"},
	} {
		err := tc.c.Validate()
		if (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

// The README's node.toml is one that a node accepts, but for its ellipses.
func TestReadmeConfig(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(readme), "```toml\n")
	block, _, end := strings.Cut(block, "```")
	if !ok || !end {
		t.Fatal("the README has no toml block")
	}
	block = strings.ReplaceAll(block, "12D3KooW…", "12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2")
	var c Config
	err = conf.Parse([]byte(block), &c)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.Limits.Default.Memory != 256<<20 || time.Duration(c.Datasets[0].Limits.Time) != 2*time.Second || len(c.Mesh.Peers) != 1 ||
		c.Engine.AgentRunners != 3 || c.Engine.Memory != 8<<30 || c.Datasets[0].RunsAtOnce != 2 {
		t.Errorf("read as %+v", c)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("realm = \"a\"\n[[dataset]]\nname = \"a\"\ndir = \"b\"\n[dataset.limits]\ntime = \"1s\""))
	f.Add([]byte("[limits.max]\nmemory = \"64MiB\"\n[mesh]\npeers = []"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c Config
		if err := conf.Parse(b, &c); err == nil {
			c.Validate()
		}
	})
}
