package node

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/liop-project/liop/core/conf"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/node/bounds"
)

// What engine.memory may be: room for some small runs beside the runners that
// stand by, and no more than addresses count.
const (
	minEngineMemory = 256 << 20
	maxEngineMemory = 1 << 50
)

// maxCompileTime bounds what the owner may allow: a node that drains waits for
// its compilers.
const maxCompileTime = 10 * time.Minute

// Containment says what the node does when a worker cannot be locked down.
type Containment string

const (
	// BestEffort runs with what the machine has, logs what is missing, and says
	// in each receipt what was active.
	BestEffort Containment = "best-effort"
	// Strict refuses to start if anything is missing.
	Strict Containment = "strict"
)

// Config is node.toml: the owner's decisions. Its zero value is a node that
// listens on the default addresses and serves nothing.
type Config struct {
	Realm       string      `toml:"realm"`       // an audience that grants may name besides the node's id
	Listen      []string    `toml:"listen"`      // multiaddrs; default mesh.DefaultListen
	Issuers     []string    `toml:"issuers"`     // files with a peer id; the node's own id always counts
	Containment Containment `toml:"containment"` // default "best-effort"
	Mesh        Mesh        `toml:"mesh"`
	Limits      struct {
		Default Limits `toml:"default"` // where a grant is silent
		Max     Limits `toml:"max"`     // whatever a grant says
	} `toml:"limits"`
	Engine   Engine    `toml:"engine"`
	Datasets []Dataset `toml:"dataset"`
}

// Engine sizes the worker processes.
type Engine struct {
	Runners      int   `toml:"runners"`       // runs at the same time; default 2 per core
	AgentRunners int   `toml:"agent_runners"` // of one agent; default three quarters of runners, at least 1
	Queue        int   `toml:"queue"`         // runs that may wait; one agent may fill a quarter; default 256
	Memory       Bytes `toml:"memory"`        // of all runs and runners together; default half of the machine's
	Cache        Bytes `toml:"cache"`         // compiled modules on disk; default 1GiB
	// CompileTime is how much CPU time one compilation may take, in whole
	// seconds; default bounds.CompileTime.
	CompileTime Duration `toml:"compile_time"`
}

// Dataset is a directory under a name.
type Dataset struct {
	Name string `toml:"name"`
	Dir  string `toml:"dir"` // relative to node.toml
	// Title is one line, and Schema some words on the contents, for those who look
	// for data. Both are published as they are. Default none.
	Title  string `toml:"title"`
	Schema string `toml:"schema"`
	// Announce tells the mesh that the dataset is here. Default mesh.announce.
	Announce *bool    `toml:"announce"`
	Allow    []PeerID `toml:"allow"` // agents; default: any with a grant for it
	Limits   Limits   `toml:"limits"`
	// RunsAtOnce is how many runs may read this dataset at the same time, of all
	// agents together; limits.concurrency is of one grant. Default: no cap of
	// its own.
	RunsAtOnce int `toml:"runs_at_once"`
}

// Limits in the file's words.
type Limits struct {
	Memory      Bytes    `toml:"memory"`
	Time        Duration `toml:"time"`
	Output      Bytes    `toml:"output"`
	Input       Bytes    `toml:"input"`
	Module      Bytes    `toml:"module"`
	Concurrency uint32   `toml:"concurrency"`
	Fuel        uint64   `toml:"fuel"`
	Runs        uint64   `toml:"runs"`
}

// validate reports what no worker is sent, whatever the owner allows.
func (l Limits) validate() error {
	for name, n := range map[string]Bytes{"module": l.Module, "input": l.Input} {
		if n > bounds.Module {
			return fmt.Errorf("%s: at most %s", name, humanize.IBytes(bounds.Module))
		}
	}
	return nil
}

func (l Limits) grant() grant.Limits {
	return grant.Limits{
		MemoryBytes: uint64(l.Memory), WallMS: uint64(time.Duration(l.Time).Milliseconds()),
		OutputBytes: uint64(l.Output), InputBytes: uint64(l.Input), ModuleBytes: uint64(l.Module),
		Concurrency: l.Concurrency, Fuel: l.Fuel, Runs: l.Runs,
	}
}

// Bytes is a size such as "64MiB" or 65536.
type Bytes uint64

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	if err != nil || n == 0 {
		return fmt.Errorf("%q is not a size such as 64MiB", text)
	}
	*b = Bytes(n)
	return nil
}

// Duration is a time such as "5s" or "250ms", at least one millisecond.
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < time.Millisecond {
		return fmt.Errorf("%q is not a time such as 5s or 250ms", text)
	}
	*d = Duration(v)
	return nil
}

// PeerID is an Ed25519 peer id in text. It is a struct because go-toml does not
// ask string types how to read themselves.
type PeerID struct{ peer.ID }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *PeerID) UnmarshalText(text []byte) error {
	id, err := identity.ParseID(string(text))
	p.ID = id
	return err
}

// ReadConfig reads node.toml. Unknown keys are errors; an error names the file
// and the line. Relative paths in it are relative to the file.
func ReadConfig(path string) (Config, error) {
	var c Config
	if err := conf.Read(path, &c); err != nil {
		return Config{}, err
	}
	abs := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	for i := range c.Datasets {
		abs(&c.Datasets[i].Dir)
	}
	for i := range c.Issuers {
		abs(&c.Issuers[i])
	}
	for i := range c.Mesh.Operators {
		abs(&c.Mesh.Operators[i])
	}
	for i := range c.Mesh.Vouchers {
		abs(&c.Mesh.Vouchers[i])
	}
	abs(&c.Mesh.Member)
	return c, nil
}

// Validate reports the first key that a node could not be made from.
func (c Config) Validate() error {
	switch c.Containment {
	case "", BestEffort, Strict:
	default:
		return fmt.Errorf(`containment: %q is neither "best-effort" nor "strict"`, c.Containment)
	}
	if c.Realm != "" {
		if _, err := peer.Decode(c.Realm); err == nil || len(c.Realm) > 128 {
			return errors.New("realm: must be a name of at most 128 bytes that is not a peer id")
		}
	}
	if err := c.Mesh.Kad.validate(); err != nil {
		return err
	}
	if c.Engine.Runners < 0 || c.Engine.Runners > 1024 || c.Engine.Queue < 0 || c.Engine.Queue > 65536 {
		return errors.New("engine: runners must be 0 to 1024, queue 0 to 65536")
	}
	if n := c.Engine.AgentRunners; n < 0 || n > 1024 || c.Engine.Runners > 0 && n > c.Engine.Runners {
		return errors.New("engine.agent_runners: must be 0 to 1024, and not more than runners")
	}
	if m := c.Engine.Memory; m != 0 && (m < minEngineMemory || m > maxEngineMemory) {
		return fmt.Errorf("engine.memory: must be %s to %s", humanize.IBytes(minEngineMemory), humanize.IBytes(maxEngineMemory))
	}
	// The kernel counts the CPU time of a process in whole seconds.
	if t := time.Duration(c.Engine.CompileTime); t < 0 || t > maxCompileTime || t%time.Second != 0 {
		return fmt.Errorf("engine.compile_time: %s is not a number of whole seconds from 1s to %s", t, maxCompileTime)
	}
	if err := c.Mesh.Reach.validate(); err != nil {
		return err
	}
	for name, l := range map[string]Limits{"limits.default": c.Limits.Default, "limits.max": c.Limits.Max} {
		if err := l.validate(); err != nil {
			return fmt.Errorf("%s.%w", name, err)
		}
	}
	if err := c.Mesh.validate(); err != nil {
		return fmt.Errorf("mesh.%w", err)
	}
	seen := map[string]bool{}
	for i, d := range c.Datasets {
		if err := d.Limits.validate(); err != nil {
			return fmt.Errorf("dataset[%d].limits.%w", i, err)
		}
		if err := guest.ValidDataset(d.Name); err != nil {
			return fmt.Errorf("dataset[%d].name: %w", i, err)
		}
		if seen[d.Name] {
			return fmt.Errorf("dataset[%d].name: %q is there twice", i, d.Name)
		}
		seen[d.Name] = true
		if d.Dir == "" {
			return fmt.Errorf("dataset[%d].dir: missing", i)
		}
		if d.RunsAtOnce < 0 || d.RunsAtOnce > 1024 {
			return fmt.Errorf("dataset[%d].runs_at_once: must be 0 to 1024", i)
		}
	}
	return nil
}
