package s3

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Clients that keep a connection may send a request on it just when it is closed, and not know whether it
// was heard. Each gets one more answer, which says that the connection ends, if it asks within lastWord.
const (
	lastWord     = time.Second
	lastWordStep = 20 * time.Millisecond
)

// Serve answers on l until ctx ends, then takes no more connections and returns when the requests under
// way are done, or after Options.Finish, when it breaks them off: what was not acknowledged is not there.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var ending atomic.Bool
	var open atomic.Int64
	h := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if ending.Load() {
				w.Header().Set("Connection", "close")
			}
			s.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: headWithin, IdleTimeout: idleFor, WriteTimeout: writeWithin, MaxHeaderBytes: maxHead, ErrorLog: quiet(),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed:
				open.Add(-1)
			}
		},
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ending.Store(true)
	l.Close()
	for waited := time.Duration(0); waited < lastWord && open.Load() > 0; waited += lastWordStep {
		time.Sleep(lastWordStep)
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.Finish)
	defer cancel()
	err := h.Shutdown(patience)
	if errors.Is(err, context.DeadlineExceeded) {
		err = h.Close()
	}
	if errors.Is(err, net.ErrClosed) { // l was closed already, and its loop has not noticed yet
		err = nil
	}
	<-served
	return err
}

// Unavailable answers an S3 client that nothing can be done for it now.
func Unavailable(w http.ResponseWriter, r *http.Request, reason string) {
	id := requestID()
	w.Header()["X-Amz-Request-Id"] = []string{id}
	newAnswer(w, r.Method == http.MethodHead).xml(http.StatusServiceUnavailable, errorDocument(refuse(http.StatusServiceUnavailable, "ServiceUnavailable", "%s", reason), r.URL.Path, id))
}
