package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/member"
)

func memberCmd() *cobra.Command {
	c := &cobra.Command{Use: "member", Short: "issue and inspect membership tokens: who belongs to a closed mesh", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(memberIssueCmd(), memberShowCmd())
	return c
}

func memberIssueCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "issue [--home DIR] --for PEER --mesh NAME [--serves PATTERN]...",
		Short: "sign a membership token with the identity of this home",
		Long: `Sign a membership token with the identity of this home.

The token lets one node or agent (--for) into the closed mesh of that name, at
every node that has this identity among its operators. Nodes keep it in the file
that their configuration names (member in [mesh]), agents in HOME/member.jwt.

With --serves a node may also serve datasets in this operator's name.`,
		Args: cobra.NoArgs,
	}
	home := homeFlag(c)
	peer := c.Flags().String("for", "", "peer id of the node or agent")
	mesh := c.Flags().String("mesh", "", "name of the mesh")
	serves := c.Flags().StringArray("serves", nil, "dataset that the member may serve, or scope/* for all below it")
	expires := c.Flags().Duration("expires", member.DefaultLifetime, "how long the token is good for, at most 8784h (366 days)")
	out := c.Flags().String("out", "", "write the token to this file instead of stdout")
	for _, f := range []string{"for", "mesh"} {
		c.MarkFlagRequired(f)
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		id, err := identity.ParseID(*peer)
		if err != nil {
			return usage(c, fmt.Errorf("--for: %w", err))
		}
		if *expires <= 0 { // which the spec takes for its default
			return usage(c, fmt.Errorf("--expires %s is not in the future", *expires))
		}
		spec := member.Spec{Member: id, Mesh: *mesh, Serves: *serves, Lifetime: *expires}
		if err := spec.Validate(); err != nil {
			return usage(c, err)
		}
		_, operator, err := loadIdentity(*home)
		if err != nil {
			return err
		}
		token, err := member.Issue(operator.Ed25519(), spec, time.Now())
		if err != nil {
			return err
		}
		if *out == "" {
			_, err := fmt.Fprintln(c.OutOrStdout(), token)
			return err
		}
		return os.WriteFile(*out, []byte(token+"\n"), 0o600)
	}
	return c
}

func memberShowCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "show FILE [--json]",
		Short: "say in words what a membership token says (- for stdin)",
		Args:  cobra.ExactArgs(1),
	}
	asJSON := c.Flags().Bool("json", false, "print one JSON object instead")
	c.RunE = func(c *cobra.Command, args []string) error {
		token, err := readToken(args[0], 2*member.MaxToken)
		if err != nil {
			return err
		}
		m, err := member.Inspect(token)
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(struct {
				Member   string    `json:"member"`
				Mesh     string    `json:"mesh"`
				Operator string    `json:"operator"`
				Serves   []string  `json:"serves"`
				From     time.Time `json:"from"`
				Until    time.Time `json:"until"`
				ID       string    `json:"id"`
			}{m.Member.String(), m.Mesh, m.Operator.String(), append([]string{}, m.Serves...), m.NotBefore, m.Expires, m.ID})
		}
		for _, line := range m.Words() {
			fmt.Fprintln(c.OutOrStdout(), line)
		}
		return nil
	}
	return c
}

// memberToken is the token in a home, "" if there is none.
func memberToken(home string) (string, error) {
	token, err := member.ReadFile(filepath.Join(home, member.FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return token, err
}
