package liopv1

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// The fields of the public reference keep their names, numbers and kinds for
// ever, and ours never go below 16.
func TestContract(t *testing.T) {
	type field struct {
		number protoreflect.FieldNumber
		kind   protoreflect.Kind
	}
	const str, bin, boolean = protoreflect.StringKind, protoreflect.BytesKind, protoreflect.BoolKind
	reference := map[protoreflect.Name]map[protoreflect.Name]field{
		"IntentRequest":  {"agent_did": {1, str}, "capability_hash": {2, str}, "proof_of_intent": {3, bin}},
		"IntentResponse": {"accepted": {1, boolean}, "session_token": {2, str}, "error_message": {3, str}, "kyber_public_key": {4, bin}},
		"LogicRequest": {"session_token": {1, str}, "wasm_binary": {2, bin}, "inputs": {3, protoreflect.MessageKind},
			"pqc_ciphertext": {4, bin}, "aes_nonce": {5, bin}},
		"LogicResponse": {"semantic_evidence": {1, str}, "cryptographic_proof": {2, bin}, "zk_receipt": {3, bin}, "is_error": {4, boolean}},
	}
	file := File_liop_v1_logic_mesh_proto
	if file.Package() != "liop.v1" {
		t.Errorf("package %s", file.Package())
	}
	for name, want := range reference {
		m := file.Messages().ByName(name)
		if m == nil {
			t.Errorf("%s is gone", name)
			continue
		}
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			w, isReference := want[f.Name()]
			switch {
			case isReference && (f.Number() != w.number || f.Kind() != w.kind):
				t.Errorf("%s.%s is field %d of kind %s, must be %d of kind %s", name, f.Name(), f.Number(), f.Kind(), w.number, w.kind)
			case !isReference && f.Number() < 16:
				t.Errorf("%s.%s has number %d, ours start at 16", name, f.Name(), f.Number())
			}
			delete(want, f.Name())
		}
		for f := range want {
			t.Errorf("%s.%s is gone", name, f)
		}
	}
	inputs := file.Messages().ByName("LogicRequest").Fields().ByName("inputs")
	if !inputs.IsMap() || inputs.MapKey().Kind() != str || inputs.MapValue().Kind() != bin {
		t.Error("LogicRequest.inputs is not map<string, bytes>")
	}
	s := file.Services().ByName("LogicMesh")
	if n := s.Methods().ByName("NegotiateIntent"); n == nil || n.IsStreamingServer() || n.IsStreamingClient() {
		t.Error("NegotiateIntent is not unary")
	}
	if e := s.Methods().ByName("ExecuteLogic"); e == nil || !e.IsStreamingServer() || e.IsStreamingClient() {
		t.Error("ExecuteLogic is not server-streaming")
	}
}

// The messages of our own keep the numbers that are in use.
func TestOwnNumbers(t *testing.T) {
	for message, fields := range map[protoreflect.Name][]protoreflect.Name{
		"Limits":      {"memory_bytes", "wall_ms", "output_bytes", "input_bytes", "module_bytes", "concurrency", "runs_left", "runs_limited"},
		"Stats":       {"queue_ms", "compile_ms", "run_ms", "module_cached", "dataset_bytes"},
		"ErrorDetail": {"code", "rule", "owner", "message", "hint", "retry_after_ms"},
	} {
		m := File_liop_v1_logic_mesh_proto.Messages().ByName(message)
		for i, name := range fields {
			if f := m.Fields().ByName(name); f == nil || int(f.Number()) != i+1 {
				t.Errorf("%s.%s must be field %d", message, name, i+1)
			}
		}
	}
}
