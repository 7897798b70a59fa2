package guest

import (
	"errors"
	"strings"
	"structs"
	"syscall"
	"unsafe"
)

// prestat is __wasi_prestat_t of wasi_snapshot_preview1.
type prestat struct {
	_       structs.HostLayout
	tag     uint8 // 0 is a directory, the only kind there is
	nameLen uint32
}

//go:wasmimport wasi_snapshot_preview1 fd_prestat_get
//go:noescape
func fdPrestatGet(fd int32, stat *prestat) uint32

//go:wasmimport wasi_snapshot_preview1 fd_prestat_dir_name
//go:noescape
func fdPrestatDirName(fd int32, name *byte, nameLen uint32) uint32

const (
	// firstPreopen is the descriptor after stderr: wasip1 numbers preopens
	// from there without gaps.
	firstPreopen = 3
	// maxPreopens bounds the enumeration should a host never end it.
	maxPreopens = 4096
	maxNameLen  = 4096
)

// granted returns the names of all preopened directories.
func granted() ([]string, error) {
	var dirs []string
	for fd := int32(firstPreopen); fd < firstPreopen+maxPreopens; fd++ {
		var stat prestat
		errno := syscall.Errno(fdPrestatGet(fd, &stat))
		if errno == syscall.EBADF {
			return dirs, nil
		}
		if errno != 0 {
			return nil, errno
		}
		if stat.tag != 0 || stat.nameLen == 0 || stat.nameLen > maxNameLen {
			continue
		}
		name := make([]byte, stat.nameLen)
		if errno := syscall.Errno(fdPrestatDirName(fd, unsafe.SliceData(name), stat.nameLen)); errno != 0 {
			return nil, errno
		}
		// Some hosts count a terminator.
		dirs = append(dirs, strings.TrimRight(string(name), "\x00"))
	}
	return nil, errors.New("too many preopened directories")
}
