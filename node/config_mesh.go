package node

// Mesh is the [mesh] table of node.toml: who may connect, and how the node takes
// part in the mesh.
type Mesh struct {
	// Peers may connect. Absent: anyone; present and empty: nobody.
	Peers []PeerID `toml:"peers"`
	// Bootstrap are multiaddrs of peers by which the node joins the mesh, each
	// ending in /p2p/ID. None: the node is found by those who bootstrap from it.
	Bootstrap []string `toml:"bootstrap"`
	// Reach is what the node does about NATs.
	Reach Reach `toml:"reach"`
}
