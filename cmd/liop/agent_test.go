package main

import (
	"os"
	"strings"
	"testing"

	"github.com/liop-project/liop/core/conf"
)

// TestReadmeAgent reads the README's agent.toml as the command would.
func TestReadmeAgent(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := strings.Cut(string(readme), "`agent.toml` of its home; flags")
	_, after, begins := strings.Cut(after, "```toml\n")
	block, _, ends := strings.Cut(after, "```")
	if !ok || !begins || !ends {
		t.Fatal("the README has no agent.toml")
	}
	block = strings.ReplaceAll(block, "12D3KooW…", "12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2")
	home := t.TempDir()
	if err := os.WriteFile(home+"/"+agentFile, []byte(block), 0o600); err != nil {
		t.Fatal(err)
	}
	var c agentConf
	if err := conf.Read(home+"/"+agentFile, &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Bootstrap) != 1 || len(c.Trust) != 1 || len(c.Owners) != 1 {
		t.Errorf("read as %+v", c)
	}
}
