package tail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// unwatchedField tells the runtime's side that nobody wants traces now, so that it makes none for a
// moment. It stands in engine/isolate/js/host.js, too.
const unwatchedField = "X-Selvage-Unwatched"

// Service takes in the traces of one version of a script, as the runtime posts them: JSON arrays of items,
// one of which may say how many were lost before. The function serves a listener until ctx ends, and closes
// it: it is the Serve of an isolate.Service that a program names as its Trace.
func Service(h *Hub, accountID, name, versionID string) func(ctx context.Context, l net.Listener) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		if err := h.take(script{accountID, name}, versionID, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if !h.Watched(accountID, name) {
			w.Header().Set(unwatchedField, "1")
		}
		w.WriteHeader(http.StatusNoContent)
	}
	return func(ctx context.Context, l net.Listener) {
		srv := &http.Server{
			Handler: http.HandlerFunc(handler), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
			ErrorLog: slog.NewLogLogger(h.o.Observe.Logger().Handler(), slog.LevelDebug),
		}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		select {
		case err := <-served:
			if ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
				h.o.Observe.Logger().Error("traces are not taken in any more", "account", accountID, "script", name, "error", err)
			}
			_ = srv.Close()
			return
		case <-ctx.Done():
		}
		// What the runtime has on its way is the end of the story: let it in.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(last) != nil {
			_ = srv.Close()
		}
		<-served
	}
}

// take reads an array of any length, in pieces: it may hold all that a script did while the node was
// slow.
func (h *Hub) take(of script, version string, body io.Reader) error {
	in := &allowance{r: body, left: maxItem}
	dec := json.NewDecoder(in)
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		h.lose(of, 1, h.metrics.lostBroken)
		return errors.New("traces come as a JSON array")
	}
	b := batch{version: version}
	size := 0
	for dec.More() {
		in.left = maxItem
		var item json.RawMessage
		if err := dec.Decode(&item); err != nil {
			h.accept(of, b)
			h.lose(of, 1, h.metrics.lostBroken)
			return fmt.Errorf("read a trace: %w", err)
		}
		b.items, size = append(b.items, item), size+len(item)
		if size >= batchBytes || len(b.items) >= batchItems {
			h.accept(of, b)
			b.items, size = nil, 0
		}
	}
	h.accept(of, b)
	return nil
}

// allowance reads as long as it has something left.
type allowance struct {
	r    io.Reader
	left int
}

// Read reads at most what is left.
func (a *allowance) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, fmt.Errorf("it has more than %d bytes", maxItem)
	}
	n, err := a.r.Read(p[:min(len(p), a.left)])
	a.left -= n
	return n, err
}
