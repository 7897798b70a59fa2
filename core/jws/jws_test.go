package jws_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/liop-project/liop/core/jws"
)

var (
	key   = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	other = ed25519.NewKeyFromSeed([]byte(strings.Repeat("x", ed25519.SeedSize)))
)

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func TestSignParseVerify(t *testing.T) {
	text, err := jws.Sign(key, "thing+jwt", []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	s, err := jws.Parse(text, "thing+jwt", len(text))
	if err != nil || string(s.Payload()) != `{"a":1}` {
		t.Fatalf("%v, payload %q", err, s.Payload())
	}
	if err := s.Verify(public(key)); err != nil {
		t.Error(err)
	}
	if err := s.Verify(public(other)); !errors.Is(err, jws.ErrSignature) {
		t.Errorf("another key: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	text, err := jws.Sign(key, "thing+jwt", []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(text, ".")
	head := func(h string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(h)) + "." + parts[1] + "." + parts[2]
	}
	// The last digit of 64 bytes carries four bits that mean nothing.
	last := text[:len(text)-1] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[index(text)|1])
	for name, c := range map[string]struct {
		text string
		max  int
		want error
	}{
		"long":                 {text, len(text) - 1, jws.ErrSize},
		"empty":                {"", 100, jws.ErrHeader},
		"another type":         {head(`{"alg":"EdDSA","typ":"other+jwt"}`), 1000, jws.ErrHeader},
		"order of the header":  {head(`{"typ":"thing+jwt","alg":"EdDSA"}`), 1000, jws.ErrHeader},
		"key in the header":    {head(`{"alg":"EdDSA","jwk":{},"typ":"thing+jwt"}`), 1000, jws.ErrHeader},
		"alg none":             {head(`{"alg":"none","typ":"thing+jwt"}`), 1000, jws.ErrHeader},
		"two parts":            {parts[0] + "." + parts[1], 1000, jws.ErrForm},
		"padded":               {text + "==", 1000, jws.ErrForm},
		"line break":           {text[:len(text)-4] + "\n" + text[len(text)-4:], 1000, jws.ErrForm},
		"stray low bits":       {last, 1000, jws.ErrForm},
		"something after it":   {text + ".AAAA", 1000, jws.ErrForm},
		"payload not base64":   {parts[0] + ".!." + parts[2], 1000, jws.ErrForm},
		"signature not base64": {parts[0] + "." + parts[1] + ".!", 1000, jws.ErrForm},
	} {
		if _, err := jws.Parse(c.text, "thing+jwt", c.max); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	short := parts[0] + "." + parts[1] + "."
	if s, err := jws.Parse(short, "thing+jwt", 1000); err == nil && s.Verify(public(key)) == nil {
		t.Error("no signature passes")
	}
}

func index(text string) int {
	return strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", text[len(text)-1])
}

func TestSignRefusesAKeyOfAnotherLength(t *testing.T) {
	if _, err := jws.Sign(key[:10], "thing+jwt", nil); err == nil {
		t.Error("signed")
	}
}
