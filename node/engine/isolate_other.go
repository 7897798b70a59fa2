//go:build !linux

package engine

import "github.com/liop-project/liop/node/sandbox/wire"

func candidates() []isolation { return []isolation{{}} }

func missing(isolation, error) *wire.Gap { return nil }
