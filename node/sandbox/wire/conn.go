// Package wire is what the node and its worker processes say to each other:
// length-prefixed frames on a socket pair. Both ends are the same binary, but
// the worker's end is hostile once a guest has run in it, so the node bounds
// every frame it reads.
package wire

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/liop-project/liop/node/bounds"
)

// Names that a process gets as argv[0] to know which worker it is.
const (
	CompilerName = "liop-compiler"
	RunnerName   = "liop-runner"
	// RehearsalName locks itself down to nothing, says how that went, and ends.
	RehearsalName = "liop-rehearsal"
)

// IsWorker reports whether a process with that argv[0] is one of ours.
func IsWorker(name string) bool {
	return name == CompilerName || name == RunnerName || name == RehearsalName
}

// Isolation says which of these a worker was started with: its argv[1], as a
// list with dots between.
const (
	MountNamespace = "mnt"
	PIDNamespace   = "pid"
	NetNamespace   = "net"
	IPCNamespace   = "ipc"
	UTSNamespace   = "uts"
	User           = "uid" // the node is root, and the worker is not
)

// Fingerprint names the engine and every setting that a compiled artifact
// depends on. It MUST change whenever sandbox's engine configuration does:
// artifacts made under another fingerprint are never loaded.
const Fingerprint = "wasmtime-39.0.1-epoch-nan-nosimd-1"

// Conn frames messages on a stream. It is not safe for concurrent use.
type Conn struct {
	r   *bufio.Reader
	w   io.Writer
	buf []byte
}

// NewConn makes a Conn over rw.
func NewConn(rw io.ReadWriter) *Conn {
	return &Conn{r: bufio.NewReaderSize(rw, 64<<10), w: rw}
}

// Send writes a message and, if raw is not nil, a raw frame after it, in one write
// for small ones.
func (c *Conn) Send(m proto.Message, raw []byte) error {
	b := append(c.buf[:0], 0, 0, 0, 0)
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		return fmt.Errorf("marshal %T: %w", m, err)
	}
	n := len(b) - 4
	if n > bounds.Message {
		return fmt.Errorf("message %T has %d bytes, more than %d", m, n, bounds.Message)
	}
	binary.LittleEndian.PutUint32(b, uint32(n))
	if raw != nil {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(raw)))
		if len(raw) <= 32<<10 { // copying beats a second system call
			b = append(b, raw...)
			raw = nil
		}
	}
	c.buf = b
	if _, err := c.w.Write(b); err != nil {
		return err
	}
	if len(raw) > 0 {
		_, err = c.w.Write(raw)
	}
	return err
}

// Recv reads one message into m.
func (c *Conn) Recv(m proto.Message) error {
	n, err := c.size(bounds.Message)
	if err != nil {
		return err
	}
	b, err := c.r.Peek(n)
	if err == nil { // the common case: it fits the reader's buffer
		err = proto.Unmarshal(b, m)
		c.r.Discard(n)
	} else if err == bufio.ErrBufferFull {
		b = make([]byte, n)
		if _, err = io.ReadFull(c.r, b); err == nil {
			err = proto.Unmarshal(b, m)
		}
	}
	if err != nil {
		return fmt.Errorf("read %T: %w", m, err)
	}
	return nil
}

// RecvRaw reads one raw frame of at most limit bytes.
func (c *Conn) RecvRaw(limit int) ([]byte, error) {
	n, err := c.size(limit)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return nil, fmt.Errorf("read frame: %w", err)
	}
	return b, nil
}

func (c *Conn) size(limit int) (int, error) {
	var h [4]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint32(h[:])
	if uint64(n) > uint64(limit) {
		return 0, fmt.Errorf("frame of %d bytes, more than %d", n, limit)
	}
	return int(n), nil
}
