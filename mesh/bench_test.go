package mesh

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/liop-project/liop/core/liopv1"
)

// BenchmarkEmptyCall is a unary call without content on an open lane, beside
// the same call over gRPC with mutual TLS 1.3 and Ed25519 certificates.
func BenchmarkEmptyCall(b *testing.B) {
	for _, name := range []string{"quic", "tcp"} {
		b.Run(name, func(b *testing.B) {
			node := newHost(b, Config{Listen: []string{transports[name]}})
			serve(b, node, Control, ServeOptions{}, logicMesh{})
			c := dial(b, newHost(b, Config{}), node.Addrs()[0])
			emptyCalls(b, c.Lane(Control))
		})
	}
	b.Run("mtls", func(b *testing.B) {
		server, client := mutualTLS(b)
		c := dialTLS(b, serveTLS(b, server), client)
		defer c.Close()
		emptyCalls(b, c)
	})
}

func emptyCalls(b *testing.B, c grpc.ClientConnInterface) {
	l := liopv1.NewLogicMeshClient(c)
	if _, err := l.NegotiateIntent(context.Background(), &liopv1.IntentRequest{}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.NegotiateIntent(context.Background(), &liopv1.IntentRequest{}); err != nil {
			b.Fatal(err)
		}
	}
}

// coldDial dials, makes one call, and hangs up.
func coldDial(b *testing.B, agent, node *Host) {
	gone := make(chan struct{}, 1)
	agent.OnDisconnect(func(peer.ID) { gone <- struct{}{} })
	for b.Loop() {
		c, err := agent.Dial(context.Background(), node.Addrs()[0])
		if err != nil {
			b.Fatal(err)
		}
		if _, err := liopv1.NewLogicMeshClient(c.Lane(Control)).NegotiateIntent(context.Background(), &liopv1.IntentRequest{}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		c.Close()
		<-gone
		b.StartTimer()
	}
}

// BenchmarkColdDial is from no connection to the first answer. The agent's host
// exists before, as a client's certificate does.
func BenchmarkColdDial(b *testing.B) {
	for _, name := range []string{"quic", "tcp"} {
		b.Run(name, func(b *testing.B) {
			node := newHost(b, Config{Listen: []string{transports[name]}})
			serve(b, node, Control, ServeOptions{}, logicMesh{})
			coldDial(b, newHost(b, Config{}), node)
		})
		b.Run(name+"-member", func(b *testing.B) {
			o := newOperator(b)
			node, _ := closedNode(b, o, transports[name], nil)
			agent := newHost(b, Config{})
			show(agent, o.token(b, agent.ID()))
			coldDial(b, agent, node)
		})
	}
	b.Run("mtls", func(b *testing.B) {
		server, client := mutualTLS(b)
		addr := serveTLS(b, server)
		for b.Loop() {
			c := dialTLS(b, addr, client)
			if _, err := liopv1.NewLogicMeshClient(c).NegotiateIntent(context.Background(), &liopv1.IntentRequest{}); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			c.Close()
			b.StartTimer()
		}
	})
}

func serveTLS(b *testing.B, config *tls.Config) (addr string) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
	logicMesh{}.register(s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(l)
	}()
	b.Cleanup(func() {
		s.Stop()
		<-done
	})
	return l.Addr().String()
}

func dialTLS(b *testing.B, addr string, config *tls.Config) *grpc.ClientConn {
	b.Helper()
	c, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// mutualTLS makes both ends' configurations with one self-signed certificate.
func mutualTLS(b *testing.B) (server, client *tls.Config) {
	b.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotAfter:              time.Now().Add(time.Hour),
		DNSNames:              []string{"node"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		b.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	own := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}
	return &tls.Config{
			Certificates: own, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
		}, &tls.Config{
			Certificates: own, RootCAs: pool, ServerName: "node", MinVersion: tls.VersionTLS13,
		}
}
