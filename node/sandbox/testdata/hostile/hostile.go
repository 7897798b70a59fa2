// Package hostile is the corpus of attacks that a data node must withstand, and
// what a node must make of each: the operator's acceptance test (liop attack)
// and the tests of the engine run every one of them.
//
// An attack is a module, and perhaps arguments and inputs, that any agent with
// a grant could push. Modules report on themselves: one that manages what it
// must not ends well, with an answer that says so. So an attack that is
// answered got through, unless [Attack.Answer] is what it should answer, as of
// those that a node may let run because its bounds hold them.
//
// Small modules are committed in modules beside their source, .wat or C, byte for
// byte what filters/build.sh builds of it. Large and malformed ones are made by
// deterministic code when they are asked for.
//
// The package lies in a folder named testdata so that "./..." leaves it out: it
// is data more than code. But it is part of the product, since the command
// imports it, so whatever checks the other packages must name this one too.
//
// It runs nothing. All functions are safe for concurrent use, and each returned
// slice is the caller's own.
package hostile

import (
	"embed"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed modules/*.wasm
var modules embed.FS

// Module returns the committed module of that name.
func Module(name string) ([]byte, bool) {
	if strings.Contains(name, "/") {
		return nil, false
	}
	b, err := modules.ReadFile("modules/" + name + ".wasm")
	return b, err == nil
}

// Modules returns the names of the committed modules, sorted.
func Modules() []string {
	files, err := fs.Glob(modules, "modules/*.wasm")
	if err != nil {
		panic(err) // the pattern is ours
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ".wasm")
	}
	slices.Sort(files)
	return files
}
