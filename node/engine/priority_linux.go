package engine

import "golang.org/x/sys/unix"

// setNice applies to every thread of a worker, which has a process group of its
// own. To set it lower than it is takes a privilege.
func setNice(w *worker, nice int) error {
	return unix.Setpriority(unix.PRIO_PGRP, w.cmd.Process.Pid, nice)
}
