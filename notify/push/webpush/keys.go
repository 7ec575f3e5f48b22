package webpush

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"activityfeed/notify/push/internal/jws"
)

// LoadKey returns the VAPID key of a file (PKCS#8 in PEM), and makes file and key,
// readable by its owner alone, if there is no file. Of many starters one makes it.
// A file that cannot be read is an error: a new key would end every subscription,
// for browsers bind them to the key.
func LoadKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := makeKey(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the VAPID key %s: %w", path, err)
	}
	return readKey(path)
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the VAPID key: %w", err)
	}
	key, err := jws.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("the VAPID key %s: %w", path, err)
	}
	return key, nil
}

// makeKey writes a new key under another name and links it to its own: nobody sees
// half a key, and a second starter gets fs.ErrExist.
func makeKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".vapid-*") // 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // the link keeps the file
	_, err = file.Write(pem.EncodeToMemory(&pem.Block{Type: jws.PEMType, Bytes: der}))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Link(file.Name(), path)
}

// ParseKey returns the VAPID key of its usual short form, the 32 bytes of the
// private number in base64url, as `web-push generate-vapid-keys` prints it.
func ParseKey(text string) (*ecdsa.PrivateKey, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		// The error would show a part of the key.
		return nil, errors.New("the VAPID key is not base64url")
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
	if err != nil {
		return nil, errors.New("the VAPID key is not a private key of P-256 (32 bytes)")
	}
	return key, nil
}

// publicKey returns the point in base64url: the applicationServerKey of a browser.
func publicKey(key *ecdsa.PrivateKey) (string, error) {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return "", fmt.Errorf("VAPID key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(point), nil
}
