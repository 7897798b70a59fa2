package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/sandbox/wire"
)

// worker is one child process and the socket to it.
type worker struct {
	cmd     *exec.Cmd
	spawner *spawner
	sock    net.Conn
	conn    *wire.Conn
	once    sync.Once
	done    chan struct{} // closed when the process is reaped
	said    *capped
}

// kill ends the process. It does not wait until it is reaped: the spawner does
// that. It may be called often.
func (w *worker) kill() {
	w.once.Do(func() {
		w.sock.Close()
		w.cmd.Process.Kill()
	})
}

// lastWords kills the process and gives what it wrote to its stderr.
func (w *worker) lastWords() string {
	w.kill()
	t := time.NewTimer(bounds.Reap)
	defer t.Stop()
	select {
	case <-w.done:
		return w.said.b.String()
	case <-t.C: // its stderr may still be written to
		return fmt.Sprintf("(process %d has not ended %s after it was killed)", w.cmd.Process.Pid, bounds.Reap)
	}
}

// ended reports whether the process is reaped.
func (w *worker) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// spawner starts workers, all from one OS thread that lives as long as the
// Engine: Linux delivers a child's parent-death signal when the thread that
// started it ends, not when the process does.
type spawner struct {
	exe   string
	iso   isolation
	group *cgroup // nil for none; the spawner's to close
	reqs  chan spawnReq
	quit  chan struct{}
	done  chan struct{}

	mu   sync.Mutex
	live map[*worker]struct{} // those that are not reaped
}

type spawnReq struct {
	w   *worker
	err chan error
}

// newSpawner makes one whose workers are in group, which may be nil.
func newSpawner(iso isolation, group *cgroup) *spawner {
	s := &spawner{exe: selfExe(), iso: iso, group: group,
		reqs: make(chan spawnReq), quit: make(chan struct{}), done: make(chan struct{}), live: map[*worker]struct{}{}}
	go func() {
		defer close(s.done)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		entered := s.group.enter()
		defer s.group.leave()
		for {
			select {
			case r := <-s.reqs:
				if entered != nil { // the cgroup was there a moment ago
					r.err <- fmt.Errorf("enter cgroup: %w", entered)
					continue
				}
				err := r.w.cmd.Start()
				if err == nil {
					s.watch(r.w)
				}
				r.err <- err
			case <-s.quit:
				return
			}
		}
	}()
	return s
}

// watch counts w as alive until it is reaped.
func (s *spawner) watch(w *worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[w] = struct{}{}
	go func() {
		w.cmd.Wait()
		s.mu.Lock()
		delete(s.live, w)
		s.mu.Unlock()
		close(w.done)
	}()
}

// close ends the spawner, kills its workers, and returns when all are reaped,
// or with an error if some are not within bounds.Reap. It does not leave the
// killing to the end of the spawner's thread: the Go runtime never ends the
// first thread of a process, which that may be.
func (s *spawner) close() error {
	close(s.quit)
	<-s.done
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.live))
	s.mu.Unlock()
	for _, w := range all {
		w.kill()
	}
	late, stop := context.WithTimeout(context.Background(), bounds.Reap)
	defer stop()
	left := 0
	for _, w := range all {
		select {
		case <-w.done:
		case <-late.Done():
			if !w.ended() {
				left++
			}
		}
	}
	s.group.close()
	if left > 0 {
		return fmt.Errorf("%d worker processes have not ended %s after they were killed", left, bounds.Reap)
	}
	return nil
}

// start runs this binary again as the worker of that name.
func (s *spawner) start(name string) (*worker, error) {
	parent, child, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("make socket pair: %w", err)
	}
	defer child.Close()
	sock, err := net.FileConn(parent)
	parent.Close()
	if err != nil {
		return nil, fmt.Errorf("use socket pair: %w", err)
	}
	said := &capped{max: bounds.LastWords}
	cmd := &exec.Cmd{
		Path:        s.exe,
		Args:        []string{name, s.iso.name},
		Env:         []string{}, // nothing inherited: no token, no key
		Dir:         "/",
		Stderr:      said,
		ExtraFiles:  []*os.File{child}, // descriptor 3; all else is closed on exec
		SysProcAttr: s.iso.attr(),
		WaitDelay:   bounds.Reap, // for its stderr to end after it has
	}
	s.group.attr(cmd.SysProcAttr)
	w := &worker{cmd: cmd, spawner: s, sock: sock, conn: wire.NewConn(sock), done: make(chan struct{}), said: said}
	r := spawnReq{w, make(chan error, 1)}
	select {
	case s.reqs <- r:
		err = <-r.err
	case <-s.done:
		err = errClosed
	}
	if err != nil {
		sock.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return w, nil
}

var errClosed = errors.New("the engine is closed")

// capped keeps the first max bytes written to it and forgets the rest.
type capped struct {
	b   bytes.Buffer
	max int
}

func (c *capped) Write(p []byte) (int, error) {
	c.b.Write(p[:min(len(p), c.max-c.b.Len())])
	return len(p), nil
}
