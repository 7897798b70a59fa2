package sandbox

// containment is what a worker locks itself down to. The zero value of dirs
// and files means no file at all.
type containment struct {
	memory uint64   // bytes of private writable mappings
	cpu    uint64   // seconds until the kernel kills the process; 0: the node does, by the clock
	dirs   []string // readable below
	files  []string // readable
}
