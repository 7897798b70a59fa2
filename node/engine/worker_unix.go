//go:build unix && !linux

package engine

import (
	"os"
	"syscall"
)

func selfExe() string {
	exe, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return exe
}

// attr cannot tie the worker's life to the node's here: a worker whose
// node died ends when it reads from the closed socket.
func (isolation) attr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func socketPair() (parent, child *os.File, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, err
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	return os.NewFile(uintptr(fds[0]), "parent"), os.NewFile(uintptr(fds[1]), "child"), nil
}

// sealDescriptors has nothing to do: what this process inherited is not marked here.
func sealDescriptors() error { return nil }
