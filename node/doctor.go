package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/liop-project/liop/node/engine"
)

// Verdict says how a finding is to be taken.
type Verdict string

const (
	Fine Verdict = "ok"
	Weak Verdict = "warning" // works, less well than it could
	Gap  Verdict = "gap"     // containment = "strict" refuses to start
	Bad  Verdict = "error"   // a node cannot start
)

// Finding is one thing that [Examine] looked at.
type Finding struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Says    string  `json:"says"`
	Mend    string  `json:"mend,omitempty"` // what to do, unless it is fine
}

// udpBuffer is what QUIC wants of the kernel, in bytes (quic-go, "UDP Buffer
// Sizes").
const udpBuffer = 7_500_000

// Examine says what this machine, and this user on it, lack for a data node
// with that configuration. It starts a compiler and a runner as a node would,
// in a folder of its own, so it may run beside a node.
func Examine(ctx context.Context, c Config) []Finding {
	var all []Finding
	add := func(name string, v Verdict, says, mend string) {
		all = append(all, Finding{name, v, says, mend})
	}
	if err := c.Validate(); err != nil {
		add("configuration", Bad, err.Error(), "correct node.toml")
	} else {
		add("configuration", Fine, fmt.Sprintf("%d datasets", len(c.Datasets)), "")
	}
	for _, d := range c.Datasets {
		if _, err := os.ReadDir(d.Dir); err != nil {
			add("dataset "+d.Name, Bad, err.Error(), "make it a directory that the node's user can read")
		}
	}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	if platform == "linux/amd64" {
		add("platform", Fine, platform+kernel(), "")
	}
	all = append(all, containmentFindings(ctx, c)...)
	if b, err := os.ReadFile("/proc/sys/net/core/rmem_max"); err == nil {
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		if n < udpBuffer {
			add("udp buffer", Weak, fmt.Sprintf("net.core.rmem_max is %d, QUIC is slower with less than %d", n, udpBuffer),
				fmt.Sprintf("sysctl -w net.core.rmem_max=%d net.core.wmem_max=%d", udpBuffer, udpBuffer))
		} else {
			add("udp buffer", Fine, humanize.IBytes(uint64(n)), "")
		}
	}
	return all
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return ", kernel " + strings.TrimSpace(string(b))
}

// containmentFindings are what workers have and lack here.
func containmentFindings(ctx context.Context, c Config) []Finding {
	failed := func(err error) []Finding {
		return []Finding{{"workers", Bad, err.Error(), "no module can run here: mend that first"}}
	}
	dir, err := os.MkdirTemp("", "liop-doctor-")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(dir)
	e, err := engine.New(engine.Config{Dir: filepath.Join(dir, "modules"), Memory: uint64(c.Engine.Memory), Blank: -1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return failed(err)
	}
	defer e.Close()
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	has, err := e.Probe(ctx)
	if err != nil {
		return failed(err)
	}
	var all []Finding
	for _, word := range has.Active {
		name, detail, _ := strings.Cut(word, ":")
		all = append(all, Finding{name, Fine, containmentWords[name] + detailOf(name, detail), ""})
	}
	for _, g := range has.Gaps {
		all = append(all, Finding{g.Feature, Gap, g.Reason, g.Mend})
	}
	return all
}

func detailOf(name, detail string) string {
	switch {
	case detail == "":
		return ""
	case name == "landlock":
		return " (ABI " + detail + ")"
	case name == "cgroup":
		return " (version " + detail + ")"
	}
	return " (" + strings.ReplaceAll(detail, ".", ", ") + ")"
}

// containmentWords say what each part of the containment is for.
var containmentWords = map[string]string{
	"process":      "modules run in processes of their own, without keys or environment",
	"no-new-privs": "workers cannot gain rights",
	"namespaces":   "workers see no file, process or network of the host",
	"uid":          "workers are not root, and nobody else",
	"landlock":     "workers can open granted files only",
	"rlimits":      "a worker's memory, threads and descriptors are bounded",
	"seccomp":      "workers can make few system calls",
	"cgroup":       "the memory and threads of all workers together are bounded",
}
