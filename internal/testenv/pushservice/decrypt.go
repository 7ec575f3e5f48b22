package pushservice

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Decrypt reads the body of a Web Push message as a browser does: RFC 8291 over
// RFC 8188. It is written from the RFCs' pseudo code with bare HMACs and shares no
// line with the sender. padding is how many bytes hid the length.
func Decrypt(body []byte, private *ecdh.PrivateKey, auth []byte) (plaintext []byte, padding int, err error) {
	const header = 16 + 4 + 1
	if len(body) < header {
		return nil, 0, errors.New("shorter than its header")
	}
	salt, size, idlen := body[:16], binary.BigEndian.Uint32(body[16:20]), int(body[20])
	if idlen != 65 || len(body) < header+idlen {
		return nil, 0, fmt.Errorf("the key id has %d bytes, not the 65 of a public key", idlen)
	}
	senderPoint, record := body[header:header+idlen], body[header+idlen:]
	if uint64(len(record)) > uint64(size) {
		return nil, 0, fmt.Errorf("a record of %d bytes is larger than the record size %d", len(record), size)
	}
	sender, err := ecdh.P256().NewPublicKey(senderPoint)
	if err != nil {
		return nil, 0, fmt.Errorf("sender's key: %w", err)
	}
	secret, err := private.ECDH(sender)
	if err != nil {
		return nil, 0, fmt.Errorf("agree on a secret: %w", err)
	}
	// RFC 8291 section 3.4; each expansion is one block of HKDF.
	prkKey := mac(auth, secret)
	ikm := mac(prkKey, []byte("WebPush: info\x00"), private.PublicKey().Bytes(), senderPoint, []byte{1})
	prk := mac(salt, ikm)
	cek := mac(prk, []byte("Content-Encoding: aes128gcm\x00\x01"))[:16]
	nonce := mac(prk, []byte("Content-Encoding: nonce\x00\x01"))[:12]
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, 0, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, 0, err
	}
	padded, err := aead.Open(nil, nonce, record, nil)
	if err != nil {
		return nil, 0, errors.New("the record is not encrypted for this subscription")
	}
	text := bytes.TrimRight(padded, "\x00")
	if len(text) == 0 || text[len(text)-1] != 2 {
		return nil, 0, errors.New("the record has no delimiter of a last record")
	}
	return text[:len(text)-1], len(padded) - len(text), nil
}

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}
