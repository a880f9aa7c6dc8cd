package s3

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strings"
)

const (
	chunkBuffer = 64 << 10
	maxTrailers = 4 << 10 // bytes of all lines after the last chunk
)

var errChunk = invalidRequest("The body is not in the aws-chunked form that x-amz-content-sha256 says it is in.")

// chunkReader takes a body in aws-chunked form apart. With a signature it verifies each chunk's, which
// covers that of the chunk before, so that none can be altered, left out or moved. Its errors are
// what the client is told; whoever reads must make nothing visible before io.EOF.
// Source: docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html.
type chunkReader struct {
	r       *bufio.Reader
	left    int64             // bytes of the chunk at hand that are still to come
	begun   bool              // a chunk's head was read
	trailer map[string]string // what came after the last chunk, names in lower case
	wants   bool              // a trailer is announced
	err     error

	sign     *signature // nil: chunks are not signed
	previous string     // signature, in hex
	claimed  string     // of the chunk at hand
	sum      hash.Hash  // of the chunk at hand
}

// newChunkReader reads r as s says it is signed.
func newChunkReader(r io.Reader, s *signature) *chunkReader {
	c := &chunkReader{r: bufio.NewReaderSize(r, chunkBuffer), wants: s.payload != signedChunks}
	if s.payload != unsignedTrailer {
		c.sign, c.previous, c.sum = s, s.provided, sha256.New()
	}
	return c
}

// Read reads what the chunks hold.
func (c *chunkReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if c.left == 0 {
		if c.err = c.next(); c.err != nil {
			return 0, c.err
		}
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if c.sum != nil {
		c.sum.Write(p[:n])
	}
	if err != nil {
		c.err = unexpected(err)
	}
	return n, c.err
}

// next ends the chunk at hand and begins the next. It returns io.EOF after the last.
func (c *chunkReader) next() error {
	if c.begun {
		if err := c.endLine(); err != nil {
			return err
		}
		if err := c.verifyChunk(); err != nil {
			return err
		}
	}
	line, err := c.line()
	if err != nil {
		return err
	}
	size, extension, _ := bytes.Cut(line, []byte{';'})
	if c.left, err = parseSize(size); err != nil {
		return err
	}
	c.begun, c.claimed = true, ""
	if claimed, ok := bytes.CutPrefix(bytes.TrimSpace(extension), []byte("chunk-signature=")); ok {
		c.claimed = string(claimed)
	}
	if c.left > 0 {
		return nil
	}
	if err := c.verifyChunk(); err != nil {
		return err
	}
	return c.end()
}

// parseSize reads a size in hexadecimal.
func parseSize(b []byte) (int64, error) {
	b = bytes.TrimSpace(b)
	if len(b) == 0 || len(b) > 15 {
		return 0, errChunk
	}
	var n int64
	for _, d := range b {
		i := strings.IndexByte("0123456789abcdef", d|0x20)
		if i < 0 || d < '0' {
			return 0, errChunk
		}
		n = n<<4 | int64(i)
	}
	return n, nil
}

func (c *chunkReader) verifyChunk() error {
	if c.sign == nil {
		return nil
	}
	b := append(c.sign.appendToSign(make([]byte, 0, 320), algorithm+"-PAYLOAD"), c.previous...)
	b = append(append(append(b, '\n'), emptySHA256...), '\n')
	return c.verify(hex.AppendEncode(b, c.sum.Sum(nil)), c.claimed)
}

func (c *chunkReader) verify(toSign []byte, claimed string) error {
	mac := hmacSHA256(c.sign.key[:], toSign)
	want := hex.EncodeToString(mac[:])
	if subtle.ConstantTimeCompare([]byte(want), []byte(claimed)) != 1 {
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "The signature of a chunk of the body does not match what we calculated. Check your secret access key and signing method.")
	}
	c.previous = want
	c.sum.Reset()
	return nil
}

// end reads what follows the last chunk: the trailer if one was announced, an empty line.
func (c *chunkReader) end() error {
	c.trailer = map[string]string{}
	var signed []byte
	claimed, total := "", 0
	for {
		line, err := c.line()
		if errors.Is(err, io.ErrUnexpectedEOF) && len(line) == 0 {
			break // some clients leave out the last empty line
		}
		if err != nil {
			return err
		}
		if total += len(line) + 2; total > maxTrailers {
			return errChunk
		}
		if len(line) == 0 {
			if c.sign != nil && c.wants && claimed == "" && len(c.trailer) > 0 {
				continue // before the trailer's signature
			}
			break
		}
		name, value, ok := strings.Cut(string(line), ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		switch {
		case !ok || !c.wants:
			return errChunk
		case name == "x-amz-trailer-signature":
			claimed = value
		default:
			c.trailer[name] = value
			signed = append(append(append(append(signed, name...), ':'), value...), '\n')
		}
	}
	if c.sign != nil && c.wants {
		if err := c.verifyTrailer(signed, claimed); err != nil {
			return err
		}
	}
	if _, err := c.r.ReadByte(); err != io.EOF {
		return errChunk
	}
	return io.EOF
}

func (c *chunkReader) verifyTrailer(signed []byte, claimed string) error {
	b := append(c.sign.appendToSign(make([]byte, 0, 320), algorithm+"-TRAILER"), c.previous...)
	sum := sha256.Sum256(signed)
	return c.verify(hex.AppendEncode(append(b, '\n'), sum[:]), claimed)
}

func (c *chunkReader) endLine() error {
	line, err := c.line()
	if err == nil && len(line) > 0 {
		return errChunk
	}
	return err
}

// line reads a line without its end.
func (c *chunkReader) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull || len(line) > maxTrailers {
		return nil, errChunk
	}
	if err != nil {
		return line, unexpected(err)
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'}), nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
