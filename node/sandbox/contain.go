package sandbox

// containment is what a worker locks itself down to. The zero value of dirs
// and files means no file at all.
type containment struct {
	memory uint64   // bytes of private writable mappings
	dirs   []string // readable below
	files  []string // readable
}
