package s3

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"selvage/product/r2/store"
)

// A client sends at least bodyLeast bytes in every bodyWithin, or it is cut off.
const (
	bodyLeast  = 16 << 10
	bodyWithin = time.Minute
)

// body is a request's body, decoded and verified. Its end is io.EOF only if all of it is what was
// signed: whoever reads makes nothing visible before.
type body struct {
	x      *request
	r      io.Reader
	chunks *chunkReader // nil: not in chunks
	size   int64        // bytes that it has once decoded
	read   int64
	want   string // SHA-256 in hex that was signed; empty: none
	sum    hash.Hash
	paced  int64 // bytes read when the deadline was moved last
	err    error // what ended it
}

// openBody makes the request's body ready to be read. Every upload says its size first.
func (x *request) openBody() (*body, error) {
	b := &body{x: x, r: x.r.Body, size: x.r.ContentLength}
	x.body = b
	hash := x.sign.payload
	switch {
	case strings.HasPrefix(hash, streamingPrefix):
		decoded := x.r.Header.Get("X-Amz-Decoded-Content-Length")
		n, err := strconv.ParseInt(decoded, 10, 64)
		if decoded == "" {
			return nil, missingLength()
		}
		if err != nil || n < 0 {
			return nil, invalidArgument("x-amz-decoded-content-length is not a number of bytes: %s", decoded)
		}
		b.size = n
		b.chunks = newChunkReader(&pacedReader{b}, x.sign)
		b.r = b.chunks
	case hash != unsignedPayload:
		b.want, b.sum = strings.ToLower(hash), sha256.New()
		b.r = &pacedReader{b}
	default:
		b.r = &pacedReader{b}
	}
	if b.size < 0 {
		return nil, missingLength()
	}
	if b.size > store.MaxPut {
		return nil, tooLarge()
	}
	return b, nil
}

// checkPayload refuses payload hashes that are neither a hash nor one of the known words.
func checkPayload(hash string) *Error {
	switch hash {
	case unsignedPayload, signedChunks, signedTrailer, unsignedTrailer:
		return nil
	}
	if strings.HasPrefix(hash, streamingPrefix) {
		return notImplemented("Payload signing with %s", hash)
	}
	if len(hash) != 2*sha256.Size || strings.Trim(strings.ToLower(hash), "0123456789abcdef") != "" {
		return invalidArgument("x-amz-content-sha256 must be UNSIGNED-PAYLOAD, %s, %s, %s, or a valid sha256 value.", signedChunks, signedTrailer, unsignedTrailer)
	}
	return nil
}

func missingLength() *Error {
	return refuse(http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header.")
}

// unread tells whether the client may still be sending.
func (b *body) unread() bool { return b != nil && b.err != io.EOF }

// Read reads the decoded body.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	b.read += int64(n)
	if b.sum != nil {
		b.sum.Write(p[:n])
	}
	switch {
	case b.read > b.size:
		b.err = invalidRequest("The body has more bytes than x-amz-decoded-content-length says.")
	case err == io.EOF:
		b.err = b.end()
	default:
		b.err = err
	}
	return n, b.err
}

// end checks the body as a whole.
func (b *body) end() error {
	b.x.w.control.SetReadDeadline(time.Time{})
	if b.read < b.size {
		return incompleteBody()
	}
	if b.sum != nil && hex.EncodeToString(b.sum.Sum(nil)) != b.want {
		return refuse(http.StatusBadRequest, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	return io.EOF
}

// fault returns what the client is told when reading failed with err: what the body itself knows goes
// before what the store makes of it.
func (b *body) fault(err error) error {
	if b != nil && b.err != nil && b.err != io.EOF {
		return b.err
	}
	return err
}

// readAll reads a small body, which may have at most limit bytes, and compares it with the checksums
// that came with it.
func (x *request) readAll(limit int64) ([]byte, error) {
	sums, refusal := readSums(x.r.Header)
	if refusal != nil {
		return nil, refusal
	}
	data, err := x.readPlain(limit)
	if err != nil {
		return nil, err
	}
	if late := sums.late(x.body); late != nil {
		if sums.expect, err = late(); err != nil {
			return nil, err
		}
	}
	return data, sums.check(data)
}

// readPlain reads a small body whose checksums, if there are any, are of something else.
func (x *request) readPlain(limit int64) ([]byte, error) {
	b, err := x.openBody()
	if err != nil {
		return nil, err
	}
	if b.size > limit {
		return nil, refuse(http.StatusBadRequest, "MaxMessageLengthExceeded", "Your request was too big: its body has %d bytes, the limit is %d.", b.size, limit)
	}
	var buf bytes.Buffer
	buf.Grow(int(b.size))
	if _, err := io.Copy(&buf, b); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// pacedReader reads from the connection and cuts off clients that send next to nothing: the deadline
// moves on only when enough came since it was set.
type pacedReader struct{ b *body }

// Read reads from the connection.
func (p *pacedReader) Read(buf []byte) (int, error) {
	b := p.b
	if b.paced == 0 {
		b.x.w.control.SetReadDeadline(time.Now().Add(bodyWithin))
	}
	n, err := b.x.r.Body.Read(buf)
	b.paced += int64(n)
	if b.paced >= bodyLeast {
		b.paced = 0
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = refuse(http.StatusBadRequest, "RequestTimeout", "Your socket connection to the server was not read from or written to within the timeout period.")
	}
	return n, err
}
