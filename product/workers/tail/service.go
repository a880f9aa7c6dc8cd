package tail

import (
	"context"
	_ "embed" // the collector
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Collector is the module of the tail Worker that stands beside a traced script. It is an ES module
// whose env has NODE, a service binding to what Service serves; it needs no compatibility flags and no
// outbound network.
//
//go:embed js/collector.js
var Collector string

// lostHeader says how many traces the collector had to drop since it last said so.
const lostHeader = "X-Selvage-Lost"

// Service takes in what the collector of one version of a script posts. The function serves a listener
// until ctx ends, and closes it: it is the Serve of an isolate.Service.
func Service(h *Hub, accountID, name, versionID string) func(ctx context.Context, l net.Listener) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		items, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBatch))
		if err != nil || h.Accept(accountID, name, versionID, json.RawMessage(items)) != nil {
			h.lose(script{accountID, name}, 1, h.metrics.lostBroken)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if n, err := strconv.Atoi(r.Header.Get(lostHeader)); err == nil {
			h.Lost(accountID, name, n)
		}
		w.WriteHeader(http.StatusNoContent)
	}
	return func(ctx context.Context, l net.Listener) {
		srv := &http.Server{
			Handler: http.HandlerFunc(handler), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
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
		// What the collector has on its way is the end of the story: let it in.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(last) != nil {
			_ = srv.Close()
		}
		<-served
	}
}
