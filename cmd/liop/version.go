package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/liop-project/liop/node/sandbox/wire"
)

func versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version of this program, its engine and its protocol",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			version, revision := "(devel)", ""
			if info, ok := debug.ReadBuildInfo(); ok {
				if v := info.Main.Version; v != "" {
					version = v
				}
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						revision = " " + s.Value
					}
				}
			}
			w := c.OutOrStdout()
			fmt.Fprintf(w, "liop %s%s %s/%s %s\n", version, revision, runtime.GOOS, runtime.GOARCH, runtime.Version())
			fmt.Fprintf(w, "protocol liop.v1, lanes /liop/grpc/1.0.0\n")
			fmt.Fprintf(w, "engine %s\n", wire.Fingerprint)
			return nil
		},
	}
}
