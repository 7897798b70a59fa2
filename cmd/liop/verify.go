package main

import (
	"crypto/sha256"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/liop-project/liop/core/identity"
	"github.com/liop-project/liop/core/receipt"
)

func verifyCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify RECEIPT [--answer FILE] [--module FILE] [--node PEER]",
		Short: "check a receipt offline and say what it proves",
		Long: `Check a receipt offline and say what it proves.

The signature is always checked, against the key in the node's id. With --answer
and --module the files must be those that the receipt is about; with --node the
receipt must be of that node. RECEIPT and one FILE may be - for stdin.`,
		Args: cobra.ExactArgs(1),
	}
	answer := c.Flags().String("answer", "", "file with the answer")
	module := c.Flags().String("module", "", "file with the module")
	node := c.Flags().String("node", "", "peer id of the node that you asked")
	c.RunE = func(c *cobra.Command, args []string) error {
		e := receipt.Expect{Skip: receipt.AllFields}
		checked := "its signature"
		if *node != "" {
			id, err := identity.ParseID(*node)
			if err != nil {
				return usage(c, fmt.Errorf("--node: %w", err))
			}
			e.Node = id
			e.Skip &^= receipt.FieldNode
			checked += ", the node"
		}
		jws, err := readToken(args[0], receipt.MaxReceipt+1)
		if err != nil {
			return err
		}
		if *answer != "" {
			if e.Answer, err = readFile(*answer, maxInputFile); err != nil {
				return err
			}
			e.Skip &^= receipt.FieldAnswer
			checked += ", the answer"
		}
		if *module != "" {
			wasm, err := readFilter(*module)
			if err != nil {
				return err
			}
			e.Module = sha256.Sum256(wasm)
			e.Skip &^= receipt.FieldModule
			checked += ", the module"
		}
		claim, err := receipt.Parse(jws)
		if err != nil {
			return err
		}
		if err := claim.Check(e); err != nil {
			return err
		}
		w := c.OutOrStdout()
		fmt.Fprintf(w, "verified: %s\n", checked)
		for _, line := range claim.Words() {
			fmt.Fprintln(w, line)
		}
		return nil
	}
	return c
}
