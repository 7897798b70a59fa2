//go:build linux && cgo

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// unit says what a figure counts, and how it is written.
type unit string

const (
	seconds   unit = "s"
	perSecond unit = "1/s"
	octets    unit = "B"
	pieces    unit = "count"
)

// figure is a measured or published number. Its zero value is none.
type figure struct {
	v    float64
	unit unit
}

func took(d time.Duration) figure { return figure{d.Seconds(), seconds} }

func (f figure) String() string {
	v := f.v
	scale := func(names ...string) string {
		i := 0
		for ; math.Abs(v) >= 999.5 && i < len(names)-1; i++ {
			v /= 1000
		}
		if i == 0 { // nobody measures parts of these
			return strconv.FormatFloat(v, 'f', 0, 64) + " " + names[0]
		}
		return round(v) + " " + names[i]
	}
	switch f.unit {
	case seconds:
		v *= 1e9
		return scale("ns", "µs", "ms", "s")
	case perSecond:
		return strconv.Itoa(int(math.Round(v))) + "/s"
	case octets:
		return scale("B", "kB", "MB", "GB")
	case pieces:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return "–"
}

// round writes v with three digits that matter.
func round(v float64) string {
	digits := 0
	for a := math.Abs(v); a > 0 && a < 99.95 && digits < 2; a *= 10 {
		digits++
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}

// row is one line of the table.
type row struct {
	what   string
	ours   figure
	peer   figure
	peerIs string // what the peer is; with a star if it was not measured here
	target target
}

// ratio is ours to the peer's, NaN if there is no peer.
func (r row) ratio() float64 {
	if r.peer.unit == "" || r.peer.v == 0 {
		return math.NaN()
	}
	return r.ours.v / r.peer.v
}

// target is a bound on a row. Its zero value is none.
type target struct {
	words string
	met   func(row) bool
}

// ratioAtMost bounds ours to the peer's, as a factor.
func ratioAtMost(x float64) target {
	return target{"≤ " + strconv.FormatFloat(x, 'g', 2, 64) + "×", func(r row) bool { return r.ratio() <= x }}
}

// ratioAtLeast is for rates, of which more is better.
func ratioAtLeast(x float64) target {
	return target{"≥ " + strconv.FormatFloat(x, 'g', 2, 64) + "×", func(r row) bool { return r.ratio() >= x }}
}

// atMost bounds ours, whatever the peer's is.
func atMost(f figure) target {
	return target{"≤ " + f.String(), func(r row) bool { return r.ours.v <= f.v }}
}

func factor(x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	digits := 2
	if x < 0.1 {
		digits = 3
	}
	return strconv.FormatFloat(x, 'f', digits, 64) + "×"
}

func (r row) verdict() string {
	switch {
	case r.target.met == nil:
		return ""
	case r.target.met(r):
		return "yes"
	}
	return "no"
}

// table is the result of a run.
type table struct {
	Machine      machine `json:"machine"`
	Quick        bool    `json:"quick"`
	CSVMegabytes int     `json:"csv_mb"`
	Groups       []measured
}

type measured struct {
	name string
	rows []row
	err  error
}

func (t *table) add(name string, rows []row, err error) {
	t.Groups = append(t.Groups, measured{name, rows, err})
}

func (t *table) print(w io.Writer) error {
	m := t.Machine
	fmt.Fprintf(w, "%s, %d cores, Linux %s, %s; %s; load %s before, %s after\n",
		m.CPU, m.Cores, m.Kernel, m.Go, m.Time.Format("2006-01-02 15:04 MST"), m.LoadBefore, m.LoadAfter)
	if t.Quick {
		fmt.Fprintln(w, "quick: few repetitions, so the p99 columns are about single events")
	}
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "what\tours\tpeer\t\tratio\ttarget\tmet?")
	star := false
	for _, g := range t.Groups {
		fmt.Fprintf(tw, "%s\t\t\t\t\t\t\n", strings.ToUpper(g.name))
		for _, r := range g.rows {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.what, r.ours, r.peer, r.peerIs, factor(r.ratio()), r.target.words, r.verdict())
			star = star || strings.HasSuffix(r.peerIs, "*")
		}
		if g.err != nil {
			fmt.Fprintf(tw, "error: %s\t\t\t\t\t\t\n", g.err)
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if star {
		_, err := fmt.Fprintln(w, "\n* not measured in this run: "+sdkNote)
		return err
	}
	return nil
}

// MarshalJSON writes a group with figures in the base units: seconds, bytes,
// per second.
func (g measured) MarshalJSON() ([]byte, error) {
	type jsonRow struct {
		What   string   `json:"what"`
		Unit   unit     `json:"unit"`
		Ours   float64  `json:"ours"`
		Peer   *float64 `json:"peer"`
		PeerIs string   `json:"peer_is"`
		Here   bool     `json:"peer_measured_here"`
		Ratio  *float64 `json:"ratio"`
		Target string   `json:"target"`
		Met    *bool    `json:"met"`
	}
	out := struct {
		Group string    `json:"group"`
		Rows  []jsonRow `json:"rows"`
		Error string    `json:"error,omitempty"`
	}{Group: g.name, Rows: []jsonRow{}}
	if g.err != nil {
		out.Error = g.err.Error()
	}
	for _, r := range g.rows {
		j := jsonRow{What: r.what, Unit: r.ours.unit, Ours: r.ours.v, PeerIs: strings.TrimSuffix(r.peerIs, "*"), Target: r.target.words}
		if r.peer.unit != "" {
			ratio := r.ratio()
			j.Peer, j.Here = &r.peer.v, !strings.HasSuffix(r.peerIs, "*")
			if !math.IsNaN(ratio) {
				j.Ratio = &ratio
			}
		}
		if r.target.met != nil {
			met := r.target.met(r)
			j.Met = &met
		}
		out.Rows = append(out.Rows, j)
	}
	return json.Marshal(out)
}

func (t *table) printJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(struct {
		*table
		Groups []measured `json:"groups"`
	}{t, t.Groups})
}

// machine is where the figures were measured.
type machine struct {
	CPU        string    `json:"cpu"`
	Cores      int       `json:"cores"`
	Kernel     string    `json:"kernel"`
	Go         string    `json:"go"`
	Time       time.Time `json:"time"`
	LoadBefore string    `json:"load_before"` // mean of a minute
	LoadAfter  string    `json:"load_after"`
}

func thisMachine() machine {
	m := machine{CPU: "unknown CPU", Cores: runtime.NumCPU(), Go: runtime.Version(), Time: time.Now(), LoadBefore: loadAverage()}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				m.CPU = strings.TrimSpace(v)
				break
			}
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return m
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
