package kad

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// benchMesh makes n nodes that know each other.
func benchMesh(b *testing.B, n int) []*member {
	all := []*member{start(b, quic, server())}
	for i := 1; i < n; i++ {
		all = append(all, start(b, quic, server(), all[0]))
	}
	ready(b, all...)
	return all
}

// BenchmarkFind is from the question to the first provider, asked by an agent
// that is connected already.
func BenchmarkFind(b *testing.B) {
	const nodes = 20
	all := benchMesh(b, nodes)
	agent := start(b, "", Config{}, all[0])
	ready(b, agent)
	for i, m := range all {
		if err := m.Announce([]string{fmt.Sprint("set ", i)}); err != nil {
			b.Fatal(err)
		}
		has(b, agent, fmt.Sprint("set ", i), m.id())
	}
	for i := 0; b.Loop(); i++ {
		for range agent.Providers(b.Context(), fmt.Sprint("set ", i%nodes)) {
			break
		}
	}
}

// BenchmarkNeighbour is what one end of an idle connection to a peer of the DHT
// holds: the difference between hosts that know each other and hosts that do
// not, for each end. One iteration is enough.
func BenchmarkNeighbour(b *testing.B) {
	const nodes, idle = 30, 5 * time.Second
	for i := 0; i < b.N; i++ {
		var alone []*member
		for range nodes {
			alone = append(alone, start(b, quic, server()))
		}
		rss0, go0 := residence(b), runtime.NumGoroutine()
		for _, m := range alone[1:] {
			if err := m.mesh.Libp2p().Connect(b.Context(), alone[0].info()); err != nil {
				b.Fatal(err)
			}
		}
		ready(b, alone...)
		for _, m := range alone {
			<-m.dht.RefreshRoutingTable()
		}
		ends := 0
		for _, m := range alone {
			ends += len(m.mesh.Libp2p().Network().Conns())
		}
		rss1, go1, cpu := residence(b), runtime.NumGoroutine(), cpuTime(b)
		time.Sleep(idle) // this is the measurement
		cpu = cpuTime(b) - cpu
		per := func(v float64) float64 { return v / float64(ends) }
		b.ReportMetric(per(float64(rss1-rss0)), "RSS-B/end")
		b.ReportMetric(per(float64(go1-go0)), "goroutines/end")
		b.ReportMetric(per(float64(cpu.Microseconds()))/idle.Seconds(), "CPU-µs/s/end")
		b.ReportMetric(float64(ends)/nodes, "conns/node")
	}
}

// residence is this process's resident memory in bytes, garbage excluded.
func residence(b *testing.B) int {
	b.Helper()
	runtime.GC()
	fields := procFields(b, "/proc/self/statm")
	pages, err := strconv.Atoi(fields[1])
	if err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// cpuTime is what this process used so far, in the kernel's ticks of 10 ms.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	fields := procFields(b, "/proc/self/stat")
	user, err1 := strconv.Atoi(fields[13])
	system, err2 := strconv.Atoi(fields[14])
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

func procFields(b *testing.B, path string) []string {
	b.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		b.Skipf("needs Linux: %v", err)
	}
	var out []string
	for _, f := range bytes.Fields(text) {
		out = append(out, string(f))
	}
	return out
}
