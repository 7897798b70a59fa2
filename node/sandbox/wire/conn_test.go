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

// A frame that says it is too long is refused before there is memory for it, and
// before any of it is read.
func TestMessageIsBounded(t *testing.T) {
	if err := NewConn(&bytes.Buffer{}).Send(&Ran{Stderr: make([]byte, bounds.Message)}, nil); err == nil {
		t.Error("an oversize message was sent")
	}
	// As many bytes as there may be, with what frames them: a tag and a length.
	most := &Ran{Stderr: bytes.Repeat([]byte{7}, bounds.Message-4)}
	if n := proto.Size(most); n != bounds.Message {
		t.Fatalf("the test's message has %d bytes", n)
	}
	var b bytes.Buffer
	if err := NewConn(&b).Send(most, nil); err != nil {
		t.Fatal(err)
	}
	var got Ran
	if err := NewConn(bytes.NewBuffer(b.Bytes())).Recv(&got); err != nil || !proto.Equal(most, &got) {
		t.Errorf("a message of %d bytes: %v", bounds.Message, err)
	}
	over := b.Bytes()
	binary.LittleEndian.PutUint32(over, bounds.Message+1)
	over = append(over, 0)
	if err := NewConn(bytes.NewBuffer(over)).Recv(&got); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a message of one byte more: %v", err)
	}
}

func TestRawFrameIsBounded(t *testing.T) {
	frame := func(n uint32) *Conn {
		b := binary.LittleEndian.AppendUint32(nil, n)
		return NewConn(bytes.NewBuffer(append(b, make([]byte, min(n, 11))...)))
	}
	if raw, err := frame(10).RecvRaw(10); err != nil || len(raw) != 10 {
		t.Errorf("at the limit: %d bytes, %v", len(raw), err)
	}
	for _, tc := range []struct {
		size  uint32
		limit int
	}{{11, 10}, {bounds.Module + 1, bounds.Module}, {1<<32 - 1, bounds.Artifact}} {
		if _, err := frame(tc.size).RecvRaw(tc.limit); err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("%d bytes where %d are the limit: %v", tc.size, tc.limit, err)
		}
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
