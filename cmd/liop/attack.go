package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/client/attack"
	"github.com/liop-project/liop/core/grant"
	"github.com/liop-project/liop/core/guest"
	"github.com/liop-project/liop/core/liopv1"
	"github.com/liop-project/liop/node/sandbox/testdata/hostile"
)

// enoughRuns is how many runs the corpus and the canary may need.
const enoughRuns = 20_000

type attackFlags struct {
	agentFlags
	grant, dataset, only string
	parallel             int
	late                 time.Duration
	list, json           bool
}

func attackCmd() *cobra.Command {
	var f attackFlags
	c := &cobra.Command{
		Use:   "attack NODE [--home DIR] [--grant FILE] [--dataset NAME] [--only REGEXP] [--parallel N]",
		Short: "run every attack we know against a node of your own, and see that it withstands them",
		Long: `Run every attack we know against a node of your own, and see that it withstands
them: modules that never end, take all memory, cannot be compiled in any decent
time, look outside of their datasets, and some hundred more.

Each must be refused in the way that is right for it while an honest agent, the
canary, is served as before: every 50 ms it has something echoed, and checks
answer and receipt. A short time in the grant (liop grant issue --time 300ms)
makes it quick. The grant must allow one run more at the same time than
--parallel.

One line for each attack goes to stdout, the sum to stderr. Exit code 1 means
that something got through, was refused by a wrong rule, held the canary up
twice, or ended the node.`,
		Args: func(c *cobra.Command, args []string) error {
			if want := 1; len(args) != want && !f.list {
				return fmt.Errorf("want NODE, or --list; got %d arguments", len(args))
			}
			return nil
		},
	}
	fs := c.Flags()
	f.register(c)
	fs.StringVar(&f.grant, "grant", "", "file with the grant (default HOME/"+grantFile+")")
	fs.StringVar(&f.dataset, "dataset", "", "dataset to attack (default: the first that the grant names)")
	fs.StringVar(&f.only, "only", "", "only attacks whose name or class matches REGEXP")
	fs.IntVar(&f.parallel, "parallel", attack.DefaultParallel, "attacks at the same time")
	fs.DurationVar(&f.late, "late", attack.DefaultLate, "how much slower than before the honest agent may be served")
	fs.BoolVar(&f.list, "list", false, "say what would be run, and what is right for each")
	fs.BoolVar(&f.json, "json", false, "print one JSON object")
	c.RunE = func(c *cobra.Command, args []string) error {
		attacks, err := matching(f.only)
		if err != nil {
			return usage(c, err)
		}
		if f.list {
			return listAttacks(c.OutOrStdout(), f.json, attacks)
		}
		if f.parallel < 1 || f.parallel > 64 {
			return usage(c, fmt.Errorf("--parallel %d is not 1 to 64", f.parallel))
		}
		if f.late <= 0 {
			return usage(c, fmt.Errorf("--late %s is not a time such as 100ms", f.late))
		}
		return runAttacks(c, f, args[0], attacks)
	}
	return c
}

// matching are the attacks of the corpus whose name or class matches.
func matching(expr string) ([]hostile.Attack, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, fmt.Errorf("--only: %w", err)
	}
	var list []hostile.Attack
	for _, a := range hostile.Corpus() {
		if re.MatchString(a.Name) || re.MatchString(string(a.Class)) {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("--only %q matches no attack; liop attack --list names them", expr)
	}
	return list, nil
}

func listAttacks(w io.Writer, asJSON bool, attacks []hostile.Attack) error {
	type entry struct {
		Name     string        `json:"name"`
		Class    hostile.Class `json:"class"`
		What     string        `json:"what"`
		Expected string        `json:"expected"`
		Runs     int           `json:"runs"`
	}
	list := make([]entry, len(attacks))
	for i, a := range attacks {
		list[i] = entry{a.Name, a.Class, a.What, a.Expect.Words, len(a.Arguments())}
	}
	if asJSON {
		return json.NewEncoder(w).Encode(list)
	}
	for _, e := range list {
		if _, err := fmt.Fprintf(w, "%-31s %-9s %s: %s\n", e.Name, e.Class, e.What, e.Expected); err != nil {
			return err
		}
	}
	return nil
}

func runAttacks(c *cobra.Command, f attackFlags, node string, attacks []hostile.Attack) error {
	attacker, honest, err := dialTwice(c, f, node)
	if err != nil {
		return err
	}
	defer attacker.Close()
	defer honest.Close()

	out := c.OutOrStdout()
	o := attack.Options{Parallel: f.parallel, Late: f.late}
	if !f.json {
		o.Report = func(r attack.Result) { fmt.Fprintln(out, row(r)) }
	}
	start := time.Now()
	s, err := attack.Run(c.Context(), attacker, honest, attacks, o)
	if c.Context().Err() != nil {
		return errors.New("interrupted; nothing is judged")
	}
	if err != nil { // in words: it is no refusal of this command
		return hint(errors.New(err.Error()), "a filter that only echoes its inputs must work with this grant; give it more memory and time")
	}
	if f.json {
		if err := json.NewEncoder(out).Encode(newAttackReport(s)); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "liop: %d of %d attacks passed in %s; the canary called %d times, its median before was %s\n",
		len(s.Results)-len(s.Failed()), len(attacks), time.Since(start).Round(time.Second), s.Calls, ms(s.Quiet))
	if s.Gone != "" {
		return hint(fmt.Errorf("the node went away: %s", s.Gone), "its log says more; --only runs a part of the attacks")
	}
	if n := len(s.Failed()); n > 0 {
		return hint(fmt.Errorf("%d attacks did not pass", n), "run each alone with --only and look at the node's log")
	}
	return nil
}

// dialTwice opens a session for the attacks and one for the canary with the same
// node, in connections of their own.
func dialTwice(c *cobra.Command, f attackFlags, node string) (attacker, honest *client.Client, err error) {
	if attacker, err = dialOnce(c, f, node); err != nil {
		return nil, nil, err
	}
	if err = enough(attacker.Limits(), f.parallel); err == nil {
		if needsMesh(node) { // @NAME might be another one now
			node = attacker.Conn().Peer().String()
		}
		honest, err = dialOnce(c, f, node)
	}
	if err != nil {
		attacker.Close()
		return nil, nil, err
	}
	return attacker, honest, nil
}

// dialOnce opens a session. An agent that had to enter the mesh stays there
// until the command ends.
func dialOnce(c *cobra.Command, f attackFlags, node string) (*client.Client, error) {
	me, err := f.load(c)
	if err != nil {
		return nil, err
	}
	var files []string
	if f.grant != "" {
		files = []string{f.grant}
	}
	chain, err := me.readGrants(files)
	if err != nil {
		return nil, err
	}
	if f.dataset == "" {
		if f.dataset, err = firstDataset(chain); err != nil {
			return nil, err
		}
	}
	if err := me.reach(c.Context(), node); err != nil {
		return nil, err
	}
	o := me.options(chain)
	o.Datasets = []string{f.dataset}
	return client.Dial(c.Context(), node, o)
}

// enough checks that a session leaves room for all attacks and the canary.
func enough(l *liopv1.Limits, parallel int) error {
	if int(l.Concurrency) <= parallel {
		return hint(fmt.Errorf("the session allows %d runs at the same time, and the canary needs one besides --parallel %d", l.Concurrency, parallel),
			"lower --parallel, or ask for a grant with a larger concurrency")
	}
	if l.RunsLimited && l.RunsLeft < enoughRuns {
		return hint(fmt.Errorf("the grant has %d runs left, too few for all attacks and the canary", l.RunsLeft),
			"ask for a grant with at least %d runs", enoughRuns)
	}
	return nil
}

// firstDataset is the first that a grant names without a pattern.
func firstDataset(chain string) (string, error) {
	g, err := grant.Inspect(chain)
	if err != nil {
		return "", err
	}
	for _, d := range g.Datasets {
		if guest.ValidDataset(d) == nil {
			return d, nil
		}
	}
	return "", hint(fmt.Errorf("the grant names no dataset but patterns"), "name one with --dataset")
}

// row is the line of one attack: verdict, name, class, time, slowest call of
// the canary, what happened.
func row(r attack.Result) string {
	verdict, why := "ok", r.Got
	switch {
	case !r.Right:
		verdict, why = "WRONG", why+"; right is: "+r.Expected
	case r.CanaryError != "":
		verdict, why = "WRONG", "the canary: "+r.CanaryError
	case r.Late:
		verdict, why = "LATE", why+"; the canary was late twice"
	case r.Repeated:
		why += " (repeated: the canary was late)"
	}
	return fmt.Sprintf("%-5s %-31s %-9s %9s %9s  %s", verdict, r.Name, r.Class, ms(r.Time), ms(r.Canary), why)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }

// attackReport is a summary in JSON: times in milliseconds.
type attackReport struct {
	Passed  bool           `json:"passed"`
	Gone    string         `json:"gone,omitempty"`
	QuietMS float64        `json:"quiet_ms"`
	Calls   int            `json:"canary_calls"`
	Attacks []attackResult `json:"attacks"`
}

type attackResult struct {
	Name        string        `json:"name"`
	Class       hostile.Class `json:"class"`
	Expected    string        `json:"expected"`
	Got         string        `json:"got"`
	Passed      bool          `json:"passed"`
	Right       bool          `json:"right"`
	Late        bool          `json:"late"`
	Repeated    bool          `json:"repeated"`
	TimeMS      float64       `json:"time_ms"`
	CanaryMS    float64       `json:"canary_ms"`
	CanaryError string        `json:"canary_error,omitempty"`
}

func newAttackReport(s *attack.Summary) attackReport {
	msOf := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	out := attackReport{Passed: s.Passed(), Gone: s.Gone, QuietMS: msOf(s.Quiet), Calls: s.Calls, Attacks: []attackResult{}}
	for _, r := range s.Results {
		out.Attacks = append(out.Attacks, attackResult{r.Name, r.Class, r.Expected, r.Got, r.Passed(), r.Right, r.Late, r.Repeated,
			msOf(r.Time), msOf(r.Canary), r.CanaryError})
	}
	return out
}
