package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
)

// envelope is the form of every answer of the v4 API.
type envelope struct {
	Result   any               `json:"result"`
	Success  bool              `json:"success"`
	Errors   []failure         `json:"errors"`
	Messages []product.Message `json:"messages"`
	Info     any               `json:"result_info,omitempty"`
}

// failure is one entry of "errors".
type failure struct {
	product.Message
	Chain []product.Message `json:"error_chain,omitempty"`
}

// cursorInfo is the result_info of listings that go by cursor: without page numbers.
type cursorInfo struct {
	Count   int              `json:"count"`
	PerPage int              `json:"per_page"`
	Cursor  string           `json:"cursor,omitempty"`
	Cursors *product.Cursors `json:"cursors,omitempty"`
	*product.ObjectsInfo
}

// refusal is an answer that no fault kind describes: routing and authentication.
type refusal struct {
	status     int
	retryAfter time.Duration
	failure    failure
}

// Error returns the message.
func (r *refusal) Error() string { return r.failure.Message.Message }

func refuse(status, code int, format string, args ...any) *refusal {
	return &refusal{status: status, failure: failure{Message: product.Message{Code: code, Message: fmt.Sprintf(format, args...)}}}
}

func noRoute(r *http.Request) error {
	path := r.URL.EscapedPath()
	if len(path) > 200 {
		path = path[:200] + "..."
	}
	return refuse(http.StatusNotFound, 7003, "Could not route to %s, perhaps your object identifier is invalid?", path)
}

func wrongMethod(method string, allowed []string) error {
	return refuse(http.StatusMethodNotAllowed, 10405, "Method %.20s is not allowed here; allowed are %s.", method, strings.Join(allowed, ", "))
}

// answer writes the one answer of a request and remembers what it was.
type answer struct {
	http.ResponseWriter
	head   bool // HEAD: no body
	status int  // 0 until written
}

// reply writes a success.
func (w *answer) reply(ctx context.Context, r product.Reply) error {
	if r.Status == 0 {
		r.Status = http.StatusOK
	}
	if r.Raw != nil {
		return w.raw(ctx, r)
	}
	if r.Upgrade != nil {
		return w.upgrade(ctx, r)
	}
	if r.Status == http.StatusNoContent {
		w.begin(r.Status)
		return nil
	}
	e := envelope{Result: r.Result, Success: true, Errors: []failure{}, Messages: r.Messages}
	if e.Messages == nil {
		e.Messages = []product.Message{}
	}
	if i := r.Info; i != nil {
		e.Info = i
		if i.ByCursor || i.Cursor != "" || i.Cursors != nil || i.Objects != nil {
			e.Info = cursorInfo{Count: i.Count, PerPage: i.PerPage, Cursor: i.Cursor, Cursors: i.Cursors, ObjectsInfo: i.Objects}
		}
	}
	return w.json(r.Status, e)
}

func (w *answer) json(status int, e envelope) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(buf.Len()))
	w.begin(status)
	if !w.head {
		_, _ = w.Write(buf.Bytes())
	}
	return nil
}

func (w *answer) begin(status int) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.status = status
	w.WriteHeader(status)
}

// raw writes an answer that is not an envelope.
func (w *answer) raw(ctx context.Context, r product.Reply) error {
	for name, values := range r.Raw.Header {
		w.Header()[name] = values
	}
	if r.Raw.ContentType != "" {
		w.Header().Set("Content-Type", r.Raw.ContentType)
	}
	if w.head {
		w.begin(r.Status)
		return nil
	}
	// A stream may last longer than the server's write timeout.
	control := http.NewResponseController(w.ResponseWriter)
	_ = control.SetWriteDeadline(time.Time{})
	s := &stream{w: w, status: r.Status, control: control}
	err := r.Raw.Write(ctx, s)
	if w.status == 0 && err == nil {
		w.begin(r.Status)
	}
	return err
}

// upgrade sends the head and hands the connection over.
func (w *answer) upgrade(ctx context.Context, r product.Reply) error {
	conn, buf, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return fmt.Errorf("take over the connection: %w", err)
	}
	defer conn.Close()
	w.status = http.StatusSwitchingProtocols
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil // the client has gone
	}
	fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")
	_ = r.Header.Write(buf)
	fmt.Fprintf(buf, "\r\n")
	if buf.Flush() == nil {
		r.Upgrade(ctx, conn, buf.Reader)
	}
	return nil
}

// stream begins the answer at its first byte and flushes after each write.
type stream struct {
	w       *answer
	status  int
	control *http.ResponseController
}

// Write sends p at once.
func (s *stream) Write(p []byte) (int, error) {
	if s.w.status == 0 {
		s.w.begin(s.status)
	}
	n, err := s.w.Write(p)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}

var _ io.Writer = (*stream)(nil)

// fail writes an error. Faults say it in their own words; anything else becomes an id that the log
// explains. If the answer has begun, the connection is cut, so that no client takes a part for the
// whole.
func (a *API) fail(w *answer, x *exchange, r *http.Request, err error) {
	if w.status != 0 && r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client left: nothing to explain
	}
	status, failures := a.explain(x, r, err)
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	var ref *refusal
	if errors.As(err, &ref) && ref.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(ref.retryAfter/time.Second)+1))
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	_ = w.json(status, envelope{Errors: failures, Messages: []product.Message{}})
}

func (a *API) explain(x *exchange, r *http.Request, err error) (int, []failure) {
	var ref *refusal
	if errors.As(err, &ref) {
		return ref.status, []failure{ref.failure}
	}
	faults := fault.All(err)
	if len(faults) == 0 || faults[0].Kind == fault.Internal {
		a.o.Observe.Logger().Error("api request failed", "id", x.id, "method", r.Method, "path", r.URL.Path, "error", err)
		return http.StatusInternalServerError, []failure{{Message: product.Message{
			Code: 10001, Message: "Internal error " + x.id + ": this is not your fault. Try again; if it stays, look for this id in the node's log.",
		}}}
	}
	if faults[0].Kind == fault.Unavailable {
		a.o.Observe.Logger().Error("api request unavailable", "id", x.id, "method", r.Method, "path", r.URL.Path, "error", err)
	}
	status := 0
	failures := make([]failure, 0, len(faults))
	for _, f := range faults {
		s, code := statusOf(f)
		status = max(status, s)
		if f.Code != 0 {
			code = f.Code
		}
		m := product.Message{Code: code, Message: f.Message}
		if f.Field != "" {
			m.Source = &product.Source{Pointer: pointer(f.Field)}
		}
		failures = append(failures, failure{Message: m})
	}
	return status, failures
}

// statusOf is the one place where kinds of fault become HTTP status and v4 error code.
func statusOf(f *fault.Error) (status, code int) {
	switch f.Kind {
	case fault.Invalid, fault.Unsupported:
		return http.StatusBadRequest, 1001
	case fault.NotFound:
		return http.StatusNotFound, 7003
	case fault.Conflict:
		// As at Cloudflare, and not 409: its SDKs take that for a lock and try again.
		return http.StatusBadRequest, 1009
	case fault.Unauthenticated:
		return http.StatusUnauthorized, 10000
	case fault.Denied:
		return http.StatusForbidden, 10000
	case fault.TooMuch:
		// Too many rules or too long a comment is a wrong value; too long a body is a status of its own.
		if f.Field != "" {
			return http.StatusBadRequest, 1001
		}
		return http.StatusRequestEntityTooLarge, 10027
	case fault.Unavailable:
		return http.StatusServiceUnavailable, 7010
	}
	return http.StatusInternalServerError, 10001
}

// pointer turns a path such as "rules[3].expression" into the JSON pointer "/rules/3/expression".
func pointer(field string) string {
	field = strings.NewReplacer("~", "~0", "/", "~1").Replace(field)
	return "/" + strings.NewReplacer("].", "/", "[", "/", "]", "", ".", "/").Replace(field)
}
