package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// BenchmarkRun is the round trip of a trivial module: in a runner that is
// reused, in a blank one, and in a new process.
func BenchmarkRun(b *testing.B) {
	hello := guestModule(b, "hello")
	for _, bm := range []struct {
		name  string
		c     Config
		fresh bool
	}{
		{"reused", Config{Reuse: 1 << 30}, false},
		{"reused, dataset", Config{Reuse: 1 << 30}, false},
		{"new process", Config{Reuse: 1, Blank: -1}, true},
	} {
		b.Run(bm.name, func(b *testing.B) {
			e := newTest(b, bm.c)
			j := jobOf(hello)
			j.Limits.Wall = 10 * time.Second
			if strings.Contains(bm.name, "dataset") {
				j.Mounts = []Mount{{"d", b.TempDir()}}
			}
			run := func() {
				if _, err := e.Run(context.Background(), j); err != nil {
					b.Fatal(err)
				}
			}
			run()
			j.Wasm = nil
			for i := 0; b.Loop(); i++ {
				if bm.fresh {
					j.Tenant = fmt.Sprint(i)
				}
				run()
			}
		})
	}
}
