package socket

import (
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"selvage/edge"
)

const copySize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// newRay returns 16 hex digits that name a request.
func newRay() string {
	var raw [8]byte
	n := rand.Uint64()
	for i := range raw {
		raw[i] = byte(n >> (8 * i))
	}
	return hex.EncodeToString(raw[:])
}

// allowWrite bounds the next write. The deadline is moved rarely: setting it costs.
func (cv *conversation) allowWrite() {
	if now := time.Now(); cv.writeUntil.Sub(now) < pauseTime {
		cv.writeUntil = now.Add(pauseTime + pauseTime/4)
		cv.conn.SetWriteDeadline(cv.writeUntil)
	}
}

// send gives the response to the child; false if it is not whole, and the connection of no use.
func (cv *conversation) send() bool {
	res := &cv.ex.Response
	head := cv.ex.Request.Method == http.MethodHead
	bodied := res.Status != http.StatusNoContent && res.Status != http.StatusNotModified && res.Status >= 200
	cv.writeHead(bodied, head)
	cv.allowWrite()
	if !bodied || head || res.Body == nil {
		return cv.out.Flush() == nil
	}
	var whole bool
	if res.Length < 0 {
		whole = cv.copyChunks(res.Body)
	} else {
		whole = cv.copyLength(res)
	}
	return cv.out.Flush() == nil && whole // what came before it broke off goes out too
}

func (cv *conversation) writeHead(bodied, head bool) {
	res, out := &cv.ex.Response, cv.out
	writeStatus(out, res.Status, res.Text)
	for _, f := range res.Header.Fields() {
		if !ofConnection(http.CanonicalHeaderKey(f.Name)) && !strings.ContainsAny(f.Name, "\r\n:") && !strings.ContainsAny(f.Value, "\r\n") {
			writeField(out, f)
		}
	}
	switch {
	case !bodied:
	case res.Length >= 0 && (res.Body != nil || head):
		var n [20]byte
		out.WriteString("Content-Length: ")
		out.Write(strconv.AppendInt(n[:0], res.Length, 10))
		out.WriteString("\r\n")
	case res.Body == nil && !head:
		out.WriteString("Content-Length: 0\r\n")
	default:
		out.WriteString("Transfer-Encoding: chunked\r\n")
	}
	out.WriteString("\r\n")
}

// writeStatus writes the first line. What is said in place of the usual text is made to fit there.
func writeStatus(out io.StringWriter, status int, text string) {
	if text == "" {
		text = http.StatusText(status)
	}
	if text == "" {
		text = "Status"
	}
	if strings.ContainsFunc(text, unsafeInLine) {
		text = strings.Map(func(c rune) rune {
			if unsafeInLine(c) {
				return ' '
			}
			return c
		}, text)
	}
	out.WriteString("HTTP/1.1 ")
	out.WriteString(strconv.Itoa(status))
	out.WriteString(" ")
	out.WriteString(text)
	out.WriteString("\r\n")
}

func unsafeInLine(c rune) bool { return c < ' ' || c == 0x7f }

func writeField(out io.StringWriter, f edge.Field) {
	out.WriteString(f.Name)
	out.WriteString(": ")
	out.WriteString(f.Value)
	out.WriteString("\r\n")
}

// copyLength sends a body of known length.
func (cv *conversation) copyLength(res *edge.Response) bool {
	if from, ok := res.Body.(io.WriterTo); ok && res.Length <= copySize {
		n, err := from.WriteTo(cv.out)
		return err == nil && n == res.Length
	}
	buf := buffers.Get().(*[copySize]byte)
	defer buffers.Put(buf)
	for left := res.Length; left > 0; {
		if left > copySize && cv.out.Flush() != nil { // the child may want the head before a long body
			return false
		}
		n, err := res.Body.Read(buf[:min(left, copySize)])
		left -= int64(n)
		cv.allowWrite()
		if _, werr := cv.out.Write(buf[:n]); werr != nil {
			return false
		}
		if left > 0 && n > 0 && cv.out.Flush() != nil {
			return false
		}
		if err != nil && left > 0 {
			return false
		}
	}
	return true
}

// copyChunks sends a body of unknown length as it comes: it may be a stream of events.
func (cv *conversation) copyChunks(body io.Reader) bool {
	if cv.out.Flush() != nil {
		return false
	}
	buf := buffers.Get().(*[copySize]byte)
	defer buffers.Put(buf)
	for {
		n, err := body.Read(buf[:])
		if n > 0 {
			var size [20]byte
			cv.allowWrite()
			cv.out.Write(append(strconv.AppendInt(size[:0], int64(n), 16), '\r', '\n'))
			cv.out.Write(buf[:n])
			cv.out.WriteString("\r\n")
			if cv.out.Flush() != nil {
				return false
			}
		}
		if err == io.EOF {
			cv.out.WriteString("0\r\n\r\n")
			return true
		}
		if err != nil {
			return false
		}
	}
}
