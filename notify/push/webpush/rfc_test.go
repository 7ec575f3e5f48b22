package webpush

import (
	"bytes"
	"crypto/ecdh"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"activityfeed/internal/testenv/pushservice"
)

// The example of RFC 8291 section 5 and appendix A.
const (
	rfcPlaintext   = "When I grow up, I want to be a watermelon"
	rfcAuth        = "BTBZMqHH6r4Tts7J_aSIgg"
	rfcUserPublic  = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
	rfcUserPrivate = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"
	rfcAppPrivate  = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
	rfcSalt        = "DGv6ra1nlYgDCS1FRnbzlw"
	rfcBody        = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)

func unbase64(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func private(t *testing.T, text string) *ecdh.PrivateKey {
	t.Helper()
	key, err := ecdh.P256().NewPrivateKey(unbase64(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What we send is byte for byte what the RFC has for its keys and salt.
func TestEncryptIsTheExampleOfTheRFC(t *testing.T) {
	t.Parallel()
	got, err := encrypt([]byte(rfcPlaintext), unbase64(t, rfcUserPublic), unbase64(t, rfcAuth), 0,
		private(t, rfcAppPrivate), [saltSize]byte(unbase64(t, rfcSalt)))
	if err != nil {
		t.Fatal(err)
	}
	if want := unbase64(t, rfcBody); !bytes.Equal(got, want) {
		t.Errorf("encrypt = %x\nwant %x", got, want)
	}
}

// The endpoint that all other tests trust reads the RFC's example.
func TestEndpointDecryptsTheExampleOfTheRFC(t *testing.T) {
	t.Parallel()
	got, padding, err := pushservice.Decrypt(unbase64(t, rfcBody), private(t, rfcUserPrivate), unbase64(t, rfcAuth))
	if err != nil || string(got) != rfcPlaintext || padding != 0 {
		t.Errorf("Decrypt = %q, %d, %v, want %q, 0", got, padding, err, rfcPlaintext)
	}
}

func TestEncryptOfAnyLength(t *testing.T) {
	t.Parallel()
	user, auth := private(t, rfcUserPrivate), unbase64(t, rfcAuth)
	for _, length := range []int{0, 1, 255, 256, 3992, 3993, 10_000} {
		for _, padding := range []int{0, 1, 100} {
			text := bytes.Repeat([]byte{7}, length)
			body, err := Encrypt(text, user.PublicKey().Bytes(), auth, padding)
			if err != nil {
				t.Fatal(err)
			}
			if want := overhead + length + padding; len(body) != want {
				t.Errorf("Encrypt of %d+%d = %d bytes, want %d", length, padding, len(body), want)
			}
			got, gotPadding, err := pushservice.Decrypt(body, user, auth)
			if err != nil || !bytes.Equal(got, text) || gotPadding != padding {
				t.Errorf("Encrypt of %d+%d: decrypted %d bytes, padding %d, %v", length, padding, len(got), gotPadding, err)
			}
		}
	}
}

func TestPublic(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"142.250.1.1":            true,
		"2a00:1450:4001::200a":   true,
		"127.0.0.1":              false,
		"::1":                    false,
		"::ffff:127.0.0.1":       false,
		"0.0.0.0":                false,
		"10.1.2.3":               false,
		"172.16.0.1":             false,
		"192.168.1.1":            false,
		"169.254.169.254":        false,
		"::ffff:169.254.169.254": false,
		"::ffff:100.100.100.200": false,
		"100.100.100.200":        false, // a cloud's metadata
		"fd00:ec2::254":          false, // another's
		"fe80::1":                false,
		"64:ff9b::7f00:1":        false,
		"2002:7f00:1::":          false,
		"224.0.0.1":              false,
		"255.255.255.255":        false,
		"240.0.0.1":              false,
		"198.18.0.1":             false,
	}
	for address, want := range tests {
		if got := public(netip.MustParseAddr(address)); got != want {
			t.Errorf("public(%s) = %v, want %v", address, got, want)
		}
	}
}

// A name that passes every check of names and resolves to this machine: the guard
// stands behind the resolver.
func TestGuardChecksTheResolvedAddress(t *testing.T) {
	t.Parallel()
	requests := 0
	target := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests++ }))
	defer target.Close()
	_, port, _ := bytes.Cut([]byte(target.URL[len("https://"):]), []byte(":"))
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"} {
		conn, err := guardedDialer().DialContext(t.Context(), "tcp", host+":"+string(port))
		if err == nil {
			conn.Close()
			t.Errorf("dial %s went through", host)
			continue
		}
		if out := failure(t.Context(), err); out.Reason != "blocked" || !out.Strike {
			t.Errorf("dial %s = %v: %+v, want blocked", host, err, out)
		}
	}
	if requests != 0 {
		t.Errorf("%d requests arrived", requests)
	}
}
