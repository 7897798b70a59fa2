package conf_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/liop-project/liop/core/conf"
)

type shape struct {
	Name string `toml:"name"`
	Part struct {
		N int `toml:"n"`
	} `toml:"part"`
}

func TestParse(t *testing.T) {
	var s shape
	if err := conf.Parse([]byte("name = \"x\"\n[part]\nn = 3"), &s); err != nil || s.Name != "x" || s.Part.N != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	for text, want := range map[string]string{
		"name = \"x\"\nnmae = 1":           `2: unknown key "nmae"`,
		"[part]\n\nm = 1":                  `3: unknown key "part.m"`,
		"name = 1":                         "1: ",
		"name = \"a\"\nname = \"b\"":       "2: ",
		"name = \"x":                       "1: ",
		"[part]\nn = 99999999999999999999": "2: ",
	} {
		if err := conf.Parse([]byte(text), new(shape)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.toml")
	if err := conf.Read(path, new(shape)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	write := func(b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write([]byte("nmae = 1"))
	if err := conf.Read(path, new(shape)); err == nil || !strings.Contains(err.Error(), "a.toml:1: unknown key") {
		t.Error(err)
	}
	write(make([]byte, conf.MaxBytes+1))
	if err := conf.Read(path, new(shape)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Error(err)
	}
}
