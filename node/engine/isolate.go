package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/liop-project/liop/node/bounds"
	"github.com/liop-project/liop/node/sandbox/wire"
)

// isolation is what the kernel does for a worker when it starts it. What a
// worker does to itself is package sandbox's.
type isolation struct {
	name       string // its argv[1]: the wire names, with dots between
	namespaces uintptr
	user       bool        // with a user namespace of its own
	uid        bool        // not root, which the node is
	caps       []uintptr   // until it is locked down
	gaps       []*wire.Gap // what it lacks of the first choice
}

// isolate finds the strongest isolation that this machine lets us have: each
// candidate is tried by starting a worker that locks itself down.
func isolate(ctx context.Context) (isolation, error) {
	var lacks []*wire.Gap
	for _, c := range candidates() {
		err := rehearse(ctx, c)
		if err == nil {
			c.gaps = append(c.gaps, lacks...)
			return c, nil
		}
		if ctx.Err() != nil {
			return isolation{}, ctx.Err()
		}
		if c.name == "" {
			return isolation{}, fmt.Errorf("no worker can be locked down: %w", err)
		}
		lacks = lack(lacks, missing(c, err))
	}
	return isolation{}, errors.New("no way to start workers is known on this system")
}

// lack adds a gap, which takes the place of one about a part of the same feature.
func lack(gaps []*wire.Gap, more *wire.Gap) []*wire.Gap {
	if more == nil {
		return gaps
	}
	gaps = slices.DeleteFunc(gaps, func(g *wire.Gap) bool {
		return g.Feature == more.Feature || strings.HasPrefix(g.Feature, more.Feature+":")
	})
	return append(gaps, more)
}

// rehearse starts a worker that locks itself down and ends.
func rehearse(ctx context.Context, iso isolation) error {
	s := newSpawner(iso, nil)
	defer s.close()
	w, err := s.start(wire.RehearsalName)
	if err != nil {
		return err
	}
	defer w.kill()
	defer context.AfterFunc(ctx, w.kill)()
	w.sock.SetDeadline(time.Now().Add(bounds.Bind))
	var done wire.Bound
	if err := w.conn.Recv(&done); err != nil {
		return fmt.Errorf("%w: %s", err, w.lastWords())
	}
	return nil
}

// containment is what holds a worker, from both sides.
func (s *spawner) containment(worker *wire.Containment) *wire.Containment {
	c := &wire.Containment{Active: worker.GetActive(), Gaps: append(worker.GetGaps(), s.iso.gaps...)}
	if word := s.group.active(); word != "" {
		c.Active = append(c.Active, word)
	}
	return c
}
