package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
)

// An object that comes with a key of the client's is sealed in blocks with AES-256-GCM, so that ranges can be
// read and nobody can move, cut or change a block. Each segment has a key of its own, derived from the
// client's and the segment's ID, so nonces can count blocks; the last block's is marked. The client's key is
// never kept: a salted hash tells whether the right one came.
const (
	sealBlock  = 64 << 10 // bytes of content
	sealTag    = 16
	ssecKeyLen = 32
)

// ssec tells whether a key is an object's. The zero value is that of an object that is not encrypted.
type ssec struct {
	salt id
	hash [sha256.Size]byte
}

func newSSEC(key []byte) (c ssec, keyMD5 string, err error) {
	if key == nil {
		return c, "", nil
	}
	if len(key) != ssecKeyLen {
		return c, "", errSSEC("The key of encryption must have 32 bytes.")
	}
	c.salt = newID()
	c.hash = derive(key, c.salt, "selvage r2 ssec check")
	sum := md5.Sum(key)
	return c, base64.StdEncoding.EncodeToString(sum[:]), nil
}

func (c *ssec) on() bool { return c.salt != id{} }

// check refuses a key that is not the object's.
func (c *ssec) check(key []byte) error {
	if !c.on() {
		if key != nil {
			return errSSEC("The object is not encrypted: ask for it without a key of encryption.")
		}
		return nil
	}
	if key == nil {
		return errSSEC("The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.")
	}
	hash := derive(key, c.salt, "selvage r2 ssec check")
	if len(key) != ssecKeyLen || subtle.ConstantTimeCompare(hash[:], c.hash[:]) != 1 {
		return errSSEC("The key of encryption is not the one that the object was stored with.")
	}
	return nil
}

func (c *ssec) encode() []byte {
	if !c.on() {
		return nil
	}
	return append(c.salt[:], c.hash[:]...)
}

func (c *ssec) decode(b []byte) error {
	if len(b) != len(c.salt)+len(c.hash) {
		return errRecord
	}
	copy(c.salt[:], b)
	copy(c.hash[:], b[len(c.salt):])
	return nil
}

func derive(key []byte, salt id, purpose string) (out [32]byte) {
	b, err := hkdf.Key(sha256.New, key, salt[:], purpose, len(out))
	if err != nil {
		rand.Read(out[:]) // cannot be: the length is right; and a random key opens nothing
		return out
	}
	copy(out[:], b)
	return out
}

// sealing is the cipher of one segment.
type sealing struct{ aead cipher.AEAD }

func newSealing(key []byte, segment id) (sealing, error) {
	k := derive(key, segment, "selvage r2 ssec content")
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return sealing{}, err
	}
	aead, err := cipher.NewGCM(block)
	return sealing{aead}, err
}

func nonce(block int64, last bool) []byte {
	n := make([]byte, 12)
	if last {
		n[0] = 1
	}
	binary.BigEndian.PutUint64(n[4:], uint64(block))
	return n
}

// sealedSize returns the bytes that size bytes take when sealed.
func sealedSize(size int64) int64 { return size + (size+sealBlock-1)/sealBlock*sealTag }

// sealer seals what is written to it. Close writes the last block.
type sealer struct {
	s     sealing
	w     io.Writer
	block int64
	buf   []byte
	out   []byte
}

func newSealer(s sealing, w io.Writer) *sealer {
	return &sealer{s: s, w: w, buf: make([]byte, 0, sealBlock), out: make([]byte, 0, sealBlock+sealTag)}
}

// Write takes p.
func (s *sealer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if len(s.buf) == sealBlock {
			if err := s.flush(false); err != nil {
				return n, err
			}
		}
		m := copy(s.buf[len(s.buf):sealBlock], p)
		s.buf = s.buf[:len(s.buf)+m]
		p = p[m:]
		n += m
	}
	return n, nil
}

// Close seals what is left as the last block.
func (s *sealer) Close() error {
	if len(s.buf) == 0 {
		return nil
	}
	return s.flush(true)
}

func (s *sealer) flush(last bool) error {
	s.out = s.s.aead.Seal(s.out[:0], nonce(s.block, last), s.buf, nil)
	s.block++
	s.buf = s.buf[:0]
	_, err := s.w.Write(s.out)
	return err
}

// opener reads a range of a sealed segment.
type opener struct {
	s     sealing
	src   io.ReadCloser // stands at the start of block
	block int64
	size  int64 // of the segment's content
	skip  int64 // bytes of the first block that nobody wants
	left  int64 // bytes wanted
	buf   []byte
	ready []byte
}

// sealedRange returns the sealed bytes that hold a range of content that is not empty.
func sealedRange(size, offset, length int64) (from, n int64) {
	first, end := offset/sealBlock, (offset+length+sealBlock-1)/sealBlock
	from = first * (sealBlock + sealTag)
	return from, min(end*(sealBlock+sealTag), sealedSize(size)) - from
}

func newOpener(s sealing, src io.ReadCloser, size int64, r Range) *opener {
	return &opener{s: s, src: src, block: r.Offset / sealBlock, size: size, skip: r.Offset % sealBlock, left: r.Length, buf: make([]byte, sealBlock+sealTag)}
}

// Read fills p.
func (o *opener) Read(p []byte) (int, error) {
	if len(o.ready) == 0 {
		if o.left == 0 {
			return 0, io.EOF
		}
		if err := o.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, o.ready)
	o.ready = o.ready[n:]
	return n, nil
}

func (o *opener) next() error {
	begin := o.block * sealBlock
	n := min(sealBlock, o.size-begin)
	if n <= 0 {
		return io.ErrUnexpectedEOF
	}
	sealed := o.buf[:n+sealTag]
	if _, err := io.ReadFull(o.src, sealed); err != nil {
		return fmt.Errorf("read encrypted content: %w", err)
	}
	plain, err := o.s.aead.Open(sealed[:0], nonce(o.block, begin+n == o.size), sealed, nil)
	if err != nil {
		return fmt.Errorf("decrypt content: %w", err)
	}
	o.block++
	plain = plain[o.skip:]
	o.skip = 0
	o.ready = plain[:min(int64(len(plain)), o.left)]
	o.left -= int64(len(o.ready))
	return nil
}

// Close ends the reading.
func (o *opener) Close() error { return o.src.Close() }
