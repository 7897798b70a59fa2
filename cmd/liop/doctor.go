package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/liop-project/liop/node"
)

func doctorCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor [--home DIR] [--config node.toml] [--json]",
		Short: "say what this machine lacks for a data node, and how to mend it",
		Long: `Say what this machine lacks for a data node, and how to mend it.

It starts workers as a node would, under the user that runs it, so run it as the
user that the node will run as. A "gap" is what containment = "strict" in
node.toml refuses to start with; with "best-effort", the default, the node runs
without and says so in its log and in every receipt.

The exit code is 1 if there is a gap or an error.`,
		Args: cobra.NoArgs,
	}
	home := homeFlag(c)
	file := c.Flags().String("config", "", "configuration file (default HOME/node.toml if it is there)")
	asJSON := c.Flags().Bool("json", false, "print a list of JSON objects")
	c.RunE = func(c *cobra.Command, _ []string) error {
		dir, err := homeDir(*home)
		if err != nil {
			return err
		}
		conf, err := nodeConfig(dir, *file)
		if err != nil {
			return err
		}
		found := node.Examine(c.Context(), conf)
		if *asJSON {
			err = json.NewEncoder(c.OutOrStdout()).Encode(found)
		} else {
			err = printFindings(c, found)
		}
		if err != nil {
			return err
		}
		gaps, errs := 0, 0
		for _, f := range found {
			switch f.Verdict {
			case node.Gap:
				gaps++
			case node.Bad:
				errs++
			}
		}
		switch {
		case errs > 0:
			return errors.New("a data node cannot start here as it is configured")
		case gaps > 0:
			return hint(fmt.Errorf("the containment of workers has %d gap(s) here", gaps), "the lines above say how to mend them")
		}
		return nil
	}
	return c
}

func printFindings(c *cobra.Command, found []node.Finding) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, f := range found {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Verdict, f.Name, f.Says)
		if f.Mend != "" {
			fmt.Fprintf(w, "\t\tto mend: %s\n", f.Mend)
		}
	}
	return w.Flush()
}
