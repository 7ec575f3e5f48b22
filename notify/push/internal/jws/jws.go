// Package jws signs the small tokens by which a push service knows us: JSON Web
// Tokens with ES256 (RFC 7515, RFC 7518 section 3.4). Only signing: whoever checks
// them is somebody else.
package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
)

// ES256 returns the compact form of claims signed with key, which must be of P-256.
// header is the JOSE header without "alg" and "typ". The same input gives the same
// token (RFC 6979), so that processes that share a key can share tokens unasked.
func ES256(key *ecdsa.PrivateKey, header map[string]string, claims any) (string, error) {
	if key.Curve != elliptic.P256() {
		return "", errors.New("ES256 needs a key of P-256")
	}
	full := map[string]string{"alg": "ES256", "typ": "JWT"}
	maps.Copy(full, header)
	head, err := json.Marshal(full)
	if err != nil {
		return "", fmt.Errorf("token header: %w", err)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("token claims: %w", err)
	}
	b64 := base64.RawURLEncoding
	signed := b64.EncodeToString(head) + "." + b64.EncodeToString(body)
	hash := sha256.Sum256([]byte(signed))
	der, err := key.Sign(nil, hash[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	// r and s as 32 bytes each, not the ASN.1 of crypto/ecdsa.
	var point struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &point); err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	var signature [64]byte
	point.R.FillBytes(signature[:32])
	point.S.FillBytes(signature[32:])
	return signed + "." + b64.EncodeToString(signature[:]), nil
}

// PEMType is the type of the PEM blocks that ParseKey reads.
const PEMType = "PRIVATE KEY"

// ParseKey reads a private key of P-256, PKCS#8 in PEM, as Apple's .p8 files are.
// Its errors show nothing of the key.
func ParseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != PEMType {
		return nil, errors.New("not a private key in PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not a private key in PKCS#8")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("not a key of the curve P-256")
	}
	return key, nil
}
