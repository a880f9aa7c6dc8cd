package s3

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"net/http"
	"strconv"
	"strings"

	"selvage/product/r2/store"
)

// checksumKind is one of the checksums that S3 has.
type checksumKind struct {
	name   string // of the store's
	s3     string // such as CRC32C
	header string
	size   int // bytes
	of     func(c *store.Checksums) *[]byte
	hash   func() hash.Hash
}

// nvme is the polynomial of CRC-64/NVME, reflected.
const nvme = 0x9a6c9329ac4bc9b5

var checksumKinds = []checksumKind{
	{"crc32", "CRC32", "X-Amz-Checksum-Crc32", 4, func(c *store.Checksums) *[]byte { return &c.CRC32 }, func() hash.Hash { return crc32.NewIEEE() }},
	{"crc32c", "CRC32C", "X-Amz-Checksum-Crc32c", 4, func(c *store.Checksums) *[]byte { return &c.CRC32C }, func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }},
	{"sha1", "SHA1", "X-Amz-Checksum-Sha1", 20, func(c *store.Checksums) *[]byte { return &c.SHA1 }, sha1.New},
	{"sha256", "SHA256", "X-Amz-Checksum-Sha256", 32, func(c *store.Checksums) *[]byte { return &c.SHA256 }, sha256.New},
	{"crc64nvme", "CRC64NVME", "X-Amz-Checksum-Crc64nvme", 8, func(c *store.Checksums) *[]byte { return &c.CRC64NVME }, func() hash.Hash { return crc64.New(crc64.MakeTable(nvme)) }},
}

// kindNamed finds a kind by its name in any case, "" by none.
func kindNamed(name string) *checksumKind {
	for i := range checksumKinds {
		if strings.EqualFold(checksumKinds[i].s3, name) {
			return &checksumKinds[i]
		}
	}
	return nil
}

// sums is what a client says of a body's checksums.
type sums struct {
	expect  store.Checksums
	kind    *checksumKind // besides MD5; nil: none
	trailer bool          // its value comes after the body
}

// readSums reads the checksums in a request's head and what its trailer will hold.
func readSums(h http.Header) (s sums, refusal *Error) {
	if v, ok := h["Content-Md5"]; ok {
		if s.expect.MD5, refusal = decodeSum(v[0], 16); refusal != nil {
			return s, refuse(http.StatusBadRequest, "InvalidDigest", "The checksum or Content-MD5 you specified is not valid.")
		}
	}
	for i := range checksumKinds {
		k := &checksumKinds[i]
		v := h.Get(k.header)
		if v == "" {
			continue
		}
		if s.kind != nil {
			return s, invalidRequest("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		}
		s.kind = k
		if *k.of(&s.expect), refusal = decodeSum(v, k.size); refusal != nil {
			return s, malformedSum(k)
		}
	}
	for name := range strings.SplitSeq(h.Get("X-Amz-Trailer"), ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		k := kindNamed(strings.TrimPrefix(strings.ToLower(name), "x-amz-checksum-"))
		if k == nil {
			return s, invalidRequest("The value specified in the x-amz-trailer header is not supported")
		}
		if s.kind != nil {
			return s, invalidRequest("Expecting a single x-amz-checksum- header")
		}
		s.kind, s.trailer = k, true
	}
	if v := h.Get("X-Amz-Sdk-Checksum-Algorithm"); v != "" {
		k := kindNamed(v)
		if k == nil {
			return s, invalidRequest("Value for x-amz-sdk-checksum-algorithm header is invalid.")
		}
		if s.kind == nil {
			s.kind = k
		}
	}
	return s, nil
}

func decodeSum(v string, size int) ([]byte, *Error) {
	b, err := base64.StdEncoding.DecodeString(v)
	if err != nil || len(b) != size {
		return nil, invalidArgument("%s", v)
	}
	return b, nil
}

func malformedSum(k *checksumKind) *Error {
	return refuse(http.StatusBadRequest, "BadDigest", "The value of %s is no checksum of this kind, which is %d bytes in base64.", strings.ToLower(k.header), k.size)
}

// check compares data with the checksums that were given.
func (s *sums) check(data []byte) error {
	if got := md5.Sum(data); s.expect.MD5 != nil && !bytes.Equal(got[:], s.expect.MD5) {
		return badDigest("MD5", s.expect.MD5, got[:])
	}
	if s.kind == nil {
		return nil
	}
	want := *s.kind.of(&s.expect)
	h := s.kind.hash()
	h.Write(data)
	if got := h.Sum(nil); want != nil && !bytes.Equal(got, want) {
		return badDigest(s.kind.s3, want, got)
	}
	return nil
}

func badDigest(kind string, want, got []byte) *Error {
	return refuse(http.StatusBadRequest, "BadDigest", "The %s checksum you specified did not match what we received.\nYou provided a %s checksum with value: %x\nActual %s was: %x", kind, kind, want, kind, got)
}

// compute names the checksums that the store is to keep.
func (s *sums) compute() []string {
	if s.kind == nil {
		return nil
	}
	return []string{s.kind.name}
}

// late returns what reads the trailer's checksum once the body ended; nil if it has none.
func (s *sums) late(b *body) func() (store.Checksums, error) {
	if !s.trailer {
		return nil
	}
	return func() (c store.Checksums, err error) {
		if b.chunks == nil {
			return c, invalidRequest("A trailer is announced but the body is not sent in chunks.")
		}
		v := b.chunks.trailer[strings.ToLower(s.kind.header)]
		sum, refusal := decodeSum(v, s.kind.size)
		if refusal != nil {
			return c, invalidRequest("Value for %s trailing header is invalid.", strings.ToLower(s.kind.header))
		}
		*s.kind.of(&c) = sum
		return c, nil
	}
}

// sumText is a checksum as headers and XML have it; parts is the number of parts of a composite one.
func sumText(sum []byte, composite bool, parts int) string {
	text := base64.StdEncoding.EncodeToString(sum)
	if composite && parts > 0 {
		text += "-" + strconv.Itoa(parts)
	}
	return text
}

// writeSums puts an object's checksums into an answer.
func writeSums(h http.Header, c *store.Checksums, parts int) {
	found := false
	for _, k := range checksumKinds {
		if sum := *k.of(c); sum != nil {
			h[k.header] = []string{sumText(sum, c.Composite && k.name != "crc64nvme", parts)}
			found = true
		}
	}
	if found {
		h["X-Amz-Checksum-Type"] = []string{checksumType(c.Composite)}
	}
}

func checksumType(composite bool) string {
	if composite {
		return "COMPOSITE"
	}
	return "FULL_OBJECT"
}

// documentSums writes checksums into a document.
func documentSums(d *document, c *store.Checksums, parts int) {
	for _, k := range checksumKinds {
		if sum := *k.of(c); sum != nil {
			d.text("Checksum"+k.s3, sumText(sum, c.Composite && k.name != "crc64nvme", parts))
		}
	}
}
