package engine

import (
	"context"
	"log/slog"
	"testing"
)

func newTest(t testing.TB, c Config) *Engine {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	c.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func TestProbe(t *testing.T) {
	e := newTest(t, Config{})
	c, err := e.Probe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(c)
}
