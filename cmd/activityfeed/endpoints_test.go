package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"activityfeed/internal/load"
	"activityfeed/internal/testenv"
)

// What a server has written is good as long as it runs, and not a moment longer.
func TestResolve(t *testing.T) {
	t.Parallel()
	var running endpoints
	running.API, running.APICert, running.Kafka = "127.0.0.1:1", "PEM", []string{"127.0.0.1:2"}
	published := func(t *testing.T, dir string) {
		withdraw, err := running.publish(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := withdraw(); err != nil {
				t.Errorf("withdraw() = %v", err)
			}
			if _, err := os.Stat(endpointsFile(dir)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the file of a server that has stopped in order: %v", err)
			}
		})
	}
	killed := func(t *testing.T, dir string) {
		if err := os.WriteFile(endpointsFile(dir), []byte(`{"pid": 4711, "api": "127.0.0.1:1", "kafka": ["127.0.0.1:2"], "redis": ["127.0.0.1:3"]}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func(*testing.T, string) {}
	for _, tt := range []struct {
		name   string
		before func(t *testing.T, dir string)
		target target
		want   endpoints
		err    string // DIR stands for the folder
	}{
		{"running", published, target{}, endpoints{PID: os.Getpid(), API: "127.0.0.1:1", APICert: "PEM", Kafka: []string{"127.0.0.1:2"}}, ""},
		{
			"running, and another API", published,
			target{API: "other:1"},
			endpoints{PID: os.Getpid(), API: "other:1", Kafka: []string{"127.0.0.1:2"}},
			"",
		},
		{
			"never", nothing,
			target{},
			endpoints{},
			"no server is running in DIR: start it with 'activityfeed serve --data-dir DIR'",
		},
		{
			"killed", killed,
			target{},
			endpoints{},
			"no server is running in DIR (the last one had pid 4711): start it with 'activityfeed serve --data-dir DIR'",
		},
		{"killed, but addresses are given", killed, target{API: "other:1", Kafka: []string{"other:2"}}, endpoints{API: "other:1", Kafka: []string{"other:2"}}, ""},
		{"never, but brokers are given", nothing, target{Kafka: []string{"other:2"}}, endpoints{Kafka: []string{"other:2"}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.target.DataDir = t.TempDir()
			tt.before(t, tt.target.DataDir)
			for range 2 { // looking changes nothing
				got, err := tt.target.resolve()
				if tt.err != "" {
					if want := strings.ReplaceAll(tt.err, "DIR", tt.target.DataDir); err == nil || !strings.HasPrefix(err.Error(), want) {
						t.Errorf("resolve() = %v, want %q", err, want)
					}
					continue
				}
				if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
					t.Errorf("resolve() = %v, (-want +got):\n%s", err, diff)
				}
			}
		})
	}
}

// A server that ends late takes nothing away from the one that came after it.
func TestWithdrawLeavesTheNextServersFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	withdrawFirst, err := endpoints{API: "first:1"}.publish(dir)
	if err != nil {
		t.Fatal(err)
	}
	withdrawSecond, err := endpoints{API: "second:1"}.publish(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := withdrawFirst(); err != nil {
		t.Errorf("withdraw() = %v", err)
	}
	if e, err := (target{DataDir: dir}).resolve(); err != nil || e.API != "second:1" {
		t.Errorf("resolve() = %+v, %v; want the second server's", e, err)
	}
	if err := withdrawSecond(); err != nil {
		t.Errorf("withdraw() = %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
}

// A load that has begun waits for a server that is being started again.
func TestLoadWaitsForARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		err := (&loadCmd{Target: target{DataDir: t.TempDir()}, Load: load.Config{Patience: time.Minute}}).settle(t.Context())
		var away noServerError
		if waited := time.Since(begun); !errors.As(err, &away) || waited < time.Minute || waited > 2*time.Minute {
			t.Errorf("settle() = %v after %s, want none running after a minute of patience", err, waited)
		}
	})
}

// The whole life of a server that speaks TLS: the tools find it and trust it by its
// data folder, and say at once when it is gone, killed or stopped.
func TestToolsFindTheServerAndItsEnd(t *testing.T) {
	testenv.Redis(t) // needs a redis-server, and says so
	bin := filepath.Join(t.TempDir(), "activityfeed")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	dir, graph := t.TempDir(), generatedGraph(t, 20)
	cert, key := certificate(t, "feeds.example.com")
	other, _ := certificate(t, "feeds.example.com")
	start := func() *process {
		return startAndRead(t, bin, dir, "--roles", "api,feed", "--api-cert-file", cert, "--api-key-file", key)
	}
	srv := start()
	e, err := target{DataDir: dir}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want, wantErr string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), bin, append(args, "--data-dir", dir)...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		if (err != nil) != (wantErr != "") || !strings.Contains(stdout.String(), want) || !strings.Contains(stderr.String(), wantErr) {
			t.Errorf("%q: %v, want %q on stdout and %q on stderr\nstdout:\n%s\nstderr:\n%s", args, err, want, wantErr, stdout.String(), stderr.String())
		}
		if lines := strings.Count(stderr.String(), "\n"); strings.HasPrefix(wantErr, "no server") && lines != 1 {
			t.Errorf("%q said %d lines, want one:\n%s", args, lines, stderr.String())
		}
	}
	gone := func(wantErr string) {
		t.Helper()
		for _, args := range [][]string{
			{"audit"},
			{"load", "--graph", graph},
			{"sql", "posts_daily"},
			{"rebuild"},
			{"poison", "list", "feed"},
		} {
			expect("", wantErr, args...)
		}
	}

	expect("│ PhotoPosted", "", "load", "--graph", graph, "--posts", "20", "--warm", "1")
	expect("│ users checked", "", "audit")
	expect("│ users checked", "", "audit", "--api", e.API, "--kafka", e.Kafka[0], "--api-ca-file", cert, "--api-server-name", "feeds.example.com")
	expect("", "--api-ca-file says who has signed", "audit", "--api-ca-file", other, "--patience", "1ms")

	srv.kill(t)
	gone(fmt.Sprintf("no server is running in %s (the last one had pid %d): start it with 'activityfeed serve --data-dir %s'", dir, srv.cmd.Process.Pid, dir))
	srv = start()
	expect("│ users checked", "", "audit")
	srv.stop(t)
	gone("no server is running in " + dir)
}

// startAndRead starts a server and returns when it says that it is up.
func startAndRead(t *testing.T, bin, dir string, args ...string) *process {
	t.Helper()
	p := &process{dir: dir, log: new(bytes.Buffer)}
	p.cmd = exec.Command(bin, append([]string{"serve", "--data-dir", dir, "--api-addr", "127.0.0.1:0", "--ops", "127.0.0.1:0"}, args...)...)
	p.cmd.Stderr = p.log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "Ctrl-C") {
			return p // what follows is nothing, which fits into the pipe
		}
	}
	_ = p.cmd.Wait()
	t.Fatalf("server does not come up:\n%s", p.log.String())
	return nil
}

// certificate writes a certificate that signs itself, for a name that is not where the
// server listens.
func certificate(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}
