package oracle

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// A Script is one file of the test suite of the WebAssembly specification, as
// wast2json converts it.
type Script struct {
	Name     string // without .wast
	Commands []Command
	dir      string
}

// A Command defines a module, or asserts something.
type Command struct {
	Type       string
	Line       int
	Name       string // of a module, to be used later
	As         string // what register calls it
	Filename   string
	ModuleType string `json:"module_type"` // "binary" or "text"
	Text       string // the reason why a module is refused, or of a trap
	Action     struct {
		Type   string // "invoke" or "get"
		Module string
		Field  string
		Args   []Value
	}
	Expected []Value
}

// A Value is an argument or result. Numbers are decimal, floats by their bits;
// of floats there are also the classes nan:canonical and nan:arithmetic.
type Value struct {
	Type  string
	Value json.RawMessage // a string, or of a vector an array of strings
}

// String is the value of anything but a vector.
func (v Value) String() string {
	var s string
	json.Unmarshal(v.Value, &s)
	return s
}

// Bits is a number that is no class of NaN.
func (v Value) Bits() (uint64, error) {
	if strings.HasPrefix(v.String(), "-") {
		n, err := strconv.ParseInt(v.String(), 10, 64)
		return uint64(n), err
	}
	return strconv.ParseUint(v.String(), 10, 64)
}

// Wasm reads the module of a command.
func (s Script) Wasm(c Command) ([]byte, error) { return os.ReadFile(filepath.Join(s.dir, c.Filename)) }

// specDir is where wazero's module has the suite.
var specDir = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		return "", fmt.Errorf("find wazero's module: %w", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "internal", "integration_test", "spectest")
	_, err = os.Stat(dir)
	return dir, err
})

// Spec reads the scripts of a folder of the suite: v1 and v2 are versions of
// the specification, each other folder is a proposal. An error that
// [os.IsNotExist] knows means that the suite is not here.
func Spec(folder string) ([]Script, error) {
	dir, err := specDir()
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, folder, "testdata")
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no scripts in %s: %w", folder, os.ErrNotExist)
	}
	var all []Script
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		s := Script{Name: strings.TrimSuffix(filepath.Base(file), ".json"), dir: dir}
		if err := json.Unmarshal(b, &s); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		all = append(all, s)
	}
	return all, nil
}

// SpecHost is the module that the scripts import as "spectest".
func SpecHost() ([]byte, error) {
	dir, err := specDir()
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, "testdata", "spectest.wasm"))
}

// validator has the features that nodes have.
var validator = sync.OnceValue(func() wazero.Runtime {
	features := api.CoreFeaturesV2&^api.CoreFeatureSIMD | experimental.CoreFeaturesExtendedConst
	return wazero.NewRuntimeWithConfig(context.Background(), wazero.NewRuntimeConfigInterpreter().WithCoreFeatures(features))
})

// Valid tells whether a module is valid, in the opinion of wazero, with what
// nodes allow: WebAssembly 2.0 without vectors, and extended constants.
func Valid(wasm []byte) bool {
	m, err := validator().CompileModule(context.Background(), wasm)
	if err != nil {
		return false
	}
	m.Close(context.Background())
	return true
}
