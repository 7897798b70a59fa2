package kad

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// A network of many, in one process. Each has a name and a value of its own.
// Then a third of them die, without a word, and nothing that lives is lost.
func TestNetwork(t *testing.T) {
	nodes, agents := 20, 3
	if testing.Short() {
		nodes = 12
	}
	began := time.Now()
	all := []*member{start(t, quic, server()), start(t, tcp, server())}
	for i := len(all); i < nodes; i++ {
		listen := quic
		if i%4 == 1 {
			listen = tcp
		}
		all = append(all, start(t, listen, server(), all[0], all[1]))
	}
	values := map[peer.ID][]byte{}
	for i, m := range all {
		values[m.id()] = sign(t, m.key, 1, fmt.Sprint("node ", i))
		if err := m.Publish(t.Context(), values[m.id()]); err != nil {
			t.Fatal(err)
		}
		if err := m.Announce([]string{fmt.Sprint("set ", i), "common"}); err != nil {
			t.Fatal(err)
		}
	}
	var from []*member
	for range agents {
		from = append(from, start(t, "", Config{}, all[0], all[1]))
	}
	ready(t, all[2:]...)
	ready(t, from...)
	each := func(f func(i int, m *member)) {
		var wg sync.WaitGroup
		queue := make(chan int)
		for range 4 {
			wg.Go(func() {
				for i := range queue {
					f(i, all[i])
				}
			})
		}
		for i := range all {
			queue <- i
		}
		close(queue)
		wg.Wait()
	}
	each(func(i int, m *member) {
		has(t, from[i%agents], fmt.Sprint("set ", i), m.id())
		reads(t, from[i%agents], m.id(), values[m.id()])
	})
	if t.Failed() {
		return
	}
	t.Logf("%d nodes: started, joined, and all found after %s", nodes, time.Since(began).Round(time.Millisecond))

	var first, read []time.Duration
	for i, m := range all {
		agent := from[i%agents]
		first = append(first, timed(t, func(ctx context.Context) error {
			for range agent.Providers(ctx, fmt.Sprint("set ", i)) {
				return nil
			}
			return fmt.Errorf("set %d was not found", i)
		}))
		read = append(read, timed(t, func(ctx context.Context) error {
			_, err := agent.Value(ctx, m.id())
			return err
		}))
	}
	t.Logf("find, first provider: %s", quantiles(first))
	t.Logf("read a value, the best of all: %s", quantiles(read))
	eventually(t, func(ctx context.Context) error {
		n := 0
		for range from[0].Providers(ctx, "common") {
			n++
		}
		if n != nodes {
			return fmt.Errorf("%d of %d providers found", n, nodes)
		}
		return nil
	})

	dead := map[peer.ID]bool{}
	var gone sync.WaitGroup
	for i, m := range all {
		if i%3 == 2 && len(dead) < nodes*3/10 {
			dead[m.id()] = true
			gone.Go(m.stop)
		}
	}
	gone.Wait()
	each(func(i int, m *member) {
		if !dead[m.id()] {
			has(t, from[i%agents], fmt.Sprint("set ", i), m.id())
		}
		reads(t, from[i%agents], m.id(), values[m.id()])
	})
	first = first[:0]
	for i, m := range all {
		if dead[m.id()] {
			continue
		}
		first = append(first, timed(t, func(ctx context.Context) error {
			for range from[i%agents].Providers(ctx, fmt.Sprint("set ", i)) {
				return nil
			}
			return fmt.Errorf("set %d was not found", i)
		}))
	}
	t.Logf("find, first provider, %d of %d dead: %s", len(dead), nodes, quantiles(first))

	for _, m := range all {
		if dead[m.id()] {
			continue
		}
		for _, p := range m.Peers() {
			if slices.ContainsFunc(from, func(a *member) bool { return a.id() == p.ID }) {
				t.Errorf("an agent is in the routing table of %s", m.id())
			}
		}
	}
}

func timed(t testing.TB, f func(context.Context) error) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	start := time.Now()
	if err := f(ctx); err != nil {
		t.Error(err)
	}
	return time.Since(start)
}

func quantiles(d []time.Duration) string {
	slices.Sort(d)
	at := func(q int) time.Duration { return d[(len(d)-1)*q/100].Round(100 * time.Microsecond) }
	return fmt.Sprintf("p50 %s, p95 %s, max %s", at(50), at(95), at(100))
}
