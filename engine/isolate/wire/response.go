package wire

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

func protocol(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrProtocol}, args...)...)
}

// answer is a response and its body in one piece of memory.
type answer struct {
	Response
	body body
}

// response reads the head of the response, past interim ones.
func (cn *conn) response(method, mark string) (*Response, error) {
	for {
		head, err := cn.head()
		if err != nil {
			return nil, err
		}
		a := &answer{}
		a.Length = -1
		framing, err := a.parse(head, mark)
		if err != nil {
			return nil, err
		}
		if a.Status < 200 && a.Status != 101 {
			continue
		}
		return a.arm(cn, method, framing), nil
	}
}

// head returns the next head, from the status line to the end of the last field.
func (cn *conn) head() (string, error) {
	for scanned := 0; ; {
		if i := bytes.Index(cn.in[cn.r+scanned:cn.w], []byte("\r\n\r\n")); i >= 0 {
			end := cn.r + scanned + i + 4
			head := string(cn.in[cn.r : end-2])
			cn.r = end
			return head, nil
		}
		scanned = max(0, cn.w-cn.r-3)
		if err := cn.fill(maxHeadSize); err != nil {
			if err == io.EOF && cn.w > cn.r {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
	}
}

// framing is what a head says about where the body ends.
type framing struct {
	chunked bool
	close   bool
}

func (a *answer) parse(head, mark string) (framing, error) {
	var f framing
	line, rest, _ := strings.Cut(head, "\r\n")
	// HTTP/1.1 SP 3DIGIT SP reason
	if len(line) < 12 || !strings.HasPrefix(line, "HTTP/1.") || line[8] != ' ' || (len(line) > 12 && line[12] != ' ') {
		return f, protocol("status line %.60q", line)
	}
	status, err := strconv.ParseUint(line[9:12], 10, 16)
	if err != nil || status < 100 {
		return f, protocol("status line %.60q", line)
	}
	a.Status = int(status)
	f.close = line[7] == '0'
	a.Header = make([]Field, 0, strings.Count(rest, "\n"))
	for rest != "" {
		line, rest, _ = strings.Cut(rest, "\r\n")
		name, value, found := strings.Cut(line, ":")
		if !found || !token(name) || strings.ContainsAny(value, "\r\n\x00") {
			return f, protocol("field line %.60q", line)
		}
		value = strings.Trim(value, " \t")
		if err := a.field(&f, name, value, mark); err != nil {
			return f, err
		}
	}
	if f.chunked && a.Length >= 0 {
		return f, protocol("both Content-Length and Transfer-Encoding")
	}
	return f, nil
}

func (a *answer) field(f *framing, name, value, mark string) error {
	switch {
	case strings.EqualFold(name, "content-length"):
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil || value[0] == '+' || (a.Length >= 0 && a.Length != int64(n)) {
			return protocol("Content-Length %.40q", value)
		}
		a.Length = int64(n)
	case strings.EqualFold(name, "transfer-encoding"):
		if !strings.EqualFold(value, "chunked") || f.chunked {
			return protocol("Transfer-Encoding %.40q", value)
		}
		f.chunked = true
	case strings.EqualFold(name, "connection"):
		if strings.EqualFold(value, "close") {
			f.close = true
		}
	case strings.EqualFold(name, "keep-alive"):
	case strings.EqualFold(name, mark):
		a.Marked = true
	default:
		a.Header = append(a.Header, Field{Name: name, Value: value})
	}
	return nil
}

// arm sets the body up.
func (a *answer) arm(cn *conn, method string, f framing) *Response {
	b := &a.body
	b.cn, b.keep = cn, !f.close
	a.Body = b
	switch {
	case a.Status == 101:
		a.Body, a.Tunnel = nil, &tunnel{cn: cn}
	case method == "HEAD", a.Status == 204, a.Status == 304:
		b.finish()
	case f.chunked:
		b.mode = chunkSizeNext
	case a.Length == 0:
		b.finish()
	case a.Length > 0:
		b.mode, b.left = counted, a.Length
	default:
		b.mode, b.keep = untilEnd, false
	}
	return &a.Response
}

// Ways in which a body goes on.
const (
	ended = iota
	counted
	untilEnd
	chunkSizeNext  // a size line comes
	chunkData      // left bytes of a chunk come
	chunkEnd       // the line end after a chunk comes
	chunkLastLines // trailers come
)

// body reads the body of a response. Not safe for concurrent use: what ends a waiting Read is the
// end of the exchange's ctx.
type body struct {
	cn   *conn // nil when finished
	mode int
	left int64
	keep bool // the connection can serve others after this
	err  error
}

// Read reads on. An end before the end is a *LostError.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.mode == ended {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.read(p)
	if err == nil {
		return n, nil
	}
	if err == io.EOF && b.mode == ended {
		b.finish()
		return n, io.EOF
	}
	if b.cn != nil {
		b.err = b.cn.lost(err, false)
		b.cn = nil
	} else {
		b.err = io.ErrClosedPipe
	}
	return n, b.err
}

func (b *body) read(p []byte) (int, error) {
	for {
		switch b.mode {
		case counted, chunkData:
			return b.some(p)
		case untilEnd:
			n, err := b.cn.buffered(p)
			if err == io.EOF {
				b.mode = ended
			}
			return n, err
		case chunkEnd:
			if line, err := b.cn.line(); err != nil {
				return 0, err
			} else if line != "" {
				return 0, protocol("no line end after a chunk")
			}
			b.mode = chunkSizeNext
		case chunkSizeNext:
			line, err := b.cn.line()
			if err != nil {
				return 0, err
			}
			size, _, _ := strings.Cut(line, ";")
			size = strings.TrimRight(size, " \t")
			n, err := strconv.ParseUint(size, 16, 63)
			if err != nil || size[0] == '+' {
				return 0, protocol("chunk size %.40q", line)
			}
			b.mode, b.left = chunkData, int64(n)
			if n == 0 {
				b.mode = chunkLastLines
			}
		case chunkLastLines:
			line, err := b.cn.line()
			if err != nil {
				return 0, err
			}
			if line == "" {
				b.mode = ended
			}
		default:
			return 0, io.EOF
		}
	}
}

// some reads bytes of known number.
func (b *body) some(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.cn.buffered(p)
	b.left -= int64(n)
	if b.left > 0 || err != nil {
		return n, err
	}
	if b.mode == counted {
		b.mode = ended
		return n, io.EOF
	}
	b.mode = chunkEnd
	return n, nil
}

// Close gives the connection back if the body was read to its end, else closes it.
func (b *body) Close() error {
	if cn := b.cn; cn != nil {
		b.cn, b.mode = nil, ended
		b.err = io.ErrClosedPipe
		cn.finish(false)
	}
	return nil
}

func (b *body) finish() {
	cn := b.cn
	b.cn, b.mode = nil, ended
	cn.finish(b.keep && cn.r == cn.w)
}

// buffered reads from the buffer, else from the connection, past the buffer if p is large.
func (cn *conn) buffered(p []byte) (int, error) {
	if cn.r == cn.w {
		if len(p) >= bufferSize {
			return cn.read(p)
		}
		if err := cn.fill(bufferSize); err != nil {
			return 0, err
		}
	}
	n := copy(p, cn.in[cn.r:cn.w])
	cn.r += n
	return n, nil
}

const maxLine = 4 << 10 // of chunk sizes and trailers

// line returns the next line without its end.
func (cn *conn) line() (string, error) {
	for {
		if i := bytes.IndexByte(cn.in[cn.r:cn.w], '\n'); i >= 0 {
			line := cn.in[cn.r : cn.r+i]
			cn.r += i + 1
			if i == 0 || line[i-1] != '\r' {
				return "", protocol("a line does not end in CRLF")
			}
			return string(line[:i-1]), nil
		}
		if cn.w-cn.r > maxLine {
			return "", protocol("a line is over %d bytes", maxLine)
		}
		if err := cn.fill(2 * bufferSize); err != nil {
			return "", err
		}
	}
}

// tunnel is the connection after a 101. Read and Write may be used at once.
type tunnel struct{ cn *conn }

// Read reads from the script.
func (t *tunnel) Read(p []byte) (int, error) {
	if t.cn.r < t.cn.w {
		n := copy(p, t.cn.in[t.cn.r:t.cn.w])
		t.cn.r += n
		return n, nil
	}
	return t.cn.read(p)
}

// Write writes to the script.
func (t *tunnel) Write(p []byte) (int, error) { return t.cn.c.Write(p) }

// CloseWrite tells the script that nothing more comes.
func (t *tunnel) CloseWrite() error {
	if c, ok := t.cn.c.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// Close ends the tunnel. It may be called while Read or Write wait.
func (t *tunnel) Close() error {
	if t.cn.stop != nil {
		t.cn.stop()
	}
	return t.cn.c.Close()
}
