package mesh

import (
	"reflect"
	"testing"

	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
)

// Nothing that a peer can take is without an end, under any Limits.
func TestEveryScopeIsFinite(t *testing.T) {
	for name, l := range map[string]Limits{"default": {}, "small": {MaxConns: 10, MaxMemory: 64 << 20}, "large": {MaxConns: 1 << 16, MaxMemory: 1 << 40}} {
		all := l.withDefaults().resources().ToPartialLimitConfig()
		if name == "default" && all.Transient.Conns < 2*DefaultMaxPeersPerSubnet {
			t.Errorf("one address can take all %d handshakes", all.Transient.Conns)
		}
		finite := func(scope string, r rcmgr.ResourceLimits) {
			v := reflect.ValueOf(r)
			for i := range v.NumField() {
				n, f := v.Field(i).Int(), v.Type().Field(i).Name
				if n == int64(rcmgr.Unlimited) || n > 1<<50 {
					t.Errorf("%s: %s.%s is %d", name, scope, f, n)
				}
			}
		}
		for scope, r := range map[string]rcmgr.ResourceLimits{
			"system": all.System, "transient": all.Transient, "conn": all.Conn, "stream": all.Stream,
			"service default": all.ServiceDefault, "service peer default": all.ServicePeerDefault,
			"protocol default": all.ProtocolDefault, "protocol peer default": all.ProtocolPeerDefault, "peer default": all.PeerDefault,
		} {
			finite(scope, r)
		}
		for scope, r := range all.Service {
			finite("service "+scope, r)
		}
		for scope, r := range all.ServicePeer {
			finite("service peer "+scope, r)
		}
		for scope, r := range all.Protocol {
			finite("protocol "+string(scope), r)
		}
		for scope, r := range all.ProtocolPeer {
			finite("protocol peer "+string(scope), r)
		}
		for _, s := range []string{autonatv2.ServiceName, relay.ServiceName, holepunch.ServiceName, identify.ServiceName} {
			if n := all.ServicePeer[s].StreamsInbound; n <= 0 || n > 64 {
				t.Errorf("%s: one peer may have %d streams of %s", name, n, s)
			}
		}
		for _, p := range []string{autonatv2.DialProtocol, autonatv2.DialBackProtocol, proto.ProtoIDv2Hop, proto.ProtoIDv2Stop, string(holepunch.Protocol)} {
			found := false
			for id, r := range all.ProtocolPeer {
				found = found || string(id) == p && r.StreamsInbound > 0 && r.StreamsInbound <= 128
			}
			if !found {
				t.Errorf("%s: no limit of its own for %s", name, p)
			}
		}
	}
}
