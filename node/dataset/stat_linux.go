package dataset

import (
	"io/fs"
	"syscall"
)

func identOf(info fs.FileInfo) ident {
	id := ident{size: info.Size(), mtime: info.ModTime().UnixNano()}
	id.ctime = id.mtime
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		id.dev, id.inode, id.ctime = uint64(s.Dev), s.Ino, s.Ctim.Nano()
	}
	return id
}
