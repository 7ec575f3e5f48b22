package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"activityfeed/analytics"
)

// dial connects to the API of a running server, in plaintext unless an option says
// otherwise.
func dial(addr string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	options = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, options...)
	conn, err := grpc.NewClient(addr, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return conn, nil
}

var errNoAPI = errors.New("no API: give --api, or the --data-dir of a server with the role api")

// security is how to speak to the API that resolve has found: TLS or plaintext.
func (t target) security(e endpoints) (grpc.DialOption, error) {
	if e.API == "" {
		return nil, errNoAPI
	}
	if e.APICert == "" && !t.APITLS && t.APICAFile == "" {
		return grpc.WithTransportCredentials(insecure.NewCredentials()), nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.APIServerName}
	authorities := []byte(e.APICert)
	if e.APICert != "" {
		shown, err := certificateOf(authorities)
		if err != nil {
			return nil, fmt.Errorf("the API's certificate in %s: %w", endpointsFile(t.DataDir), err)
		}
		// We ask at 127.0.0.1, which is seldom the name that clients know.
		cfg.ServerName = cmp.Or(cfg.ServerName, nameOf(shown))
	}
	if t.APICAFile != "" {
		var err error
		if authorities, err = os.ReadFile(t.APICAFile); err != nil {
			return nil, err
		}
	}
	if len(authorities) > 0 { // else the system's
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, fmt.Errorf("--api-ca-file: no PEM certificate is in %s", t.APICAFile)
		}
	}
	return grpc.WithTransportCredentials(credentials.NewTLS(cfg)), nil
}

// explain adds what to do where it is about TLS.
func (t target) explain(err error) error {
	if strings.Contains(err.Error(), "failed to verify certificate") {
		return fmt.Errorf("%w (--api-ca-file says who has signed the API's certificate, --api-server-name for which host it is)", err)
	}
	if strings.Contains(err.Error(), "error reading server preface") && !t.APITLS && t.APICAFile == "" {
		return fmt.Errorf("%w (if the API speaks TLS, say so with --api-tls or --api-ca-file)", err)
	}
	return err
}

// certificateOf returns the first certificate of a chain.
func certificateOf(chain []byte) (*x509.Certificate, error) {
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, errors.New("no PEM certificate")
}

// nameOf returns a host for which the certificate is good, empty if there is none.
func nameOf(cert *x509.Certificate) string {
	switch {
	case len(cert.DNSNames) > 0:
		return strings.Replace(cert.DNSNames[0], "*", "any", 1)
	case len(cert.IPAddresses) > 0:
		return cert.IPAddresses[0].String()
	}
	return ""
}

// printTable writes a table in the one style of all commands.
func (c *console) printTable(t table.Writer) {
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header, t.Style().Format.Footer = text.FormatDefault, text.FormatDefault
	fmt.Fprintln(c.out, t.Render())
	fmt.Fprintln(c.out)
}

// analyticsConfig is how a tool reaches the ClickHouse of a running server.
func analyticsConfig(e endpoints) analytics.Config {
	return analytics.Config{
		Addr: strings.Join(e.ClickHouse.Addr, ","), Database: e.ClickHouse.Database,
		Username: e.ClickHouse.Username, Password: e.ClickHouse.Password,
	}
}
