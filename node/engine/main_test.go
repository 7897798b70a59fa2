package engine

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/liop-project/liop/node/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.MaybeRun()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}
