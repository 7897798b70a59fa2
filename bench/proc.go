//go:build linux && cgo

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of CPU times in /proc: USER_HZ is 100 on every Linux that a
// data node runs on (proc(5), times(2)).
const tick = 10 * time.Millisecond

// stat is what /proc/PID/stat says of a process.
type stat struct {
	pid, parent int
	cpu         time.Duration
	reaped      time.Duration // CPU time of its children that have ended
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(pid, string(b))
}

// parseStat reads fields by their number in proc(5). The second is a name in
// parentheses, which may have anything in it.
func parseStat(pid int, text string) (stat, error) {
	end := strings.LastIndexByte(text, ')')
	f := strings.Fields(text[end+1:])
	if end < 0 || len(f) < 15 {
		return stat{}, fmt.Errorf("/proc/%d/stat: %d fields after the name", pid, len(f))
	}
	s := stat{pid: pid}
	var err error
	if s.parent, err = strconv.Atoi(f[4-3]); err != nil {
		return stat{}, fmt.Errorf("/proc/%d/stat: parent: %w", pid, err)
	}
	for i, to := range map[int]*time.Duration{14: &s.cpu, 15: &s.cpu, 16: &s.reaped, 17: &s.reaped} { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f[i-3], 10, 64)
		if err != nil {
			return stat{}, fmt.Errorf("/proc/%d/stat: field %d: %w", pid, i, err)
		}
		*to += time.Duration(n) * tick
	}
	return s, nil
}

// children are the processes that pid is the parent of.
func children(pid int) ([]stat, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var out []stat
	for _, d := range dirs {
		id, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		s, err := readStat(id)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) { // it just ended
			continue
		}
		if err != nil {
			return nil, err
		}
		if s.parent == pid {
			out = append(out, s)
		}
	}
	return out, nil
}

// treeCPU is the CPU time so far of a process, and of all its children
// together, those that have ended included. Both move in ticks.
func treeCPU(pid int) (own, below time.Duration, err error) {
	const tries = 20 // children rarely end, and looking takes milliseconds
	for range tries {
		s, err := readStat(pid)
		if err != nil {
			return 0, 0, err
		}
		cs, err := children(pid)
		if err != nil {
			return 0, 0, err
		}
		after, err := readStat(pid)
		if err != nil {
			return 0, 0, err
		}
		if after.reaped != s.reaped { // one ended meanwhile, and was missed or counted twice
			continue
		}
		below = s.reaped
		for _, c := range cs {
			below += c.cpu
		}
		return s.cpu, below, nil
	}
	return 0, 0, fmt.Errorf("the children of process %d do not stop ending", pid)
}

// rss is the resident memory of a process, in bytes, with pages it shares.
func rss(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm: %d fields", pid, len(f))
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/proc/%d/statm: %w", pid, err)
	}
	return float64(pages) * float64(os.Getpagesize()), nil
}

// openFiles is the number of descriptors of a process.
func openFiles(pid int) (float64, error) {
	e, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return float64(len(e)), err
}
