package mywire

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// Ways to prove a password.
const (
	NativePassword = "mysql_native_password"
	CachingSHA2    = "caching_sha2_password"
	clearPassword  = "mysql_clear_password"
)

const scrambleSize = 20

// NewScramble returns the random bytes of a handshake. None is zero, which would end it.
func NewScramble() (s [scrambleSize]byte) {
	rand.Read(s[:])
	for i := range s {
		if s[i] &= 0x7f; s[i] == 0 || s[i] == '$' {
			s[i]++
		}
	}
	return s
}

// prove returns the first answer to a scramble: nothing for an empty password.
func prove(plugin, password string, scramble []byte) ([]byte, error) {
	if password == "" {
		return nil, nil
	}
	switch plugin {
	case NativePassword:
		return proveNative(password, scramble), nil
	case CachingSHA2:
		return proveSHA2(password, scramble), nil
	}
	return nil, fmt.Errorf("the server asks for the password by %.60q, which is not supported; %s and %s are", plugin, CachingSHA2, NativePassword)
}

// proveNative is SHA1(password) XOR SHA1(scramble + SHA1(SHA1(password))).
func proveNative(password string, scramble []byte) []byte {
	once := sha1.Sum([]byte(password))
	twice := sha1.Sum(once[:])
	mixed := sha1.Sum(append(append([]byte{}, scramble...), twice[:]...))
	subtle.XORBytes(mixed[:], mixed[:], once[:])
	return mixed[:]
}

// proveSHA2 is SHA256(password) XOR SHA256(SHA256(SHA256(password)) + scramble).
func proveSHA2(password string, scramble []byte) []byte {
	once := sha256.Sum256([]byte(password))
	twice := sha256.Sum256(once[:])
	mixed := sha256.Sum256(append(append([]byte{}, twice[:]...), scramble...))
	subtle.XORBytes(mixed[:], mixed[:], once[:])
	return mixed[:]
}

// proven tells whether proof is right, in constant time.
func proven(plugin, password string, scramble, proof []byte) bool {
	want, err := prove(plugin, password, scramble)
	return err == nil && password != "" && subtle.ConstantTimeCompare(want, proof) == 1
}

// encryptPassword encrypts a password, with its zero byte, for a server without TLS whose public key
// this is.
func encryptPassword(password string, scramble, key []byte) ([]byte, error) {
	block, _ := pem.Decode(key)
	if block == nil {
		return nil, ErrMalformed
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, ErrMalformed
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok || len(scramble) == 0 {
		return nil, ErrMalformed
	}
	plain := append([]byte(password), 0)
	for i := range plain {
		plain[i] ^= scramble[i%len(scramble)]
	}
	return rsa.EncryptOAEP(sha1.New(), rand.Reader, public, plain, nil)
}
