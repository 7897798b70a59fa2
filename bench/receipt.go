//go:build linux && cgo

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/receipt"
)

// receipts is what signing and verifying cost beside the bare signature of the
// same bytes. Verifying is what the client does: parse, verify, compare with
// what it asked for.
func receipts(ctx context.Context, l *lab) ([]row, error) {
	node, agent := identity.Generate(), identity.Generate()
	answer := []byte("hello\n")
	nonce := make([]byte, 32)
	rand.Read(nonce)
	claim := &receipt.Claim{
		V: receipt.Version, Assurance: receipt.Signed, Outcome: receipt.OK, Node: node.ID(), Agent: agent.ID(), Nonce: nonce,
		Module: sha256.Sum256([]byte("module")), Args: guest.ArgsHash(nil), Stdin: sha256.Sum256(nil), Grant: sha256.Sum256([]byte("grant")),
		Limits: receipt.Limits{MemoryBytes: 256 << 20, WallMS: 10_000, OutputBytes: 1 << 20, InputBytes: 1 << 20, ModuleBytes: 8 << 20, Concurrency: 16},
		Answer: receipt.AnswerOf(answer), Time: time.Now().UnixMilli(),
		Containment: []string{"process", "no-new-privs", "landlock:7", "rlimits", "seccomp"}, // as on Linux 6.18
		Datasets:    []receipt.Dataset{{Name: smallSet, Commitment: sha256.Sum256([]byte("data")), Basis: receipt.Content, Files: 1, Bytes: 20}},
	}
	jws, err := receipt.Sign(node.Ed25519(), claim)
	if err != nil {
		return nil, err
	}
	expect := receipt.Expect{Node: node.ID(), Agent: agent.ID(), Module: [32]byte(claim.Module), Answer: answer, Nonce: nonce,
		Datasets: []string{smallSet}, Grant: [32]byte(claim.Grant)}
	signed := jws[:strings.LastIndexByte(jws, '.')] // header and payload, RFC 7515 §5.1
	sig, err := base64.RawURLEncoding.DecodeString(jws[len(signed)+1:])
	if err != nil {
		return nil, err
	}
	key, public := node.Ed25519(), node.Ed25519().Public().(ed25519.PublicKey)

	s, err := sideBySide(ctx, l.n(20_000, 2000), 500,
		contender{name: "sign", op: func(context.Context) error {
			_, err := receipt.Sign(key, claim)
			return err
		}},
		contender{name: "bare sign", op: func(context.Context) error {
			ed25519.Sign(key, []byte(signed))
			return nil
		}},
		contender{name: "verify", op: func(context.Context) error {
			c, err := receipt.Parse(jws)
			if err != nil {
				return err
			}
			return c.Check(expect)
		}},
		contender{name: "bare verify", op: func(context.Context) error {
			if !ed25519.Verify(public, []byte(signed), sig) {
				return errors.New("signature is wrong")
			}
			return nil
		}})
	if err != nil {
		return nil, err
	}
	return []row{
		{what: "receipt, sign, p50", ours: took(s[0].p50()), peer: took(s[1].p50()), peerIs: "bare Ed25519", target: atMost(took(100 * time.Microsecond))},
		{what: "receipt, verify and check, p50", ours: took(s[2].p50()), peer: took(s[3].p50()), peerIs: "bare Ed25519", target: atMost(took(200 * time.Microsecond))},
		{what: "receipt, size", ours: figure{float64(len(jws)), octets}, peer: figure{ed25519.SignatureSize, octets}, peerIs: "bare signature", target: atMost(figure{1500, octets})},
	}, nil
}
