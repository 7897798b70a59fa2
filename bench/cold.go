//go:build linux && cgo

package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/filters"
	"github.com/liop-project/liop/mesh"
)

// coldDial is from nothing to the first answer: connection, session, run of a
// module that the node has.
func coldDial(ctx context.Context, l *lab) ([]row, error) {
	b, err := l.newBed(ctx)
	if err != nil {
		return nil, err
	}
	defer b.close()
	if err := hello(b.clients["quic"])(ctx); err != nil { // compiles it
		return nil, err
	}
	cs := []contender{{name: "mtls", op: func(ctx context.Context) error {
		cc, err := b.peer.dial()
		if err != nil {
			return err
		}
		err = emptyCallOn(cc)(ctx)
		return errors.Join(err, cc.Close())
	}}}
	for _, t := range transports {
		a, err := b.node.newAgent(smallSet, grant.Limits{})
		if err != nil {
			return nil, err
		}
		host, err := mesh.New(mesh.Config{Key: a.id.Key()})
		if err != nil {
			return nil, err
		}
		defer host.Close()
		first := func(o client.Options) contender {
			o.Identity, o.Grant = a.id, a.chain
			return contender{name: t, op: func(ctx context.Context) error {
				c, err := client.Dial(ctx, b.node.addr[t], o)
				if err != nil {
					return err
				}
				err = hello(c)(ctx)
				return errors.Join(err, c.Close())
			}}
		}
		cs = append(cs, first(client.Options{}), first(client.Options{Host: host}))
	}
	s, err := sideBySide(ctx, l.n(200, 20), 5, cs...)
	if err != nil {
		return nil, err
	}
	const is = "mTLS dial + empty call"
	var rows []row
	for i, t := range transports {
		rows = append(rows,
			row{what: "dial + session + run, " + t + ", new libp2p host, p50", ours: took(s[2*i+1].p50()), peer: took(s[0].p50()), peerIs: is},
			row{what: "dial + session + run, " + t + ", host kept, p50", ours: took(s[2*i+2].p50()), peer: took(s[0].p50()), peerIs: is})
	}
	return rows, nil
}

// coldModule is a module that the node has never seen: refused by hash, pushed,
// compiled in a worker, run in another.
func coldModule(ctx context.Context, l *lab) ([]row, error) {
	small, err := l.small()
	if err != nil {
		return nil, err
	}
	n, err := l.startNode(ctx, "", "")
	if err != nil {
		return nil, err
	}
	defer n.stop()
	c, err := n.dial(ctx, "quic", smallSet, grant.Limits{})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	bare := newBare()
	var rows []row
	for _, m := range []struct {
		name, lang  string
		get         func(string) ([]byte, bool)
		full, quick int
	}{
		{"hello", "text format", filters.TestGuest, 50, 7},
		{"stats", "C", filters.Ready, 30, 5},
		{"head-schema", "Go", filters.Ready, 7, 1},
	} {
		wasm, ok := m.get(m.name)
		if !ok {
			return nil, fmt.Errorf("no module %q", m.name)
		}
		var fresh []byte
		renew := func(context.Context) error { fresh = unseen(wasm); return nil }
		var compile samples
		var inBare samples
		s, err := inTurns(ctx, l.n(m.full, m.quick), 1,
			contender{name: m.name, before: renew, op: func(ctx context.Context) error {
				a, err := c.Run(ctx, client.Request{Module: fresh})
				if err != nil {
					return err
				}
				if a.Stats.ModuleCached {
					return errors.New("the node had the module")
				}
				compile = append(compile, time.Duration(a.Stats.CompileMs)*time.Millisecond)
				return nil
			}},
			contender{name: m.name + " in bare Wasmtime", before: renew, op: func(context.Context) error {
				start := time.Now()
				mod, err := bare.compile(fresh)
				if err != nil {
					return err
				}
				defer mod.close()
				inBare = append(inBare, time.Since(start))
				return mod.run(nil, smallSet, small, filepath.Join(l.dir, "out"))
			}})
		if err != nil {
			return nil, err
		}
		what := fmt.Sprintf("new module %s (%s, %s)", m.name, m.lang, figure{float64(len(wasm)), octets})
		rows = append(rows,
			row{what: what + ", first answer, p50", ours: took(s[0].p50()), peer: took(s[1].p50()), peerIs: "bare Wasmtime"},
			row{what: "  of which compiling, in whole ms, p50", ours: took(compile.p50()), peer: took(inBare.p50()), peerIs: "bare Wasmtime"})
	}
	return rows, nil
}

// unseen is the module with another hash: a custom section (WebAssembly core
// specification 2.0, §5.5.3) of 32 random bytes at its end changes nothing else.
func unseen(wasm []byte) []byte {
	const name = "bench"
	content := append([]byte{byte(len(name))}, name...)
	content = append(content, make([]byte, 32)...)
	rand.Read(content[len(content)-32:])
	section := binary.AppendUvarint([]byte{0}, uint64(len(content)))
	return slices.Concat(wasm, section, content)
}
