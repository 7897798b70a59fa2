package sandbox

import (
	"slices"
	"strings"

	"github.com/liop-project/liop/node/sandbox/wire"
)

// containment is what a worker locks itself down to. The zero value of dirs
// and files means no file at all.
type containment struct {
	calls  []string // groups of system calls
	memory uint64   // bytes of private writable mappings
	cpu    uint64   // seconds until the kernel kills the process; 0: the node does, by the clock
	dirs   []string // readable below
	files  []string // readable
}

// isolation is what the node had the kernel do when it started this process.
type isolation []string

func parseIsolation(args []string) isolation {
	if len(args) < 2 || args[1] == "" {
		return nil
	}
	return strings.Split(args[1], ".")
}

func (i isolation) has(what string) bool { return slices.Contains(i, what) }

// namespaces are those of i that are namespaces, as one word for a receipt.
func (i isolation) namespaces() string {
	var ns []string
	for _, s := range i {
		if s != wire.User {
			ns = append(ns, s)
		}
	}
	return strings.Join(ns, ".")
}

// words are the words of all groups.
func words(groups ...[]string) []string {
	var all []string
	for _, g := range groups {
		all = append(all, strings.Fields(strings.Join(g, " "))...)
	}
	return all
}
