package webpush

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

const (
	saltSize   = 16
	authSize   = 16
	pointSize  = 65 // an uncompressed point of P-256
	headerSize = saltSize + 4 + 1 + pointSize
	// overhead is what the encryption adds: header, delimiter, AEAD tag.
	overhead = headerSize + 1 + 16
	// recordSize is the "rs" of RFC 8188. The one record must be smaller.
	recordSize = 4096
)

// Encrypt returns the body of a push message for the subscription's keys: RFC 8291
// with content encoding aes128gcm, one record, the plaintext padded with padding
// bytes to hide its length.
func Encrypt(plaintext, p256dh, auth []byte, padding int) ([]byte, error) {
	sender, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("web push: make a key: %w", err)
	}
	var salt [saltSize]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, fmt.Errorf("web push: make a salt: %w", err)
	}
	return encrypt(plaintext, p256dh, auth, padding, sender, salt)
}

// encrypt is Encrypt with its randomness given, for the example of the RFC.
func encrypt(plaintext, p256dh, auth []byte, padding int, sender *ecdh.PrivateKey, salt [saltSize]byte) ([]byte, error) {
	receiver, err := ecdh.P256().NewPublicKey(p256dh)
	if err != nil {
		return nil, fmt.Errorf("web push: p256dh: %w", err)
	}
	secret, err := sender.ECDH(receiver)
	if err != nil {
		return nil, fmt.Errorf("web push: p256dh: %w", err)
	}
	public := sender.PublicKey().Bytes()
	// RFC 8291 section 3.4, the names are the RFC's.
	keyInfo := "WebPush: info\x00" + string(p256dh) + string(public)
	ikm, err := hkdf.Key(sha256.New, secret, auth, keyInfo, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("web push: derive the key: %w", err)
	}
	prk, err := hkdf.Extract(sha256.New, ikm, salt[:])
	if err != nil {
		return nil, fmt.Errorf("web push: derive the key: %w", err)
	}
	cek, err := hkdf.Expand(sha256.New, prk, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, fmt.Errorf("web push: derive the key: %w", err)
	}
	nonce, err := hkdf.Expand(sha256.New, prk, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, fmt.Errorf("web push: derive the nonce: %w", err)
	}
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, fmt.Errorf("web push: cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("web push: cipher: %w", err)
	}

	size := overhead + len(plaintext) + padding
	body := make([]byte, 0, size)
	body = append(body, salt[:]...)
	// The record size may be larger than the record and never smaller.
	body = binary.BigEndian.AppendUint32(body, uint32(max(recordSize, size)))
	body = append(body, pointSize)
	body = append(body, public...)
	record := make([]byte, len(plaintext)+1+padding, size-headerSize)
	copy(record, plaintext)
	record[len(plaintext)] = 2 // the delimiter of the last record, RFC 8188 section 2
	return append(body, aead.Seal(record[:0], nonce, record, nil)...), nil
}
