package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

func TestCreateThenLoad(t *testing.T) {
	home := filepath.Join(t.TempDir(), "a", "home")
	made, err := Create(home)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" {
		for path, want := range map[string]fs.FileMode{home: 0o700, filepath.Join(home, FileName): 0o600} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: mode %v, want %v (%v)", path, info.Mode(), want, err)
			}
		}
	}
	loaded, err := Load(home)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.ID() != made.ID() || !loaded.Ed25519().Equal(made.Ed25519()) || !loaded.Key().Equals(made.Key()) {
		t.Fatal("loaded another identity than was created")
	}
	if id, err := peer.IDFromPrivateKey(made.Key()); err != nil || id != made.ID() {
		t.Fatalf("libp2p derives %v, %v; want %v", id, err, made.ID())
	}
	entries, err := os.ReadDir(home)
	if err != nil || len(entries) != 1 {
		t.Fatalf("home contains %v, %v; want %s only", entries, err, FileName)
	}
}

func TestCreateNeverOverwrites(t *testing.T) {
	home := t.TempDir()
	path := filepath.Join(home, FileName)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(home); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Fatalf("error %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Fatalf("file is now %q, %v", b, err)
	}
	// A dangling link is something that exists, too.
	os.Remove(path)
	if err := os.Symlink(filepath.Join(home, "elsewhere"), path); err != nil {
		t.Skip(err)
	}
	if _, err := Create(home); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("error %v", err)
	}
}

func TestConcurrentCreateMakesOne(t *testing.T) {
	home := t.TempDir()
	var wg sync.WaitGroup
	made := make([]*Identity, 8)
	for i := range made {
		wg.Go(func() { made[i], _ = Create(home) })
	}
	wg.Wait()
	loaded, err := Load(home)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, id := range made {
		if id != nil {
			n++
			if id.ID() != loaded.ID() {
				t.Error("the winner is not what is on disk")
			}
		}
	}
	if n != 1 {
		t.Fatalf("%d calls succeeded", n)
	}
}

func TestLoadRefuses(t *testing.T) {
	good := pemOf(t, Generate().Ed25519())
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "want one PEM block"},
		{"not PEM", []byte("hello"), "want one PEM block"},
		{"two keys", append(bytes.Clone(good), good...), "want one PEM block"},
		{"text after the key", append(bytes.Clone(good), "more"...), "want one PEM block"},
		{"public key", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1}}), "want one PEM block"},
		{"garbage inside", pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: []byte{1, 2}}), "not a PKCS #8"},
		{"another kind of key", pemOf(t, ec), "want an Ed25519 key"},
		{"too large", bytes.Repeat([]byte("a"), maxKeyFile+1), "larger than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			home := t.TempDir()
			if err := os.WriteFile(filepath.Join(home, FileName), c.file, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(home); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestLoadMissing(t *testing.T) {
	_, err := Load(t.TempDir())
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "liop id new") {
		t.Fatalf("error %v", err)
	}
}

func TestLoadRefusesOpenFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes on Windows")
	}
	for mode, ok := range map[fs.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o604: false, 0o620: false, 0o644: false} {
		home := t.TempDir()
		if _, err := Create(home); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(home, FileName)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(home)
		if ok && err != nil {
			t.Errorf("mode %o: %v", mode, err)
		}
		if !ok && (err == nil || !strings.Contains(err.Error(), "chmod 600 "+path)) {
			t.Errorf("mode %o: error %v", mode, err)
		}
	}
}

func TestLoadRefusesWhatIsNotAFile(t *testing.T) {
	home, other := t.TempDir(), t.TempDir()
	if _, err := Create(other); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, FileName)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(home); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("directory: error %v", err)
	}
	os.Remove(path)
	if err := os.Symlink(filepath.Join(other, FileName), path); err != nil {
		t.Skip(err)
	}
	if _, err := Load(home); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("link: error %v", err)
	}
}

func TestPrintingNeverShowsTheKey(t *testing.T) {
	id := Generate()
	key := id.Ed25519()
	secrets := []string{
		hex.EncodeToString(key[:8]), strings.ToUpper(hex.EncodeToString(key[:8])),
		strings.Trim(fmt.Sprint([]byte(key[:8])), "[]"), fmt.Sprintf("%#v", []byte(key[:8]))[7:40], string(key[:8]),
	}
	nested := struct {
		hidden Identity
		ptr    *Identity
	}{*id, id}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%o", "%T", "%p"} {
		fmt.Fprintf(&out, verb+"\n", id)
		fmt.Fprintf(&out, verb+"\n", *id)
		fmt.Fprintf(&out, verb+"\n", nested)
	}
	log := slog.New(slog.NewJSONHandler(&out, nil))
	log.Info("x", "id", id, "value", *id)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "id", id, "value", *id, "nested", nested)
	for _, s := range secrets {
		if strings.Contains(out.String(), s) {
			t.Fatalf("output contains the key:\n%s", out.String())
		}
	}
	if got := fmt.Sprint(id); got != id.ID().String() {
		t.Fatalf("prints %q", got)
	}
}

func TestCopiesAreTheCallers(t *testing.T) {
	id := Generate()
	clear(id.Ed25519())
	if pub, err := PublicKey(id.ID()); err != nil || !pub.Equal(id.Ed25519().Public()) {
		t.Fatal("a caller's copy is the identity's own key")
	}
	if _, err := FromKey(make(ed25519.PrivateKey, 3)); err == nil {
		t.Fatal("accepted a short key")
	}
}

func TestParseID(t *testing.T) {
	id := Generate().ID()
	rsa, _, err := crypto.GenerateKeyPair(crypto.RSA, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaID, err := peer.IDFromPrivateKey(rsa)
	if err != nil {
		t.Fatal(err)
	}
	secp, _, err := crypto.GenerateKeyPair(crypto.Secp256k1, 0)
	if err != nil {
		t.Fatal(err)
	}
	secpID, err := peer.IDFromPrivateKey(secp)
	if err != nil {
		t.Fatal(err)
	}
	// The same key in an identity hash whose protobuf has its fields swapped.
	pub, err := PublicKey(id)
	if err != nil {
		t.Fatal(err)
	}
	twin := peer.ID(append([]byte{0, 36, 0x12, 0x20}, append(bytes.Clone(pub), 0x08, 0x01)...))
	for _, c := range []struct {
		name, in string
		want     string // part of the error; "" = accepted
	}{
		{"base58", id.String(), ""},
		{"CID", peer.ToCid(id).String(), ""},
		{"empty", "", "empty peer id"},
		{"space", " " + id.String(), "is not a peer id"},
		{"words", "my-node", "is not a peer id"},
		{"cut", id.String()[:40], "is not a peer id"},
		{"long", strings.Repeat("1", 1<<20), "too long"},
		{"RSA", rsaID.String(), "does not contain a public key"},
		{"secp256k1", secpID.String(), "not of an Ed25519 key"},
		{"second encoding of a key", twin.String(), "not of an Ed25519 key"},
		{"empty multihash", "11", "does not contain a public key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseID(c.in)
			if c.want == "" {
				if err != nil || got != id {
					t.Fatalf("%v, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "12D3KooW") || len(err.Error()) > 300 {
				t.Fatalf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestReadIDFile(t *testing.T) {
	id := Generate().ID()
	for _, c := range []struct{ name, file, want string }{
		{"bare", id.String(), ""},
		{"commented", "# the hospital's node\n\n  " + id.String() + "  \r\n# end\n", ""},
		{"empty", "", "contains no peer id"},
		{"only comments", "# " + id.String() + "\n", "contains no peer id"},
		{"two", id.String() + "\n\n" + id.String() + "\n", ":3: a second line"},
		{"comment after the id", id.String() + " # mine\n", ":1: "},
		{"bad", "\nnonsense\n", ":2: "},
		{"large", id.String() + strings.Repeat("\n", MaxIDFile), "larger than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "node.id")
			if err := os.WriteFile(path, []byte(c.file), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := ReadIDFile(path)
			if c.want == "" {
				if err != nil || got != id {
					t.Fatalf("%v, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
		})
	}
	if _, err := ReadIDFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("missing file: %v", err)
	}
}

func pemOf(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
}

func FuzzParseID(f *testing.F) {
	f.Add("12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo")
	f.Add("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
	f.Add("bafzaajaiaejcbpltstyz2wpcpzwzmo3vpq5wlpyhrpzzt6yhxppd2zkwm7qqz4e2")
	f.Add("1")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			return
		}
		key, err := PublicKey(id)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := ID(key); err != nil || same != id {
			t.Fatalf("%q: id of its key is %v, %v", s, same, err)
		}
	})
}

func FuzzParsePEM(f *testing.F) {
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := parsePEM(b); err == nil {
			if _, err := FromKey(key); err != nil {
				t.Fatal(err)
			}
		}
	})
}
