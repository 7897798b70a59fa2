package engine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/node/oracle"
)

// specModules calls f with each module of the specification's test suite, and
// the type of the command that has it. The error is os.ErrNotExist if the suite
// is not here.
func specModules(f func(where, command string, wasm []byte)) error {
	for _, folder := range []string{"v1", "v2", "extended-const"} {
		scripts, err := oracle.Spec(folder)
		if err != nil {
			return err
		}
		for _, s := range scripts {
			for _, c := range s.Commands {
				if c.Filename == "" || c.ModuleType == "text" {
					continue
				}
				wasm, err := s.Wasm(c)
				if err != nil {
					return err
				}
				f(fmt.Sprintf("%s/%s:%d", folder, s.Name, c.Line), c.Type, wasm)
			}
		}
	}
	return nil
}

// Screen refuses no well-formed module for its form, and whatever a module is,
// it says so with a fault.
func TestScreenSpec(t *testing.T) {
	form := []string{"magic", "version", "sections"} // the rules of what is not well-formed
	var good, read, bad, missed int
	err := specModules(func(where, command string, wasm []byte) {
		err := Screen(wasm, 4<<30)
		f, ok := fault.From(err)
		if err != nil && !ok {
			t.Errorf("%s: not a fault: %v", where, err)
		}
		byForm := err != nil && slices.Contains(form, f.Rule)
		if command == "assert_malformed" {
			if bad++; !byForm {
				missed++ // it is in the code, or screening stopped before: the compiler refuses it
			}
			return
		}
		good++
		if err == nil || f.Rule == "exports" { // the last of the rules
			read++
		}
		if byForm {
			t.Errorf("%s: %s: %v", where, command, err)
		}
	})
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the test suite of the specification is not here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d well-formed, of which %d were read to the end; %d malformed, of which %d are for the compiler", good, read, bad, missed)
	if good < 5700 || read < 4000 || bad < 1300 || missed > 1250 {
		t.Error("not what the suite has, or Screen overlooks more than it did")
	}
}
