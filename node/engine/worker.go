package engine

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"

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
	<-w.done
	return w.said.b.String()
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
	live  sync.WaitGroup // workers that are not reaped
}

type spawnReq struct {
	cmd *exec.Cmd
	err chan error
}

// newSpawner makes one whose workers are in group, which may be nil.
func newSpawner(iso isolation, group *cgroup) *spawner {
	s := &spawner{exe: selfExe(), iso: iso, group: group, reqs: make(chan spawnReq), quit: make(chan struct{}), done: make(chan struct{})}
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
				r.err <- r.cmd.Start()
			case <-s.quit:
				return
			}
		}
	}()
	return s
}

// close ends the spawner, and with its thread every worker that was not killed
// before; it returns when all are reaped.
func (s *spawner) close() {
	close(s.quit)
	<-s.done
	s.live.Wait()
	s.group.close()
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
	}
	s.group.attr(cmd.SysProcAttr)
	r := spawnReq{cmd, make(chan error, 1)}
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
	w := &worker{cmd: cmd, spawner: s, sock: sock, conn: wire.NewConn(sock), done: make(chan struct{}), said: said}
	s.live.Go(func() {
		cmd.Wait()
		close(w.done)
	})
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
