package engine

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	_ "github.com/liop-project/liop/node/sandbox" // a node under test starts this binary as its worker
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}
