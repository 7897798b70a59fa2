package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/liop-project/liop/node"
)

func nodeCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "node [--home DIR] [--config node.toml] [--data NAME=DIR]... [--listen MULTIADDR]... [--issuer FILE]... [--bootstrap MULTIADDR]...",
		Short: "serve datasets to agents that hold a grant",
		Long: `Serve datasets to agents that hold a grant.

Once it accepts calls, the node prints one line for each address that agents can
dial, and nothing else, on stdout. Its log goes to stderr. SIGTERM or SIGINT
lets running executions end and then stops; a second one stops at once.

Flags are added to what the configuration file says; --listen replaces it.`,
		Args: cobra.NoArgs,
	}
	home := homeFlag(c)
	file := c.Flags().String("config", "", "configuration file (default HOME/node.toml if it is there)")
	data := c.Flags().StringArray("data", nil, "serve directory DIR as dataset NAME")
	listen := c.Flags().StringArray("listen", nil, "multiaddr to listen on, instead of the default or configured ones")
	issuers := c.Flags().StringArray("issuer", nil, "file with the peer id of an issuer whose grants count")
	bootstrap := c.Flags().StringArray("bootstrap", nil, "multiaddr of a peer by which to join its mesh")
	mdns := c.Flags().Bool("mdns", false, "find other nodes on the local network, and be found there")
	c.RunE = func(c *cobra.Command, _ []string) error {
		dir, id, err := loadIdentity(*home)
		if err != nil {
			return err
		}
		conf, err := nodeConfig(dir, *file)
		if err != nil {
			return err
		}
		for _, d := range *data {
			name, path, ok := strings.Cut(d, "=")
			if !ok || name == "" || path == "" {
				return usage(c, fmt.Errorf("--data %q is not NAME=DIR", d))
			}
			conf.Datasets = append(conf.Datasets, node.Dataset{Name: name, Dir: path})
		}
		if len(*listen) > 0 {
			conf.Listen = *listen
		}
		conf.Issuers = append(conf.Issuers, *issuers...)
		conf.Mesh.Bootstrap = append(conf.Mesh.Bootstrap, *bootstrap...)
		conf.Mesh.MDNS = conf.Mesh.MDNS || *mdns

		log := newLog()
		n, err := node.Start(c.Context(), dir, id, conf, log)
		if err != nil {
			return err
		}
		return serve(c, n, log)
	}
	return c
}

// serve prints the node's addresses and waits for a signal.
func serve(c *cobra.Command, n *node.Node, log *slog.Logger) error {
	for _, a := range n.Addrs() {
		fmt.Fprintln(c.OutOrStdout(), a)
	}
	<-c.Context().Done() // the first signal
	again, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	n.Drain(again)
	err := n.Close()
	if again.Err() != nil {
		return errors.New("stopped by a second signal before every run had ended")
	}
	log.Info("node stopped")
	return err
}

func nodeConfig(home, path string) (node.Config, error) {
	if path == "" {
		path = filepath.Join(home, "node.toml")
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return node.Config{}, nil
		}
	}
	return node.ReadConfig(path)
}

func newLog() *slog.Logger {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, nil))
}
