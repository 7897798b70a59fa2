// Package oracle is what tests hold the engine against: a second engine
// (wazero), random modules that every engine must agree on, and the test suite
// of the WebAssembly specification.
//
// Only tests import it, so no program contains wazero; arrows_test.go at the
// root sees to that. Everything here may be used concurrently.
package oracle
