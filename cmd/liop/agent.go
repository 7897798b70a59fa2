package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/spf13/cobra"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/conf"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
)

const (
	agentFile = "agent.toml" // in the home folder
	// maxGrantsFile bounds a file with any number of grants, in bytes.
	maxGrantsFile = 4 << 20

	bootstrapEnv = "LIOP_BOOTSTRAP" // multiaddrs, separated by white space or commas
)

// agentConf is agent.toml: how this agent takes part in a mesh.
type agentConf struct {
	Bootstrap []string          `toml:"bootstrap"` // multiaddrs of peers of the mesh
	MDNS      bool              `toml:"mdns"`      // look for peers on the local network
	Trust     []string          `toml:"trust"`     // peer ids of operators who may vouch for nodes
	Owners    map[string]string `toml:"owners"`    // scope of dataset names = peer id of its owner
}

// agentFlags say who the agent is and how it finds nodes. Flags go before the
// environment, and that before agent.toml.
type agentFlags struct {
	home      string
	bootstrap []string
	mdns      bool
	owners    []string
	trust     []string
}

func (f *agentFlags) register(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.home, "home", "", "folder with the identity (default $LIOP_HOME, else $XDG_CONFIG_HOME/liop)")
	fs.StringArrayVar(&f.bootstrap, "bootstrap", nil, "multiaddr of a peer of the mesh (default $"+bootstrapEnv+", else HOME/"+agentFile+")")
	fs.BoolVar(&f.mdns, "mdns", false, "look for peers on the local network")
	fs.StringArrayVar(&f.owners, "owner", nil, "SCOPE=PEER: whose datasets SCOPE/… are")
	fs.StringArrayVar(&f.trust, "trust", nil, "peer id of an operator who may vouch for nodes")
}

// agent is who asks.
type agent struct {
	home string
	id   *identity.Identity
	join client.JoinOptions
	mesh *client.Mesh // nil until joined
}

// load reads the identity and the configuration.
func (f *agentFlags) load(c *cobra.Command) (*agent, error) {
	home, id, err := loadIdentity(f.home)
	if err != nil {
		return nil, err
	}
	token, err := memberToken(home)
	if err != nil {
		return nil, err
	}
	a := &agent{home: home, id: id, join: client.JoinOptions{Identity: id, Member: token, Owners: map[string]peer.ID{}}}
	path := filepath.Join(home, agentFile)
	var file agentConf
	if err := conf.Read(path, &file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	a.join.MDNS = file.MDNS || f.mdns
	switch env := strings.FieldsFunc(os.Getenv(bootstrapEnv), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }); {
	case len(f.bootstrap) > 0:
		a.join.Bootstrap = f.bootstrap
	case len(env) > 0:
		a.join.Bootstrap = env
	default:
		a.join.Bootstrap = file.Bootstrap
	}
	for scope, who := range file.Owners {
		if err := a.own(scope, who); err != nil {
			return nil, fmt.Errorf("%s: owners.%s: %w", path, scope, err)
		}
	}
	for _, o := range f.owners {
		scope, who, ok := strings.Cut(o, "=")
		if !ok {
			return nil, usage(c, fmt.Errorf("--owner %q is not SCOPE=PEER", o))
		}
		if err := a.own(scope, who); err != nil {
			return nil, usage(c, fmt.Errorf("--owner %s: %w", o, err))
		}
	}
	for i, who := range append(file.Trust, f.trust...) {
		id, err := identity.ParseID(who)
		switch {
		case err != nil && i < len(file.Trust):
			return nil, fmt.Errorf("%s: trust: %w", path, err)
		case err != nil:
			return nil, usage(c, fmt.Errorf("--trust: %w", err))
		}
		a.join.Trust = append(a.join.Trust, id)
	}
	return a, nil
}

func (a *agent) own(scope, who string) error {
	if guest.ValidDataset(scope) != nil || strings.Contains(scope, "/") {
		return fmt.Errorf("%q is not the first part of a dataset's name", scope)
	}
	id, err := identity.ParseID(who)
	if err != nil {
		return err
	}
	a.join.Owners[scope] = id
	return nil
}

// reach joins the mesh if NODE must be found there.
func (a *agent) reach(ctx context.Context, node string) error {
	if err := client.ValidNode(node); err != nil || !needsMesh(node) {
		return err
	}
	return a.enter(ctx)
}

// enter joins the mesh.
func (a *agent) enter(ctx context.Context) error {
	if len(a.join.Bootstrap) == 0 && !a.join.MDNS {
		return hint(errors.New("no peer of a mesh is known by which to find others"),
			"name one with --bootstrap MULTIADDR, %s or bootstrap = [...] in %s; or look on the local network with --mdns",
			bootstrapEnv, filepath.Join(a.home, agentFile))
	}
	m, err := client.Join(ctx, a.join)
	a.mesh = m
	return err
}

// options are those of a client of this agent, in the mesh if it has entered.
func (a *agent) options(grants string) client.Options {
	o := client.Options{Identity: a.id, Grant: grants, Mesh: a.mesh}
	if a.mesh == nil {
		o.Member = a.join.Member
	}
	return o
}

// needsMesh reports whether NODE must be found.
func needsMesh(node string) bool { return !strings.HasPrefix(node, "/") }

func (a *agent) leave() {
	if a.mesh != nil {
		a.mesh.Close()
	}
}

// readGrants reads grant files into what client.Options takes.
func (a *agent) readGrants(files []string) (string, error) {
	if len(files) == 0 {
		files = []string{filepath.Join(a.home, grantFile)}
	}
	var all []string
	for _, f := range files {
		chain, err := readToken(f, maxGrantsFile)
		if err != nil {
			return "", missing(err, "ask the owner of the data for a grant for %s, and name its file with --grant", a.id.ID())
		}
		all = append(all, chain)
	}
	return strings.Join(all, "\n"), nil
}

// alone makes a Mesh without peers, for nodes whose addresses are known.
func (a *agent) alone() (err error) {
	a.mesh, err = client.Alone(a.join)
	return err
}

// contextFor is the command's context, with a timeout unless that is zero.
func contextFor(c *cobra.Command, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(c.Context())
	}
	return context.WithTimeout(c.Context(), timeout)
}

// stopped is the error of a search that ended before its time.
func stopped(ctx context.Context, err error, timeout time.Duration, found int) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return hint(fmt.Errorf("looked for %s, and there may be more than the %d found", timeout, found), "raise --timeout")
	case ctx.Err() != nil:
		return errors.New("interrupted")
	}
	return err
}
