package s3

import (
	"io"
	"log"
	"net/http"
	"strconv"
	"time"
)

// sendStep is how much of a file is sent under one deadline. With writeWithin it is also the slowest
// that a client may read: 8 KiB a second.
const sendStep = 1 << 20

const lingerFor = 5 * time.Second

// answer is the response, counted, with deadlines that move on while the client reads.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	head    bool // HEAD: no body
	wrote   bool // the head is out
	aborted bool
	status  int
	code    string // S3's word for a refusal
	sent    int64  // bytes of the body
}

func newAnswer(w http.ResponseWriter, head bool) *answer {
	return &answer{ResponseWriter: w, control: http.NewResponseController(w), head: head}
}

// WriteHeader sends the head.
func (a *answer) WriteHeader(status int) {
	a.wrote, a.status = true, status
	a.push()
	a.ResponseWriter.WriteHeader(status)
}

// Write sends a part of the body.
func (a *answer) Write(p []byte) (int, error) {
	if !a.wrote {
		a.WriteHeader(http.StatusOK)
	}
	n, err := a.ResponseWriter.Write(p)
	a.sent += int64(n)
	return n, err
}

// push gives the client time for the next step.
func (a *answer) push() { a.control.SetWriteDeadline(time.Now().Add(writeWithin)) }

// xml sends a document.
func (a *answer) xml(status int, doc []byte) {
	h := a.Header()
	h["Content-Type"] = []string{"application/xml"}
	if a.head {
		a.WriteHeader(status)
		return
	}
	h["Content-Length"] = []string{strconv.Itoa(len(doc))}
	a.WriteHeader(status)
	a.Write(doc)
}

// empty sends a head alone.
func (a *answer) empty(status int) {
	if status != http.StatusNoContent {
		a.Header()["Content-Length"] = []string{"0"}
	}
	a.WriteHeader(status)
}

// ReadFrom sends what r has, a step at a time; from a file without copying it.
func (a *answer) ReadFrom(r io.Reader) (total int64, err error) {
	left := int64(1<<63 - 1)
	if l, ok := r.(*io.LimitedReader); ok {
		r, left = l.R, l.N
		defer func() { l.N -= total }()
	}
	for left > 0 {
		a.push()
		want := min(left, sendStep)
		n, err := io.Copy(a.ResponseWriter, &io.LimitedReader{R: r, N: want})
		a.sent += n
		total += n
		left -= n
		if err != nil || n < want {
			return total, err
		}
	}
	return total, nil
}

// send sends a body of n bytes. It breaks the connection off if they do not come or the client does not
// take them: the head promised them.
func (a *answer) send(body io.Reader, n int64) {
	if sent, err := io.Copy(a, body); err != nil || sent != n {
		a.aborted = true
		panic(http.ErrAbortHandler)
	}
}

// finish leaves the connection in order for the next request. What is left of a body that nobody
// wanted has a moment to come in, so that the client reads the answer.
func (a *answer) finish(unread bool) {
	if !a.wrote {
		a.empty(http.StatusOK)
	}
	a.push()
	if unread {
		a.control.SetReadDeadline(time.Now().Add(lingerFor))
	}
}

// quiet drops what net/http says of clients that break off.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
