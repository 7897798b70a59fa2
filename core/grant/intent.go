package grant

import (
	"crypto/ed25519"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
)

// intentDomain keeps a signed intent from being taken for anything else that
// the same key signs, and the reverse.
const intentDomain = "liop-intent-v1"

// IntentBytes is what an agent signs to open a session (SPEC §4.1): the
// netstrings of the domain, the node's peer id and the agent's in base58, the
// SHA-256 of the grant, and each dataset in the order of the request.
//
// It contains no time: the connection's handshake proves that the agent is
// there now. The signature is for the record, that this agent asked this node
// for these datasets under this grant.
func IntentBytes(node, agent peer.ID, grantHash [32]byte, datasets []string) []byte {
	var b []byte
	b = guest.AppendNetstring(b, intentDomain)
	b = guest.AppendNetstring(b, node.String())
	b = guest.AppendNetstring(b, agent.String())
	b = guest.AppendNetstring(b, grantHash[:])
	for _, d := range datasets {
		b = guest.AppendNetstring(b, d)
	}
	return b
}

// SignIntent signs [IntentBytes] with the agent's identity key: 64 bytes.
func SignIntent(key ed25519.PrivateKey, node, agent peer.ID, grantHash [32]byte, datasets []string) []byte {
	return ed25519.Sign(key, IntentBytes(node, agent, grantHash, datasets))
}

// VerifyIntent checks a signature made by [SignIntent]. It refuses with a
// [*fault.Error] of code [fault.InvalidRequest] and rule "proof_of_intent".
func VerifyIntent(node, agent peer.ID, grantHash [32]byte, datasets []string, sig []byte) error {
	key, err := identity.PublicKey(agent)
	if err == nil && len(sig) == ed25519.SignatureSize && ed25519.Verify(key, IntentBytes(node, agent, grantHash, datasets), sig) {
		return nil
	}
	return &fault.Error{Code: fault.InvalidRequest, Rule: "proof_of_intent", Owner: fault.Protocol,
		Message: "the intent is not signed by the peer that sent it",
		Hint:    "sign node, agent, grant and datasets as SPEC §4.1 says, with the agent's peer key"}
}
