package engine

import (
	"sync"

	"golang.org/x/sys/unix"
)

// ownNice is how nice the node is: 0 for most, 19 at most. The system call
// gives 20 less that.
var ownNice = sync.OnceValue(func() int {
	n, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0
	}
	return 20 - n
})

// setNice makes a worker that much nicer than the node: every thread of it, for
// it has a process group of its own. To make it less nice than it is takes a
// privilege.
func setNice(w *worker, nice int) error {
	return unix.Setpriority(unix.PRIO_PGRP, w.cmd.Process.Pid, niceness(nice))
}

// niceness is that in the kernel's terms.
func niceness(nice int) int { return min(ownNice()+nice, 19) }
