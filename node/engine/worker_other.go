//go:build !unix

package engine

import (
	"errors"
	"os"
	"syscall"
)

func selfExe() string { return os.Args[0] }

func (isolation) attr() *syscall.SysProcAttr { return nil }

func socketPair() (parent, child *os.File, err error) {
	return nil, nil, errors.New("worker processes need a Unix system")
}

// sealDescriptors has nothing to do: what this process inherited is not marked here.
func sealDescriptors() error { return nil }
