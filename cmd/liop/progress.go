package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"

	"github.com/liop-project/liop/client"
)

// progress shows on a terminal what takes longer than a second, and for how
// long. Elsewhere it shows nothing.
type progress struct {
	out  *os.File
	quit chan struct{}
	done chan struct{}
	once sync.Once

	mu    sync.Mutex
	what  string
	since time.Time
	shown bool
}

func newProgress(out *os.File) *progress {
	p := &progress{out: out, quit: make(chan struct{}), done: make(chan struct{}), since: time.Now()}
	if !term.IsTerminal(int(out.Fd())) {
		close(p.done)
		return p
	}
	go p.loop()
	return p
}

// phase says what begins now.
func (p *progress) phase(ph client.Phase, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what, p.since = string(ph), time.Now()
	if bytes > 0 {
		p.what += " " + humanize.IBytes(uint64(bytes))
	}
}

func (p *progress) loop() {
	defer close(p.done)
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-p.quit:
			if p.shown {
				fmt.Fprint(p.out, "\r\x1b[K")
			}
			return
		case <-t.C:
		}
		p.mu.Lock()
		if d := time.Since(p.since); d > time.Second {
			fmt.Fprintf(p.out, "\r\x1b[Kliop: %s %.1fs", p.what, d.Seconds())
			p.shown = true
		}
		p.mu.Unlock()
	}
}

// stop clears the line. It may be called more than once.
func (p *progress) stop() {
	p.once.Do(func() { close(p.quit) })
	<-p.done
}
