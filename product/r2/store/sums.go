package store

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"slices"
)

// Kinds of checksums, as PutOptions.Compute names them.
const (
	MD5       = "md5"
	SHA1      = "sha1"
	SHA256    = "sha256"
	SHA384    = "sha384"
	SHA512    = "sha512"
	CRC32     = "crc32"
	CRC32C    = "crc32c"
	CRC64NVME = "crc64nvme"
)

// kinds returns all, in the order in which records number them.
func kinds() [8]string {
	return [...]string{MD5, SHA1, SHA256, SHA384, SHA512, CRC32, CRC32C, CRC64NVME}
}

// nvme is the polynomial of CRC-64/NVME, reflected. Source: NVM Express NVM Command Set 1.0, figure 121.
const nvme = 0x9a6c9329ac4bc9b5

// Of returns the checksum of a kind, nil if it is not known.
func (c *Checksums) Of(kind string) []byte {
	if p := c.of(kind); p != nil {
		return *p
	}
	return nil
}

func (c *Checksums) of(kind string) *[]byte {
	switch kind {
	case MD5:
		return &c.MD5
	case SHA1:
		return &c.SHA1
	case SHA256:
		return &c.SHA256
	case SHA384:
		return &c.SHA384
	case SHA512:
		return &c.SHA512
	case CRC32:
		return &c.CRC32
	case CRC32C:
		return &c.CRC32C
	case CRC64NVME:
		return &c.CRC64NVME
	}
	return nil
}

// match returns a fault if a checksum in want is another in c.
func (c *Checksums) match(want *Checksums) error {
	for _, k := range kinds() {
		if w, got := want.Of(k), c.Of(k); w != nil && !bytes.Equal(w, got) {
			return errBadDigest(k, w, got)
		}
	}
	return nil
}

// hashes are those that are made of one stream of bytes.
type hashes struct {
	kinds []string
	each  []hash.Hash
}

// newHashes returns MD5 and those of more, and of what is expected.
func newHashes(more []string, expect *Checksums) (h hashes, err error) {
	h.add(MD5)
	for _, k := range more {
		if !h.add(k) {
			return h, errArgument("There is no checksum %.20q.", k)
		}
	}
	for _, k := range kinds() {
		if expect.Of(k) != nil {
			h.add(k)
		}
	}
	return h, nil
}

func (h *hashes) add(kind string) bool {
	if slices.Contains(h.kinds, kind) {
		return true
	}
	n := newHash(kind)
	if n == nil {
		return false
	}
	h.kinds, h.each = append(h.kinds, kind), append(h.each, n)
	return true
}

func newHash(kind string) hash.Hash {
	switch kind {
	case MD5:
		return md5.New()
	case SHA1:
		return sha1.New()
	case SHA256:
		return sha256.New()
	case SHA384:
		return sha512.New384()
	case SHA512:
		return sha512.New()
	case CRC32:
		return crc32.NewIEEE()
	case CRC32C:
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case CRC64NVME:
		return crc64.New(crc64.MakeTable(nvme))
	}
	return nil
}

func (h *hashes) write(p []byte) {
	for _, each := range h.each {
		each.Write(p)
	}
}

func (h *hashes) sums() (c Checksums) {
	for i, k := range h.kinds {
		*c.of(k) = h.each[i].Sum(nil)
	}
	return c
}
