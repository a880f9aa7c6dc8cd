// Package seal keeps secrets unreadable at rest: it encrypts small values with a key that lies in a
// file of its own, apart from the store. Whoever gets hold of a backup of the store alone reads none.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keySize is that of AES-256.
const keySize = 32

// format is the first byte of what Seal returns: AES-256-GCM, a random nonce of 12 bytes in front.
const format = 1

// ErrOpen says that a value was not sealed with this key and context, or was changed since.
var ErrOpen = errors.New("sealed value cannot be opened: it was changed, moved, or sealed with another key")

// Key seals and opens. Safe for concurrent use.
type Key struct{ aead cipher.AEAD }

// Open reads the key at path, or makes one there if there is none; then it is on disk before Open
// returns. Only the file's owner may read it. Without this file nothing sealed can ever be opened
// again, so Open never replaces one that it cannot read.
func Open(path string) (*Key, error) {
	raw, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("make sealing key %s: %w", path, err)
		}
		// Another process may have been quicker: what lies there counts.
		raw, err = read(path)
	}
	if err != nil {
		return nil, fmt.Errorf("sealing key %s: %w", path, err)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fmt.Errorf("sealing key %s: %w", path, err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("sealing key %s: %w", path, err)
	}
	return &Key{aead}, nil
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	if open := info.Mode().Perm() & 0o077; open != 0 {
		return nil, fmt.Errorf("others may read or write it (mode %04o); it has to be 0600", info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(raw) != keySize {
		return nil, fmt.Errorf("it holds no key of %d hexadecimal digits; restore it from a backup", 2*keySize)
	}
	return raw, nil
}

// create puts a new key at path, whole or not at all, and never over another one.
func create(path string) error {
	raw := make([]byte, keySize)
	rand.Read(raw) // never fails
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".key-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.WriteString(hex.EncodeToString(raw) + "\n"); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Seal encrypts plain. context says whose secret it is: Open needs the same one, so that a sealed
// value put in another's place is worth nothing.
func (k *Key) Seal(plain, context []byte) []byte {
	return k.aead.Seal([]byte{format}, nil, plain, context)
}

// Open returns what was sealed with the same context, or ErrOpen.
func (k *Key) Open(sealed, context []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != format {
		return nil, ErrOpen
	}
	plain, err := k.aead.Open(nil, nil, sealed[1:], context)
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}
