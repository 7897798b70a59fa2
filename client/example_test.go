package client_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/liop-project/liop/client"
	"github.com/liop-project/liop/core/fault"
	"github.com/liop-project/liop/core/identity"
)

// A whole agent: it loads its identity and grant, asks one question of a node,
// and prints the answer and what the receipt says.
func Example() {
	id, err := identity.Load(os.Getenv("LIOP_HOME"))
	if err != nil {
		log.Fatal(err)
	}
	grant, err := os.ReadFile("grant.jwt")
	if err != nil {
		log.Fatal(err)
	}
	wasm, err := os.ReadFile("filters/stats/stats.wasm")
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	const node = "/ip4/192.0.2.7/udp/7447/quic-v1/p2p/12D3KooW…"
	c, err := client.Dial(ctx, node, client.Options{Identity: id, Grant: strings.TrimSpace(string(grant))})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	answer, err := c.Run(ctx, client.Request{Module: wasm, Args: []string{"--by", "region"}})
	if f, ok := fault.From(err); ok {
		log.Fatalf("%s: %s (hint: %s)", f.Code, f.Message, f.Hint)
	} else if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", answer.Bytes)
	for _, line := range answer.Claim.Words() {
		fmt.Println(line)
	}
}
