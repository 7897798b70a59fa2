package hostile

import (
	"strings"

	"github.com/liop-project/liop/core/fault"
)

// committed are the attacks whose modules lie in modules.
func committed() []Attack {
	three := [][]string{nil, nil, nil}
	list := []Attack{
		{Name: "loop", Class: CPU, What: "never ends", Expect: stopped},
		{Name: "br-table-storm", Class: CPU, What: "jumps through a table on unpredictable numbers without end", Expect: stopped},
		{Name: "fill", Class: CPU, What: "fills up to 256 MiB with one instruction, again and again", Expect: stopped},
		{Name: "copy", Class: CPU, What: "copies up to 256 MiB with one instruction, again and again", Expect: stopped},
		{Name: "recurse", Class: CPU, What: "overflows the stack", Expect: overflow},
		{Name: "recurse-mutual", Class: CPU, What: "overflows the stack, by two functions", Expect: overflow},
		{Name: "recurse-indirect", Class: CPU, What: "overflows the stack, through a table", Expect: overflow},
		{Name: "trap", Class: CPU, What: "writes to stdout, then traps", Expect: trapped},

		{Name: "memory-bomb", Class: Memory, What: "takes and touches all memory it can get, then aborts",
			Expect: starved.or("stopped at its time limit if that comes first", outOfTime)},
		{Name: "grow-forever", Class: Memory, What: "asks for one page more without end", Expect: stopped},
		{Name: "grow-huge", Class: Memory, What: "asks for the whole address space, and more", Expect: denied},
		{Name: "memory-minimum", Class: Memory, What: "starts with 4 GiB", Expect: starved},
		{Name: "table-grow", Class: Memory, What: "grows four tables as far as they go", Expect: denied},
		{Name: "table-minimum", Class: Memory, What: "starts with a table of 100,000,000 elements",
			Expect: refusedBy("tables")},

		{Name: "flood-stdout", Class: IO, What: "answers without end", Expect: silenced},
		{Name: "flood-bytes", Class: IO, What: "answers without end, a byte a call",
			Expect: silenced.or("at its time limit if that comes first", outOfTime)},
		{Name: "flood-vectors", Class: IO, What: "answers with 64 MiB in each call, from one page", Expect: silenced},
		{Name: "flood-stderr", Class: IO, What: "writes 1 GiB to stderr, then answers",
			Expect: held("ok\n").or("is stopped at its time limit", outOfTime)},
		{Name: "vector-sum", Class: IO, What: "writes vectors whose lengths overflow 32 bits", Expect: held("ok\n")},
		{Name: "write-bytes", Class: IO, What: "answers by 4096 calls", Expect: held(strings.Repeat("x", 4096))},
		{Name: "outside", Class: IO, What: "looks for files outside of its datasets", Expect: denied},
		{Name: "names", Class: IO, What: "opens names that a host may misread", Expect: denied},
		{Name: "links", Class: IO, What: "makes links to the outside, and goes through them", Expect: denied},
		{Name: "race", Class: IO, What: "goes in and out of its dataset without end", Expect: stopped},
		{Name: "write", Class: IO, What: "tries to change its datasets", Expect: denied},
		{Name: "fd-exhaust", Class: IO, What: "opens files until none opens, and leaves them open", Runs: three, Expect: denied},
		{Name: "open-flood", Class: IO, What: "opens and closes its dataset without end", Expect: stopped},
		{Name: "readdir-flood", Class: IO, What: "lists its dataset without end", Expect: stopped},

		{Name: "sleeper", Class: HostCall, What: "sleeps for an hour", Expect: stopped},
		{Name: "sleep-until-the-end", Class: HostCall, What: "sleeps until the largest time there is", Expect: stopped},
		{Name: "random", Class: HostCall, What: "asks for 256 MiB of random bytes in one call",
			Expect: denied.or("does not get the memory for it", Refusal{fault.LimitMemory, "limits.memory_bytes"})},
		{Name: "random-flood", Class: HostCall, What: "asks for random bytes without end", Expect: stopped},
		{Name: "clock-flood", Class: HostCall, What: "reads the clock without end", Expect: stopped},
		{Name: "clock", Class: HostCall, What: "looks for a clock finer than a millisecond", Expect: denied},
		{Name: "poll-flood", Class: HostCall, What: "waits for what has passed without end", Expect: stopped},
		{Name: "yield-flood", Class: HostCall, What: "gives up the processor without end", Expect: stopped},
		{Name: "exit3", Class: HostCall, What: "writes to stdout, then exits with code 3", Expect: exited},
		{Name: "sock", Class: HostCall, What: "imports a socket function", Expect: noImport},
		{Name: "badimport", Class: HostCall, What: "imports a function that does not exist", Expect: noImport},

		{Name: "nostart", Class: Start, What: "has no _start", Expect: refusedBy("exports")},
		{Name: "start-loop", Class: Start, What: "never ends", Expect: stopped},
		{Name: "start-recurse", Class: Start, What: "overflows the stack", Expect: overflow},
		{Name: "start-trap", Class: Start, What: "traps", Expect: trapped},
		{Name: "start-exit", Class: Start, What: "exits with code 0", Expect: held("")},
		{Name: "start-exit7", Class: Start, What: "exits with code 7", Expect: exited},
		{Name: "start-flood", Class: Start, What: "answers without end", Expect: silenced},
		{Name: "start-grow", Class: Start, What: "takes all the memory it can get, then traps", Expect: trapped},
		{Name: "data-past-end", Class: Start, What: "has data that lie behind its memory", Expect: trapped},
		{Name: "elem-past-end", Class: Start, What: "has elements that lie behind its table", Expect: trapped},
	}
	for i := range list {
		list[i].Wasm = committedModule(list[i].Name)
	}
	return list
}

func committedModule(name string) func() []byte {
	return func() []byte {
		wasm, ok := Module(name)
		if !ok {
			panic("hostile: no module " + name) // a test of this package asks for them all
		}
		return wasm
	}
}
