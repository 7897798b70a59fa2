package spec

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/member"
	"github.com/liop-project/liop/core/receipt"
)

// The vectors' format: see SPEC §9. Members of type []byte are base64 with
// padding (RFC 4648 §4), as encoding/json writes them.

type file[C any] struct {
	About string `json:"about"`
	Cases []C    `json:"cases"`
}

// refusal is what a bad case must be refused with.
type refusal struct {
	Code fault.Code `json:"code"`
	Rule string     `json:"rule"`
}

type keyCase struct {
	Name   string `json:"name"`
	Seed   string `json:"seed_hex"`
	Public string `json:"public_hex"`
	PeerID string `json:"peer_id"`
}

type stdinCase struct {
	Name   string            `json:"name"`
	Inputs map[string][]byte `json:"inputs_base64,omitempty"`
	Stdin  []byte            `json:"stdin_base64"`
	SHA256 string            `json:"sha256,omitempty"`
	Error  *refusal          `json:"error,omitempty"` // of a reader of Stdin
}

type argsCase struct {
	Name   string   `json:"name"`
	Args   []string `json:"args"`
	SHA256 string   `json:"sha256,omitempty"`
	Error  *refusal `json:"error,omitempty"`
}

type datasetCase struct {
	Names []string `json:"datasets"`
	Error *refusal `json:"error,omitempty"`
}

type intentCase struct {
	Name      string   `json:"name"`
	Node      string   `json:"node"`
	Agent     string   `json:"agent"`
	GrantHash string   `json:"grant_sha256_hex"`
	Datasets  []string `json:"datasets"`
	Signed    []byte   `json:"signed_base64"`
	Signature []byte   `json:"signature_base64"`
	Error     *refusal `json:"error,omitempty"`
}

type grantCase struct {
	Name      string        `json:"name"`
	Chain     string        `json:"chain"`
	Presenter string        `json:"presenter"`
	Audiences []string      `json:"audiences"`
	Trusted   []string      `json:"trusted_issuers"`
	Now       int64         `json:"now"` // seconds since 1970
	Grant     *grantDecoded `json:"grant,omitempty"`
	Error     *refusal      `json:"error,omitempty"`
}

type grantDecoded struct {
	ID       string       `json:"jti"`
	Issuer   string       `json:"iss"`
	Holder   string       `json:"sub"`
	Audience string       `json:"aud"`
	IssuedAt int64        `json:"iat"`
	Expires  int64        `json:"exp"`
	Datasets []string     `json:"datasets"`
	Limits   grant.Limits `json:"limits"`
	SHA256   string       `json:"sha256_hex"`
	Covers   []string     `json:"covers"`
	Not      []string     `json:"does_not_cover"`
}

type receiptCase struct {
	Name    string          `json:"name"`
	Receipt string          `json:"receipt"`
	Claim   json.RawMessage `json:"claim,omitempty"`
	Expect  *expectation    `json:"expect,omitempty"`
	Error   *refusal        `json:"error,omitempty"`
}

type expectation struct {
	Node      string   `json:"node"`
	Agent     string   `json:"agent"`
	Module    []byte   `json:"module_base64"`
	Args      []string `json:"args"`
	Stdin     []byte   `json:"stdin_base64"`
	Answer    []byte   `json:"answer_base64"`
	Nonce     []byte   `json:"nonce_base64"`
	Datasets  []string `json:"datasets"`
	GrantHash string   `json:"grant_sha256_hex"`
}

type memberCase struct {
	Name      string         `json:"name"`
	Token     string         `json:"token"`
	Presenter string         `json:"presenter"`
	Mesh      string         `json:"mesh"`
	Operators []string       `json:"operators"`
	Now       int64          `json:"now"` // seconds since 1970
	Member    *memberDecoded `json:"member,omitempty"`
	Error     *refusal       `json:"error,omitempty"`
}

type memberDecoded struct {
	ID       string   `json:"jti"`
	Operator string   `json:"iss"`
	Member   string   `json:"sub"`
	Mesh     string   `json:"aud"`
	IssuedAt int64    `json:"iat"`
	Expires  int64    `json:"exp"`
	Serves   []string `json:"serves,omitempty"`
	Vouches  []string `json:"vouches,omitempty"`
	Not      []string `json:"does_not_vouch,omitempty"`
}

// made is everything that the vectors are made of: the good values, and what
// spoils them.
type made struct {
	issuer, agent, node, stranger, operator *identity.Identity
	chain                                   string
	claim                                   *receipt.Claim
	receipt                                 string
	member                                  string // the node's membership token
}

const (
	began = 1_800_000_000 // 2027-01-15T08:00:00Z
	realm = "clinic.north"
	mesh  = "acme"
)

func seed(name string) []byte {
	s := sha256.Sum256([]byte("liop test key " + name))
	return s[:]
}

func who(t *testing.T, name string) *identity.Identity {
	t.Helper()
	id, err := identity.FromKey(ed25519.NewKeyFromSeed(seed(name)))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newMade(t *testing.T) *made {
	t.Helper()
	m := &made{issuer: who(t, "issuer"), agent: who(t, "agent"), node: who(t, "node"), stranger: who(t, "stranger"), operator: who(t, "operator")}
	var err error
	m.chain, err = grant.Issue(m.issuer.Ed25519(), grant.Spec{
		Holder: m.agent.ID(), Audience: m.node.ID().String(), Datasets: []string{"hr", "sales/*"},
		Limits: grant.Limits{MemoryBytes: 64 << 20, WallMS: 5000, OutputBytes: 4096, Concurrency: 2, Runs: 100},
		Rand:   strings.NewReader("0123456789abcdef"),
	}, time.Unix(began, 0))
	if err != nil {
		t.Fatal(err)
	}
	m.claim = &receipt.Claim{
		V: receipt.Version, Assurance: receipt.Signed, Outcome: receipt.OK,
		Node: m.node.ID(), Agent: m.agent.ID(), Time: began*1000 + 123, Nonce: []byte("0123456789abcdef"),
		Module: sha256.Sum256([]byte("\x00asm\x01\x00\x00\x00")), Args: guest.ArgsHash([]string{"--by", "region"}),
		Stdin: sha256.Sum256([]byte("1:k,5:value,")), Answer: receipt.AnswerOf([]byte("answer")),
		Datasets: []receipt.Dataset{
			{Name: "hr", Commitment: sha256.Sum256([]byte("hr")), Basis: receipt.Metadata, Files: 2, Bytes: 1000},
			{Name: "sales/2026", Commitment: sha256.Sum256([]byte("sales")), Basis: receipt.Content, Files: 3, Bytes: 100 << 20},
		},
		Grant:       sha256.Sum256([]byte(m.chain)),
		Limits:      receipt.Limits{MemoryBytes: 64 << 20, WallMS: 5000, OutputBytes: 4096, InputBytes: 1 << 20, ModuleBytes: 8 << 20, Concurrency: 2},
		Containment: []string{"landlock:7", "no-new-privs", "rlimits", "seccomp"},
		Gaps:        []string{"cgroup"},
	}
	m.receipt, err = receipt.Sign(m.node.Ed25519(), m.claim)
	if err != nil {
		t.Fatal(err)
	}
	m.member, err = member.Issue(m.operator.Ed25519(), member.Spec{
		Member: m.node.ID(), Mesh: mesh, Serves: []string{"hr", "acme/*"}, Rand: strings.NewReader("0123456789abcdef"),
	}, time.Unix(began, 0))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// vectors makes all files by name.
func vectors(t *testing.T) map[string]any {
	m := newMade(t)
	return map[string]any{
		"keys.json": file[keyCase]{"Ed25519 keys of the other files. seed = SHA-256(\"liop test key \" + name). Never use them.", m.keys(t)},
		"stdin.json": file[stdinCase]{
			"SPEC §5.2: inputs as bytes on stdin. A case with error is one that a reader of stdin refuses.", stdinCases()},
		"args.json":     file[argsCase]{"SPEC §5.2: arguments and their hash in a receipt.", argsCases()},
		"datasets.json": file[datasetCase]{"SPEC §5.3: the datasets of an intent.", datasetCases()},
		"intent.json":   file[intentCase]{"SPEC §4.1: what an agent signs to open a session.", m.intents()},
		"grant.json":    file[grantCase]{"SPEC §4.2: grants, who presents them, and what the node says.", m.grants(t)},
		"name.json":     file[nameCase]{"SPEC §10.2: names and the CID under which they are announced.", nameCases()},
		"catalog.json":  file[catalogCase]{"SPEC §10.3: catalog records, the key that they are under, and the reader's time.", m.catalogs(t)},
		"member.json":   file[memberCase]{"SPEC §8: membership tokens, who presents them to a member of which mesh, and what that says.", m.members(t)},
		"receipt.json":  file[receiptCase]{"SPEC §6: receipts, and what the agent compares them with.", m.receipts(t)},
	}
}

func (m *made) keys(t *testing.T) (out []keyCase) {
	for _, name := range []string{"issuer", "agent", "node", "stranger", "operator"} {
		id := who(t, name)
		out = append(out, keyCase{name, hex.EncodeToString(seed(name)), hex.EncodeToString(id.Ed25519().Public().(ed25519.PublicKey)), id.ID().String()})
	}
	return out
}

func stdinCases() []stdinCase {
	var out []stdinCase
	for _, c := range []struct {
		name   string
		inputs map[string][]byte
	}{
		{"no inputs", nil},
		{"one", map[string][]byte{"k": []byte("value")}},
		{"empty value", map[string][]byte{"k": {}}},
		{"bytewise order of UTF-8 names", map[string][]byte{"b": []byte("2"), "a": []byte("1"), "B": []byte("0"), "aa": []byte("4"), "é": []byte("3"), "𝄞": []byte("5"), "\uffee": []byte("6")}},
		{"value that looks like framing", map[string][]byte{"k": []byte("1:x,\x00\n")}},
		{"longest name", map[string][]byte{strings.Repeat("n", guest.MaxInputName): []byte("x")}},
	} {
		b := guest.Stdin(c.inputs)
		out = append(out, stdinCase{Name: c.name, Inputs: c.inputs, Stdin: append([]byte{}, b...), SHA256: hash(b)})
	}
	for _, c := range []struct{ name, stdin string }{
		{"names descend", "1:b,0:,1:a,0:,"},
		{"name twice", "1:a,0:,1:a,0:,"},
		{"empty name", "0:,1:a,"},
		{"name without value", "1:a,"},
		{"leading zero", "01:a,0:,"},
		{"no comma", "1:a"},
		{"length beyond the end", "5:a,0:,"},
		{"trailing bytes", "1:a,0:,\n"},
		{"name not UTF-8", "1:\xff,0:,"},
		{"name too long", fmt.Sprintf("%d:%s,0:,", guest.MaxInputName+1, strings.Repeat("n", guest.MaxInputName+1))},
	} {
		out = append(out, stdinCase{Name: c.name, Stdin: []byte(c.stdin), Error: &refusal{fault.InvalidRequest, "stdin"}})
	}
	return out
}

func argsCases() []argsCase {
	var out []argsCase
	for _, c := range []struct {
		name string
		args []string
	}{
		{"none", []string{}}, {"one empty", []string{""}}, {"two", []string{"--by", "region"}},
		{"another split of the same text", []string{"--byregion"}}, {"UTF-8", []string{"región", "日本"}},
	} {
		h := guest.ArgsHash(c.args)
		out = append(out, argsCase{Name: c.name, Args: c.args, SHA256: receipt.Digest(h).String()})
	}
	bad := &refusal{fault.InvalidRequest, "args"}
	return append(out,
		argsCase{Name: "NUL", Args: []string{"a\x00b"}, Error: bad},
		argsCase{Name: "too many", Args: make([]string, guest.MaxArgs+1), Error: bad},
	)
}

func datasetCases() []datasetCase {
	out := []datasetCase{{Names: []string{"sales"}}, {Names: []string{"sales/2026", "hr", "0.a_b-c"}}}
	for _, bad := range [][]string{
		{}, {""}, {"Sales"}, {"a/b/c"}, {"a//b"}, {"/a"}, {"a/"}, {".."}, {"a/.b"}, {"-a"}, {"sales/*"}, {"a b"}, {"é"},
		{strings.Repeat("a", 64)}, {"a", "a"}, strings.Split("a b c d e f g h i j k l m n o p q", " "),
	} {
		out = append(out, datasetCase{Names: bad, Error: &refusal{fault.InvalidRequest, "datasets"}})
	}
	return out
}

func (m *made) intents() []intentCase {
	hash := sha256.Sum256([]byte(m.chain))
	datasets := []string{"sales/2026", "hr"}
	good := intentCase{
		Node: m.node.ID().String(), Agent: m.agent.ID().String(), GrantHash: hex.EncodeToString(hash[:]), Datasets: datasets,
		Signed:    grant.IntentBytes(m.node.ID(), m.agent.ID(), hash, datasets),
		Signature: grant.SignIntent(m.agent.Ed25519(), m.node.ID(), m.agent.ID(), hash, datasets),
	}
	out := []intentCase{}
	add := func(name string, bad bool, change func(c *intentCase)) {
		c := good
		c.Name = name
		change(&c)
		if bad {
			c.Error = &refusal{fault.InvalidRequest, "proof_of_intent"}
		}
		// What the verifier computes from the request, not what was signed.
		node, _ := peer.Decode(c.Node)
		agent, _ := peer.Decode(c.Agent)
		var h [32]byte
		hex.Decode(h[:], []byte(c.GrantHash))
		c.Signed = grant.IntentBytes(node, agent, h, c.Datasets)
		out = append(out, c)
	}
	add("good", false, func(*intentCase) {})
	add("for another node", true, func(c *intentCase) { c.Node = m.stranger.ID().String() })
	add("of another agent", true, func(c *intentCase) { c.Agent = m.stranger.ID().String() })
	add("other order of datasets", true, func(c *intentCase) { c.Datasets = []string{"hr", "sales/2026"} })
	add("other grant", true, func(c *intentCase) { c.GrantHash = strings.Repeat("0", 64) })
	add("no signature", true, func(c *intentCase) { c.Signature = []byte{} })
	return out
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func hash(b []byte) string { return receipt.Digest(sha256.Sum256(b)).String() }

// forge signs whatever bytes it is given.
func forge(id *identity.Identity, header, payload string) string {
	signed := b64(header) + "." + b64(payload)
	return signed + "." + b64(string(ed25519.Sign(id.Ed25519(), []byte(signed))))
}

// payloadOf is the middle part of a compact JWS, decoded.
func payloadOf(t *testing.T, jws string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(jws, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// second is jws with another last character that most decoders read as the
// same signature.
func second(jws string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	n := len(jws) - 1
	return jws[:n] + string(alphabet[strings.IndexByte(alphabet, jws[n])+1])
}
