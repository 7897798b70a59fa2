//go:build !cgo

package sandbox

import (
	"errors"

	"github.com/liop-project/liop/node/sandbox/wire"
)

var errNoEngine = errors.New("this binary was built without cgo and has no engine: it can be an agent, not a data node")

func compiler(*wire.Conn, isolation) error { return errNoEngine }
func runner(*wire.Conn, isolation) error   { return errNoEngine }
