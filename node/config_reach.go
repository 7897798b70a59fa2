package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/liop-project/liop/mesh"
)

// Reach is the [mesh.reach] table of node.toml: what the node does so that agents
// reach it, and it reaches other nodes, across NATs. See mesh.Reach.
//
// What costs the owner little and asks nothing of others' machines is on unless
// it is turned off; what uses the owner's router or bandwidth for others is off.
type Reach struct {
	// AutoNAT has peers try the node's addresses, and tries theirs. Default true:
	// a node that does not know which of its addresses work gives out wrong ones.
	AutoNAT *bool `toml:"auto_nat"`
	// HolePunch makes relayed connections direct ones. Default true; it does
	// nothing until there is a relayed connection.
	HolePunch *bool `toml:"hole_punch"`
	// Relays are the multiaddrs of nodes with serve_relay that relay for this one,
	// each ending in /p2p/ID. Needed only where nobody can dial the node. Default
	// none.
	Relays []string `toml:"relays"`
	// MapPort asks the router for ports (UPnP, NAT-PMP). Default false: it changes
	// a machine that is not the node's.
	MapPort bool `toml:"map_port"`
	// ServeRelay relays for other peers, within the limits of [mesh.reach.relay].
	// Default false: it spends the owner's bandwidth on others.
	ServeRelay bool       `toml:"serve_relay"`
	Relay      RelayTable `toml:"relay"`
}

// RelayTable is the [mesh.reach.relay] table: what a node with serve_relay does for
// others at most. The defaults are those of mesh.RelayLimits.
type RelayTable struct {
	Reservations    int      `toml:"reservations"`      // peers that may be reached through the node; default 128
	CircuitsPerPeer int      `toml:"circuits_per_peer"` // connections of one peer at once; default 16
	Duration        Duration `toml:"duration"`          // of a connection, whole seconds; default 2m
	Data            Bytes    `toml:"data"`              // of a connection in each direction; default 128KiB
}

func (r Reach) mesh() mesh.Reach {
	m := mesh.Reach{
		AutoNAT: r.AutoNAT == nil || *r.AutoNAT, HolePunch: r.HolePunch == nil || *r.HolePunch,
		DialRelays: true, Relays: r.Relays, MapPort: r.MapPort,
	}
	if r.ServeRelay {
		l := r.Relay.mesh()
		m.Serve = &l
	}
	return m
}

func (r RelayTable) mesh() mesh.RelayLimits {
	return mesh.RelayLimits{
		Reservations: r.Reservations, CircuitsPerPeer: r.CircuitsPerPeer, Duration: time.Duration(r.Duration), Data: int64(r.Data),
	}
}

func (r Reach) validate() error {
	if !r.ServeRelay && r.Relay != (RelayTable{}) {
		return errors.New("mesh.reach.relay: has no effect without serve_relay = true")
	}
	l := r.Relay
	switch {
	case l.Reservations < 0 || l.Reservations > mesh.MaxRelayReservations:
		return fmt.Errorf("mesh.reach.relay.reservations: must be 1 to %d", mesh.MaxRelayReservations)
	case l.CircuitsPerPeer < 0 || l.CircuitsPerPeer > mesh.MaxRelayCircuits:
		return fmt.Errorf("mesh.reach.relay.circuits_per_peer: must be 1 to %d", mesh.MaxRelayCircuits)
	case time.Duration(l.Duration) > mesh.MaxRelayDuration || time.Duration(l.Duration)%time.Second != 0:
		return fmt.Errorf("mesh.reach.relay.duration: must be whole seconds, at most %s", mesh.MaxRelayDuration)
	case l.Data > mesh.MaxRelayData:
		return fmt.Errorf("mesh.reach.relay.data: must be at most %s", humanize.IBytes(mesh.MaxRelayData))
	}
	if len(r.Relays) > mesh.MaxRelays {
		return fmt.Errorf("mesh.reach.relays: at most %d", mesh.MaxRelays)
	}
	for i, s := range r.Relays {
		if err := mesh.CheckRelay(s); err != nil {
			return fmt.Errorf("mesh.reach.relays[%d]: %w", i, err)
		}
	}
	return nil
}
