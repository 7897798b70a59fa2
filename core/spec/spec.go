// Package spec holds the protocol's specification, SPEC.md, and test vectors
// for implementations in other languages, vectors/*.json.
//
// Its tests check the vectors against this implementation, and the tables of
// SPEC.md against its constants. Run them with -update to write the vectors
// again; they are made from fixed keys and do not change unless the protocol
// does.
package spec
