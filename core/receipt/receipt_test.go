package receipt

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gowebpki/jcs"
	"pgregory.net/rapid"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
)

var b64 = base64.RawURLEncoding.EncodeToString

// failer is a *testing.T, B or F, or a *rapid.T.
type failer interface {
	Helper()
	Fatal(args ...any)
}

// who makes an identity whose key is the same in every run.
func who(t failer, name string) *identity.Identity {
	t.Helper()
	seed := sha256.Sum256([]byte("liop test key " + name))
	id, err := identity.FromKey(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func goodClaim(t failer) *Claim {
	return &Claim{
		V: Version, Assurance: Signed, Outcome: OK,
		Node: who(t, "node").ID(), Agent: who(t, "agent").ID(), Time: 1_800_000_000_123, Nonce: []byte("0123456789abcdef"),
		Module: sha256.Sum256([]byte("module")), Args: guest.ArgsHash([]string{"--by", "region"}), Stdin: sha256.Sum256(nil),
		Answer:      AnswerOf([]byte("answer")),
		Datasets:    []Dataset{{Name: "sales", Commitment: sha256.Sum256([]byte("sales")), Basis: Content, Files: 3, Bytes: 100 << 20}},
		Grant:       sha256.Sum256([]byte("grant")),
		Limits:      Limits{MemoryBytes: 64 << 20, WallMS: 5000, OutputBytes: 4096, InputBytes: 1 << 20, ModuleBytes: 4 << 20, Concurrency: 2},
		Containment: []string{"seccomp", "landlock:7", "rlimits", "no-new-privs"},
	}
}

func goodExpect(t testing.TB) Expect {
	c := goodClaim(t)
	return Expect{
		Node: c.Node, Agent: c.Agent, Module: c.Module, Args: []string{"--by", "region"}, Answer: []byte("answer"),
		Nonce: c.Nonce, Datasets: []string{"sales"}, Grant: c.Grant,
	}
}

func TestSignThenParse(t *testing.T) {
	c := goodClaim(t)
	c.Datasets = append(c.Datasets, Dataset{Name: "hr", Basis: Metadata})
	jws, err := Sign(who(t, "node").Ed25519(), c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(jws)
	if err != nil {
		t.Fatal(err)
	}
	if c.Datasets[0].Name != "sales" || c.Containment[0] != "seccomp" {
		t.Error("Sign sorted the caller's claim")
	}
	slices.Reverse(c.Datasets)
	slices.Sort(c.Containment)
	if fmt.Sprint(*got) != fmt.Sprint(*c) {
		t.Fatalf("got  %v\nwant %v", *got, *c)
	}
	if again, err := Sign(who(t, "node").Ed25519(), c); err != nil || again != jws {
		t.Error("the same claim has two receipts")
	}
}

func TestSize(t *testing.T) {
	c := goodClaim(t)
	jws, err := Sign(who(t, "node").Ed25519(), c)
	if err != nil || len(jws) > 1800 {
		t.Errorf("a common receipt has %d bytes, %v", len(jws), err)
	}
	t.Logf("a common receipt has %d bytes", len(jws))
	// Everything at its bound fits.
	c.Nonce = make([]byte, MaxNonce)
	c.Time, c.Answer.Bytes = MaxInt, MaxInt
	c.Limits = Limits{MaxInt & (1<<32 - 1), MaxInt, MaxInt, MaxInt, MaxInt, MaxInt, MaxInt}
	c.Fuel = MaxInt
	c.Datasets, c.Containment = nil, nil
	for i := range guest.MaxDatasets {
		name := fmt.Sprintf("%063d/%063d", i, i)
		c.Datasets = append(c.Datasets, Dataset{Name: name, Basis: Metadata, Files: MaxInt, Bytes: MaxInt})
	}
	for i := range MaxContainment {
		c.Containment = append(c.Containment, fmt.Sprintf("%0*d", MaxContained, i))
	}
	c.Gaps = c.Containment
	jws, err = Sign(who(t, "node").Ed25519(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the largest receipt has %d bytes", len(jws))
	if _, err := Parse(jws); err != nil {
		t.Fatal(err)
	}
}

func TestCanonicalBytes(t *testing.T) {
	c := goodClaim(t)
	c.Containment = nil
	got, err := c.canonical()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"agent":"` + c.Agent.String() + `","answer":{"bytes":6,"sha256":"` + fmt.Sprintf("%x", c.Answer.SHA256) + `"},"args":"` + c.Args.String() +
		`","assurance":"signed","containment":[],"datasets":[{"basis":"content","bytes":104857600,"commitment":"` + b64(c.Datasets[0].Commitment[:]) +
		`","files":3,"name":"sales"}],"fuel":0,"gaps":[],"grant":"` + c.Grant.String() +
		`","limits":{"concurrency":2,"fuel":0,"input_bytes":1048576,"memory_bytes":67108864,"module_bytes":4194304,"output_bytes":4096,"wall_ms":5000},"module":"` +
		c.Module.String() + `","node":"` + c.Node.String() + `","nonce":"MDEyMzQ1Njc4OWFiY2RlZg","outcome":"ok","stdin":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","time":1800000000123,"v":1}`
	if string(got) != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

// canonical relies on the order of struct members and on what validate lets
// through; the library for RFC 8785 relies on neither.
func TestCanonicalIsRFC8785(t *testing.T) {
	number := rapid.Uint64Range(1, MaxInt)
	digest := rapid.Custom(func(t *rapid.T) (d [32]byte) {
		copy(d[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "digest"))
		return d
	})
	rapid.Check(t, func(t *rapid.T) {
		n := func() uint64 { return number.Draw(t, "n") }
		c := goodClaim(t)
		c.Time, c.Nonce = int64(n()), rapid.SliceOfN(rapid.Byte(), MinNonce, MaxNonce).Draw(t, "nonce")
		c.Module, c.Answer.SHA256 = digest.Draw(t, "module"), digest.Draw(t, "answer")
		c.Limits = Limits{uint32(n())%1000 + 1, n(), n(), n(), n(), n(), n()}
		c.Fuel = c.Limits.Fuel
		c.Answer.Bytes = c.Limits.OutputBytes
		c.Gaps = rapid.SliceOfNDistinct(rapid.StringMatching("[a-z0-9:._-]{1,32}"), 0, MaxContainment, rapid.ID).Draw(t, "gaps")
		c.Containment = rapid.SliceOfNDistinct(rapid.StringMatching("[a-z0-9:._-]{1,32}"), 0, MaxContainment, rapid.ID).Draw(t, "containment")
		c.Datasets = nil
		for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching("[a-z0-9][a-z0-9._-]{0,62}"), 1, guest.MaxDatasets, rapid.ID).Draw(t, "names") {
			c.Datasets = append(c.Datasets, Dataset{Name: name, Basis: Metadata, Files: n(), Bytes: n(), Commitment: digest.Draw(t, "commitment")})
		}
		if err := c.validate(); err != nil {
			t.Fatal(err)
		}
		got, err := c.canonical()
		if err != nil {
			t.Fatal(err)
		}
		want, err := jcs.Transform(got)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

func TestSignRefuses(t *testing.T) {
	for _, c := range []struct {
		member string
		spoil  func(*Claim)
	}{
		{"v", func(c *Claim) { c.V = 0 }},
		{"assurance", func(c *Claim) { c.Assurance = "" }},
		{"assurance", func(c *Claim) { c.Assurance = "proved" }},
		{"outcome", func(c *Claim) { c.Outcome = "failed" }},
		{"node", func(c *Claim) { c.Node = "" }},
		{"node", func(c *Claim) { c.Node = c.Agent }},
		{"agent", func(c *Claim) { c.Agent = "x" }},
		{"time", func(c *Claim) { c.Time = 0 }},
		{"time", func(c *Claim) { c.Time = MaxInt + 1 }},
		{"nonce", func(c *Claim) { c.Nonce = make([]byte, MinNonce-1) }},
		{"nonce", func(c *Claim) { c.Nonce = make([]byte, MaxNonce+1) }},
		{"answer", func(c *Claim) { c.Answer.Bytes = MaxInt + 1 }},
		{"answer", func(c *Claim) { c.Answer.Bytes = c.Limits.OutputBytes + 1 }},
		{"limits", func(c *Claim) { c.Limits.WallMS = 0 }},
		{"limits", func(c *Claim) { c.Limits.MemoryBytes = MaxInt + 1 }},
		{"datasets", func(c *Claim) { c.Datasets = nil }},
		{"datasets", func(c *Claim) { c.Datasets[0].Name = "../etc" }},
		{"datasets", func(c *Claim) { c.Datasets[0].Basis = "" }},
		{"datasets", func(c *Claim) { c.Datasets[0].Bytes = MaxInt + 1 }},
		{"datasets", func(c *Claim) { c.Datasets = append(c.Datasets, c.Datasets[0]) }},
		{"datasets", func(c *Claim) { c.Datasets = make([]Dataset, guest.MaxDatasets+1) }},
		{"fuel", func(c *Claim) { c.Fuel = 1 }},
		{"limits", func(c *Claim) { c.Limits.Fuel = MaxInt + 1 }},
		{"gaps", func(c *Claim) { c.Gaps = []string{"a b"} }},
		{"containment", func(c *Claim) { c.Containment = []string{""} }},
		{"containment", func(c *Claim) { c.Containment = []string{"a b"} }},
		{"containment", func(c *Claim) { c.Containment = []string{"a", "a"} }},
		{"containment", func(c *Claim) { c.Containment = []string{strings.Repeat("a", MaxContained+1)} }},
		{"containment", func(c *Claim) { c.Containment = make([]string, MaxContainment+1) }},
	} {
		claim := goodClaim(t)
		c.spoil(claim)
		if _, err := Sign(who(t, "node").Ed25519(), claim); err == nil || !strings.HasPrefix(err.Error(), "sign receipt: "+c.member+": ") {
			t.Errorf("%s: error %v", c.member, err)
		}
	}
	if _, err := Sign(who(t, "agent").Ed25519(), goodClaim(t)); err == nil {
		t.Error("signed with the key of another")
	}
	if _, err := Sign(nil, goodClaim(t)); err == nil {
		t.Error("signed without a key")
	}
}

func TestCheck(t *testing.T) {
	c := goodClaim(t)
	if err := c.Check(goodExpect(t)); err != nil {
		t.Fatal(err)
	}
	for _, m := range []struct {
		rule  string
		field Fields
		spoil func(*Expect)
	}{
		{"node", FieldNode, func(e *Expect) { e.Node = e.Agent }},
		{"agent", FieldAgent, func(e *Expect) { e.Agent = "" }},
		{"nonce", FieldNonce, func(e *Expect) { e.Nonce = nil }},
		{"module", FieldModule, func(e *Expect) { e.Module[31] ^= 1 }},
		{"args", FieldArgs, func(e *Expect) { e.Args = []string{"--byregion"} }},
		{"stdin", FieldStdin, func(e *Expect) { e.Stdin = []byte("1:k,1:v,") }},
		{"datasets", FieldDatasets, func(e *Expect) { e.Datasets = []string{"sales", "hr"} }},
		{"datasets", FieldDatasets, func(e *Expect) { e.Datasets = nil }},
		{"grant", FieldGrant, func(e *Expect) { e.Grant = [32]byte{} }},
		{"answer", FieldAnswer, func(e *Expect) { e.Answer = []byte("answer\n") }},
		{"answer", FieldAnswer, func(e *Expect) { e.Answer = nil }},
	} {
		e := goodExpect(t)
		m.spoil(&e)
		f, ok := fault.From(c.Check(e))
		if !ok || f.Code != fault.Unverified || f.Rule != m.rule {
			t.Errorf("%s: error %+v", m.rule, f)
		}
		e.Skip = m.field
		if err := c.Check(e); err != nil {
			t.Errorf("%s skipped: %v", m.rule, err)
		}
	}
	if err := c.Check(Expect{}); err == nil {
		t.Error("a receipt passes without anything to compare")
	}
	if err := c.Check(Expect{Skip: AllFields}); err != nil {
		t.Errorf("all skipped: %v", err)
	}
	twice := goodExpect(t)
	twice.Datasets = []string{"sales", "sales"}
	if err := c.Check(twice); err == nil {
		t.Error("a dataset counts twice")
	}
}

func TestWords(t *testing.T) {
	c := goodClaim(t)
	c.Datasets = append(c.Datasets, Dataset{Name: "hr", Basis: Metadata, Files: 1234})
	text := strings.Join(c.Words(), "\n")
	for _, want := range []string{
		c.Node.String(), c.Agent.String(), c.Module.String(), c.Grant.String(), "2027-01-15 08:00:00.123 UTC",
		"with arguments of hash sha256:", "without inputs", "on dataset sales: 3 files, 100 MiB", "to its contents",
		"on dataset hr: 1,234 files", "file names, sizes and times only", "the answer has 6 bytes", "memory 64 MiB, time 5,000 ms",
		"and landlock:7, no-new-privs, rlimits, seccomp", "the node's word, not a proof of execution", "does not prove that the module ran",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
	c.Containment, c.Args, c.Stdin = nil, guest.ArgsHash(nil), sha256.Sum256([]byte("1:k,1:v,"))
	text = strings.Join(c.Words(), "\n")
	for _, want := range []string{"the WebAssembly engine only", "without arguments", "with inputs of hash sha256:"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	key, c := who(b, "node").Ed25519(), goodClaim(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Sign(key, c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify is what an agent does for each answer: Parse and Check.
func BenchmarkVerify(b *testing.B) {
	jws, err := Sign(who(b, "node").Ed25519(), goodClaim(b))
	if err != nil {
		b.Fatal(err)
	}
	e := goodExpect(b)
	b.ReportAllocs()
	for b.Loop() {
		c, err := Parse(jws)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Check(e); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBareEd25519 is the floor under the two above: the same bytes, the
// signature only.
func BenchmarkBareEd25519(b *testing.B) {
	key := who(b, "node").Ed25519()
	jws, err := Sign(key, goodClaim(b))
	if err != nil {
		b.Fatal(err)
	}
	message := []byte(jws[:strings.LastIndexByte(jws, '.')])
	sig := ed25519.Sign(key, message)
	b.Run("sign", func(b *testing.B) {
		for b.Loop() {
			ed25519.Sign(key, message)
		}
	})
	b.Run("verify", func(b *testing.B) {
		pub := key.Public().(ed25519.PublicKey)
		for b.Loop() {
			if !ed25519.Verify(pub, message, sig) {
				b.Fatal("not verified")
			}
		}
	})
}
