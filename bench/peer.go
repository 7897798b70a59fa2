//go:build linux && cgo

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os/exec"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// peerName is how this binary is started to be the mTLS server.
const peerName = "liop-bench-peer"

// peerHost is the name in the certificate of both ends.
const peerHost = "peer"

// mtls is the peer of all calls: a gRPC server over TCP with mutual TLS 1.3 and
// Ed25519 certificates, in a process of its own, that serves grpc.health.v1 as
// a node does.
type mtls struct {
	child  *child
	addr   string
	config *tls.Config // of clients
}

// credential is one self-signed certificate, which both ends have and trust.
type credential struct {
	Cert []byte
	Key  ed25519.PrivateKey
}

func newCredential() (credential, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return credential{}, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{peerHost},
		IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, public, private)
	return credential{der, private}, err
}

func (c credential) config() (*tls.Config, error) {
	leaf, err := x509.ParseCertificate(c.Cert)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{c.Cert}, PrivateKey: c.Key, Leaf: leaf}},
		RootCAs:      pool, ServerName: peerHost, // as a client
		ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, // as a server
		MinVersion: tls.VersionTLS13,
	}, nil
}

// startPeer starts the server. The caller must stop it.
func (l *lab) startPeer(ctx context.Context) (*mtls, error) {
	c, err := newCredential()
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	p := &mtls{}
	if p.config, err = c.config(); err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{peerName}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if p.child, err = startChild(cmd, filepath.Join(l.dir, "peer.log")); err != nil {
		return nil, err
	}
	p.child.stdin = in
	if err = gob.NewEncoder(in).Encode(c); err == nil {
		p.addr, err = p.child.line(ctx)
	}
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("mTLS peer: %w", err)
	}
	return p, nil
}

func (p *mtls) stop()    { p.child.stop() }
func (p *mtls) pid() int { return p.child.cmd.Process.Pid }

// dial makes a client; like every one of gRPC it connects at its first call.
func (p *mtls) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+p.addr, grpc.WithTransportCredentials(credentials.NewTLS(p.config)))
}

// servePeer is the process peerName: it prints its address, and ends when its
// stdin does.
func servePeer(stdin io.Reader, stdout io.Writer) error {
	var c credential
	if err := gob.NewDecoder(stdin).Decode(&c); err != nil {
		return fmt.Errorf("read credential: %w", err)
	}
	config, err := c.config()
	if err != nil {
		return err
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
	healthpb.RegisterHealthServer(s, health.NewServer())
	fmt.Fprintln(stdout, lis.Addr())
	go func() {
		io.Copy(io.Discard, stdin)
		s.Stop()
	}()
	if err := s.Serve(lis); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// emptyCallOn is an operation: one call of grpc.health.v1.Health/Check, whose
// request is empty and whose answer has two bytes.
func emptyCallOn(c grpc.ClientConnInterface) func(context.Context) error {
	h := healthpb.NewHealthClient(c)
	return func(ctx context.Context) error {
		_, err := h.Check(ctx, &healthpb.HealthCheckRequest{})
		return err
	}
}
