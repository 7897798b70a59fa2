package wire

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/liop-project/liop/node/bounds"
)

func TestRoundTrip(t *testing.T) {
	for _, rawLen := range []int{0, 1, 32 << 10, 32<<10 + 1, 1 << 20} {
		var b bytes.Buffer
		c := NewConn(&b)
		sent := &Run{Args: []string{"a", strings.Repeat("x", 100<<10)}, WallMs: 7}
		raw := bytes.Repeat([]byte{7}, rawLen)
		if err := c.Send(sent, raw); err != nil {
			t.Fatal(err)
		}
		var got Run
		if err := c.Recv(&got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(sent, &got) {
			t.Fatalf("got %v", &got)
		}
		back, err := c.RecvRaw(rawLen)
		if err != nil || !bytes.Equal(back, raw) {
			t.Fatalf("raw frame of %d bytes came back as %d, %v", rawLen, len(back), err)
		}
	}
}

func TestBounds(t *testing.T) {
	frame := func(n uint32) *Conn {
		return NewConn(bytes.NewBuffer(binary.LittleEndian.AppendUint32(nil, n)))
	}
	if err := frame(bounds.Message + 1).Recv(new(Ran)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("oversize message: %v", err)
	}
	if _, err := frame(11).RecvRaw(10); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("oversize raw frame: %v", err)
	}
	if err := NewConn(&bytes.Buffer{}).Send(&Ran{Stderr: make([]byte, bounds.Message)}, nil); err == nil {
		t.Error("oversize message was sent")
	}
}

func FuzzRecv(f *testing.F) {
	var b bytes.Buffer
	NewConn(&b).Send(&Ran{Outcome: Outcome_TRAP, Message: "m"}, []byte("raw"))
	f.Add(b.Bytes())
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, in []byte) {
		c := NewConn(bytes.NewBuffer(in))
		var m Ran
		if c.Recv(&m) == nil {
			if raw, err := c.RecvRaw(1 << 10); err == nil && len(raw) > 1<<10 {
				t.Fatal("frame over its limit")
			}
		}
	})
}
