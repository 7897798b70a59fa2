package spec

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/dustin/go-humanize"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/member"
	"github.com/liop-project/liop/core/receipt"
)

func readSpec(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestErrorTable compares §7 with package fault: every code, its gRPC status,
// and no others.
func TestErrorTable(t *testing.T) {
	_, section, ok := strings.Cut(readSpec(t), "\n## 7. Errors")
	section, _, end := strings.Cut(section, "\n## 8.")
	if !ok || !end {
		t.Fatal("no section 7, or none after it")
	}
	inSpec := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\S+) \\|").FindAllStringSubmatch(section, -1) {
		if m[2] != "–" || m[1] != string(fault.Unverified) { // keys.json etc. of §9 do not match the pattern
			inSpec[m[1]] = m[2]
		} else {
			inSpec[m[1]] = "Unknown" // never on the wire
		}
	}
	codes := faultCodes(t)
	for _, c := range codes {
		e := &fault.Error{Code: c, Message: "x"}
		if got := e.GRPCStatus().Code().String(); inSpec[string(c)] != got {
			t.Errorf("%s: SPEC.md says %q, the code %q", c, inSpec[string(c)], got)
		}
	}
	if len(inSpec) != len(codes) {
		t.Errorf("SPEC.md lists %d codes, package fault has %d", len(inSpec), len(codes))
	}
}

// faultCodes reads the constants of type Code from the source, so that none can
// be forgotten.
func faultCodes(t *testing.T) (codes []fault.Code) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "fault", "fault.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "Code" {
			s, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			codes = append(codes, fault.Code(s))
		}
		return true
	})
	if len(codes) == 0 {
		t.Fatal("no codes found in package fault")
	}
	return codes
}

// TestNumbers finds the constants of the code in the sentences that state them.
func TestNumbers(t *testing.T) {
	text := readSpec(t)
	comma := func(n int64) string { return humanize.Comma(n) }
	for _, want := range []string{
		fmt.Sprintf("| `args` | %d |", guest.MaxArgs),
		fmt.Sprintf("| all of `args` together | %s bytes |", comma(guest.MaxArgBytes)),
		fmt.Sprintf("| `inputs` | %d |", guest.MaxInputs),
		fmt.Sprintf("| a name in `inputs` | %d bytes |", guest.MaxInputName),
		fmt.Sprintf("`datasets`: 1 to %d names", guest.MaxDatasets),
		fmt.Sprintf("joined by `/`, at most %d bytes", guest.MaxDatasetName),
		fmt.Sprintf("joined by `.`, at most %s bytes", comma(grant.MaxChain)),
		fmt.Sprintf("1 to %d patterns", grant.MaxPatterns),
		fmt.Sprintf("1 to %d of `a`–`z` `0`–`9` `.` `_` `-`, beginning", grant.MaxAudience),
		fmt.Sprintf("1 to %d of `A`–`Z`", grant.MaxID),
		fmt.Sprintf("at most %s s after it", comma(int64(grant.MaxLifetime.Seconds()))),
		fmt.Sprintf("not more than %.0f s in the future", grant.Skew.Seconds()),
		fmt.Sprintf("compact serialization, at most %s bytes", comma(receipt.MaxReceipt)),
		fmt.Sprintf("A membership token is a JWS in compact serialization, at most %s bytes", comma(member.MaxToken)),
		fmt.Sprintf("after `iat`, and at most %s s after it", comma(int64(member.MaxLifetime.Seconds()))),
		fmt.Sprintf("a list of 1 to %d patterns (§4.2), ascending", member.MaxServes),
		fmt.Sprintf("the session's 1 to %d datasets", guest.MaxDatasets),
		fmt.Sprintf("base64url, %d to %d bytes", receipt.MinNonce, receipt.MaxNonce),
		fmt.Sprintf("`nonce` is %d to %d random bytes", receipt.MinNonce, receipt.MaxNonce),
		fmt.Sprintf("%d to %s ms, or 0 if it has none", fault.MinRetryAfter.Milliseconds(), comma(fault.MaxRetryAfter.Milliseconds())),
		fmt.Sprintf("%d ms times a power of two, cut to %s ms", fault.MinRetryAfter.Milliseconds(), comma(fault.MaxRetryAfter.Milliseconds())),
		fmt.Sprintf("at most %d, each 1 to %d of", receipt.MaxContainment, receipt.MaxContained),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("SPEC.md does not say %q", want)
		}
	}
	for _, n := range []uint64{receipt.MaxInt, grant.MaxLimit} {
		if n != 1<<53-1 {
			t.Errorf("SPEC.md says that integers are at most 2^53 − 1, not %d", n)
		}
	}
}
