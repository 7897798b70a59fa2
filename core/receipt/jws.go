package receipt

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/jws"
)

const typReceipt = "liop-receipt+jwt"

// Sign makes the receipt of a claim with the key of the node that it names. It
// sorts datasets and containment in what it signs, not in c. A claim with a
// wrong member, or of another node, is an error that names the member.
func Sign(key ed25519.PrivateKey, c *Claim) (string, error) {
	if err := c.validate(); err != nil {
		return "", fmt.Errorf("sign receipt: %w", err)
	}
	node, err := keyOf(c.Node)
	if err != nil {
		return "", fmt.Errorf("sign receipt: %w", err)
	}
	if len(key) != ed25519.PrivateKeySize || !node.Equal(key.Public()) {
		return "", fmt.Errorf("sign receipt: %w", member("node", "the claim is of a node that has another key"))
	}
	payload, err := c.canonical()
	if err != nil {
		return "", fmt.Errorf("sign receipt: %w", err)
	}
	text, err := jws.Sign(key, typReceipt, payload)
	if err != nil {
		return "", fmt.Errorf("sign receipt: %w", err)
	}
	if len(text) > MaxReceipt {
		return "", fmt.Errorf("sign receipt: %d bytes, at most %d", len(text), MaxReceipt)
	}
	return text, nil
}

// Parse reads a receipt and verifies that the node which it names signed it.
// Whether that is the right node, and whether the receipt is about what the
// caller asked for, is for [Claim.Check].
func Parse(text string) (*Claim, error) {
	token, err := jws.Parse(text, typReceipt, MaxReceipt)
	switch {
	case errors.Is(err, jws.ErrSize):
		return nil, unverified("receipt", fmt.Sprintf("the receipt has %d bytes", len(text)), fmt.Sprintf("at most %d", MaxReceipt))
	case errors.Is(err, jws.ErrHeader):
		return nil, unverified("header", "the text is not a receipt", "a compact JWS whose header has alg EdDSA, typ "+typReceipt+" and nothing else")
	case err != nil:
		return nil, unverified("receipt", "the receipt is not a compact JWS in canonical form", "three parts of unpadded base64url, joined by dots")
	}
	c, err := decode(token.Payload())
	if err != nil {
		return nil, err
	}
	key, err := keyOf(c.Node)
	if err != nil {
		return nil, refusal(err)
	}
	if err := token.Verify(key); err != nil {
		return nil, unverified("signature", "the receipt is not signed by the node that it names", "keep the receipt exactly as the node sent it")
	}
	return c, nil
}

// decode accepts exactly what canonical writes. Comparing the bytes refuses in
// one step what encoding/json tolerates: members in another case, order or
// twice, missing ones, null, and every second spelling of a value.
func decode(payload []byte) (*Claim, error) {
	c := new(Claim)
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) && typ.Field != "" {
			name, _, _ := strings.Cut(typ.Field, ".")
			return nil, unverified(name, fmt.Sprintf("member %s of the claim has the wrong type", name), "")
		}
		return nil, unverified("claim", "the claim is malformed or has an unknown member", "the members of SPEC §6.1, all of them and no others")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, unverified("claim", "there is something after the claim", "")
	}
	if err := c.validate(); err != nil {
		return nil, refusal(err)
	}
	again, err := c.canonical()
	if err != nil || !bytes.Equal(again, payload) {
		return nil, unverified("claim", "the claim is not in canonical form, or a member is missing", "canonical JSON as of RFC 8785, with datasets, containment and gaps sorted")
	}
	return c, nil
}

// canonical is the JSON of a valid claim as of RFC 8785. encoding/json writes
// just that here, in a third of the time of a general transformation: the
// structs declare their members in order, numbers are integers below 2^53, and
// validate lets no string through that would need an escape. A test compares it
// with package jcs.
func (c *Claim) canonical() ([]byte, error) {
	ordered := *c
	ordered.Datasets = slices.SortedFunc(slices.Values(c.Datasets), func(a, b Dataset) int { return cmp.Compare(a.Name, b.Name) })
	ordered.Containment, ordered.Gaps = sorted(c.Containment), sorted(c.Gaps)
	return json.Marshal(&ordered)
}

// refusal makes a validation error one for the reader of a receipt.
func refusal(err error) error {
	var m *memberError
	if errors.As(err, &m) {
		return unverified(m.name, fmt.Sprintf("the claim's %s is not accepted: %s", m.name, m.text), "")
	}
	return unverified("claim", "the claim is not accepted", "")
}

func unverified(rule, message, hint string) *fault.Error {
	return &fault.Error{Code: fault.Unverified, Rule: rule, Owner: fault.Protocol, Message: message, Hint: hint}
}
