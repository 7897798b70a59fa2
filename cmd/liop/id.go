package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/liop-project/liop/core/identity"
)

// homeFlag adds --home to a command.
func homeFlag(c *cobra.Command) *string {
	return c.Flags().String("home", "", "folder with the identity and state (default $LIOP_HOME, else $XDG_CONFIG_HOME/liop)")
}

// homeDir is the folder that --home, LIOP_HOME or the system's convention names.
func homeDir(flag string) (string, error) {
	if flag == "" {
		flag = os.Getenv("LIOP_HOME")
	}
	if flag != "" {
		return filepath.Abs(flag)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", hint(err, "say where with --home or LIOP_HOME")
	}
	return filepath.Join(dir, "liop"), nil
}

func loadIdentity(flag string) (home string, id *identity.Identity, err error) {
	if home, err = homeDir(flag); err != nil {
		return "", nil, err
	}
	if id, err = identity.Load(home); err != nil {
		return "", nil, missing(err, "make an identity with: liop id new --home %s", home)
	}
	return home, id, nil
}

func idCmd() *cobra.Command {
	c := &cobra.Command{Use: "id", Short: "make or show the identity of this home", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}

	create := &cobra.Command{Use: "new [--home DIR]", Short: "make an identity and print its peer id", Args: cobra.NoArgs}
	home := homeFlag(create)
	create.RunE = func(c *cobra.Command, _ []string) error {
		dir, err := homeDir(*home)
		if err != nil {
			return err
		}
		id, err := identity.Create(dir)
		if err != nil {
			return err
		}
		fmt.Fprintln(c.OutOrStdout(), id.ID())
		return nil
	}

	show := &cobra.Command{Use: "show [--home DIR]", Short: "print the peer id", Args: cobra.NoArgs}
	homeShow := homeFlag(show)
	show.RunE = func(c *cobra.Command, _ []string) error {
		_, id, err := loadIdentity(*homeShow)
		if err != nil {
			return err
		}
		fmt.Fprintln(c.OutOrStdout(), id.ID())
		return nil
	}
	c.AddCommand(create, show)
	return c
}
