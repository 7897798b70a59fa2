package kad

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-base32"
)

// What a node keeps for others is there after a restart, and is served.
func TestRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kad")
	keeper := newKey(t)
	k := startKey(t, keeper, quic, Config{Server: true, Dir: dir})
	owner := start(t, quic, server(), k)
	value := sign(t, owner.key, 1, "catalog")
	ready(t, owner)
	if err := owner.Publish(t.Context(), value); err != nil {
		t.Fatal(err)
	}
	if err := owner.Announce([]string{"sales"}); err != nil {
		t.Fatal(err)
	}
	keeps(t, k, "sales", owner.id())
	reads(t, k, owner.id(), value)
	if err := k.DHT.Close(); err != nil {
		t.Fatal(err)
	}
	k.mesh.Close()
	owner.stop() // so that only the disk knows

	k = startKey(t, keeper, quic, Config{Server: true, Dir: dir})
	agent := start(t, "", Config{}, k)
	ready(t, agent)
	reads(t, agent, owner.id(), value)
	keeps(t, k, "sales", owner.id())
}

// keeps waits until k itself has the record that who has name.
func keeps(t *testing.T, k *member, name string, who peer.ID) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		infos, err := k.dht.ProviderStore().GetProviders(ctx, NameKey(name).Hash())
		if err != nil || len(infos) != 1 || infos[0].ID != who {
			return fmt.Errorf("provider records of %s: %v, %v", name, infos, err)
		}
		return nil
	})
}

// A process that is killed has not closed its store.
func TestStoreKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kad")
	s := testStore(t, dir, Tuning{}, nil)
	key := valuePlace(testID(t))
	if err := s.Put(t.Context(), key, []byte("value")); err != nil {
		t.Fatal(err)
	}
	// What the disk has at this moment is what the next process finds.
	killed := filepath.Join(t.TempDir(), "kad")
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s = testStore(t, killed, Tuning{}, nil)
	if v, err := s.Get(t.Context(), key); err != nil || string(v) != "value" {
		t.Errorf("after the kill: %q, %v", v, err)
	}
	if s.held.values != 1 {
		t.Errorf("%d values counted, want 1", s.held.values)
	}

	// The last write may be torn.
	logs, err := filepath.Glob(filepath.Join(killed, "*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	torn := filepath.Join(t.TempDir(), "kad")
	if err := os.CopyFS(torn, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	logs, err = filepath.Glob(filepath.Join(torn, "*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	info, err := os.Stat(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(logs[0], info.Size()-3); err != nil {
		t.Fatal(err)
	}
	s = testStore(t, torn, Tuning{}, nil)
	if _, err := s.Get(t.Context(), key); !errors.Is(err, datastore.ErrNotFound) {
		t.Errorf("a torn write is read: %v", err)
	}
	if err := s.Put(t.Context(), key, []byte("again")); err != nil {
		t.Error(err)
	}
}

// Whatever is in the folder, the node starts.
func TestStoreDamaged(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"noise": func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte("noise"), 1000), 0o600) },
		"empty": func(path string) error { return os.Truncate(path, 0) },
		"gone":  os.Remove,
		"folder": func(path string) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		},
	} {
		dir := filepath.Join(t.TempDir(), "kad")
		s := testStore(t, dir, Tuning{}, nil)
		for range 10 {
			if err := s.Put(t.Context(), valuePlace(testID(t)), bytes.Repeat([]byte("x"), MaxValueBytes)); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if filepath.Base(f) == "LOCK" {
				continue
			}
			t.Run(name+" "+filepath.Base(f), func(t *testing.T) {
				damaged := filepath.Join(t.TempDir(), "kad")
				if err := os.CopyFS(damaged, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				if err := damage(filepath.Join(damaged, filepath.Base(f))); err != nil {
					t.Fatal(err)
				}
				var log bytes.Buffer
				s := testStore(t, damaged, Tuning{}, slog.New(slog.NewTextHandler(&log, nil)))
				key := valuePlace(testID(t))
				if err := s.Put(t.Context(), key, []byte("new")); err != nil {
					t.Fatal(err)
				}
				if v, err := s.Get(t.Context(), key); err != nil || string(v) != "new" {
					t.Errorf("read %q, %v", v, err)
				}
				if _, err := os.Stat(damaged + ".damaged"); (err == nil) != strings.Contains(log.String(), "kad.store_damaged") {
					t.Errorf("set aside: %v; logged: %s", err, &log)
				}
			})
		}
	}
}

// A disk that fails while the node runs does not stop it.
func TestStoreFails(t *testing.T) {
	var log bytes.Buffer
	s := testStore(t, filepath.Join(t.TempDir(), "kad"), Tuning{}, slog.New(slog.NewTextHandler(&log, nil)))
	key := valuePlace(testID(t))
	s.inner.Close() // all it does from now on are errors
	if _, err := s.Get(t.Context(), key); !errors.Is(err, datastore.ErrNotFound) {
		t.Errorf("read: %v", err)
	}
	if err := s.Put(t.Context(), key, []byte("value")); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get(t.Context(), key); err != nil || string(v) != "value" {
		t.Errorf("read %q, %v", v, err)
	}
	if !strings.Contains(log.String(), "kad.store_failed") {
		t.Errorf("logged %q", &log)
	}
}

func TestStoreBounds(t *testing.T) {
	self, alice, bob := testID(t), testID(t), testID(t)
	s, err := openStore("", self, Tuning{MaxValues: 2, MaxProviders: MaxNamesPerPeer + 10}.WithDefaults(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(k datastore.Key) error { return s.Put(t.Context(), k, []byte("x")) }
	want := func(what string, got, want error) {
		t.Helper()
		if !errors.Is(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	want("first value", put(valuePlace(alice)), nil)
	want("second value", put(valuePlace(bob)), nil)
	want("second value again", put(valuePlace(bob)), nil)
	want("third value", put(valuePlace(testID(t))), errFull)
	want("own value", put(valuePlace(self)), nil)
	want("delete", s.Delete(t.Context(), valuePlace(alice)), nil)
	want("delete what is gone", s.Delete(t.Context(), valuePlace(alice)), nil)
	want("value after the delete", put(valuePlace(alice)), nil)
	want("another kind of record", put(datastore.NewKey("/other/key")), errFull)

	b, err := s.Batch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range MaxNamesPerPeer + 100 {
		b.Put(t.Context(), providerPlace(fmt.Sprint(i), alice), []byte("x"))
	}
	want("more names of one peer than it may have", b.Commit(t.Context()), nil)
	if s.held.providers != MaxNamesPerPeer {
		t.Errorf("%d names of one peer are kept, want %d", s.held.providers, MaxNamesPerPeer)
	}
	for i := range 20 {
		if err := put(providerPlace("name", testID(t))); (err == nil) != (i < 10) {
			t.Errorf("record %d of others: %v", i, err)
		}
	}
	want("own name", put(providerPlace("own", self)), nil)
	if len(s.held.byPeer) != 11 || s.held.byName["name"] != 0 && len(s.held.byName) == 0 {
		t.Errorf("counts: %d peers", len(s.held.byPeer))
	}
	want("close", s.Close(), nil)
	want("after close", put(valuePlace(bob)), errClosed)
}

func TestStoreNamesBound(t *testing.T) {
	s := testStore(t, "", Tuning{}, nil)
	b, err := s.Batch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range maxPeersPerName + 10 {
		b.Put(t.Context(), providerPlace("name", testID(t)), []byte("x"))
	}
	if err := b.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.held.providers != maxPeersPerName {
		t.Errorf("%d peers have one name, want %d", s.held.providers, maxPeersPerName)
	}
}

func testStore(t *testing.T, dir string, tuning Tuning, log *slog.Logger) *store {
	t.Helper()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s, err := openStore(dir, testID(t), tuning.WithDefaults(), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func testID(t testing.TB) peer.ID {
	t.Helper()
	id, err := peer.IDFromPrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func b32(s string) string { return base32.RawStdEncoding.EncodeToString([]byte(s)) }

func valuePlace(p peer.ID) datastore.Key { return datastore.NewKey("/liop/" + b32(ValueKey(p))) }

func providerPlace(name string, p peer.ID) datastore.Key {
	return datastore.NewKey(records.ProvidersKeyPrefix + b32(string(NameKey(name).Hash())) + "/" + b32(string(p)))
}
