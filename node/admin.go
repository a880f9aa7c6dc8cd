package node

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// health knows why the node is not what it should be: reasons by part. Safe for concurrent use.
type health struct {
	mu      sync.Mutex // guards the fields below
	reasons map[string]reason
}

type reason struct {
	Part   string `json:"part"`
	Reason string `json:"reason"`
	Serves bool   `json:"serves"` // whether sites are served all the same
}

// set says what is wrong with a part, or with an empty text that it is well.
func (h *health) set(part, text string, serves bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reasons == nil {
		h.reasons = map[string]reason{}
	}
	if text == "" {
		delete(h.reasons, part)
		return
	}
	h.reasons[part] = reason{part, text, serves}
}

// report returns the reasons, sorted by part, and whether the node serves.
func (h *health) report() (list []reason, serves bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	serves = true
	list = []reason{}
	for _, r := range h.reasons {
		list = append(list, r)
		serves = serves && r.Serves
	}
	slices.SortFunc(list, func(a, b reason) int {
		if a.Part < b.Part {
			return -1
		}
		return 1
	})
	return list, serves
}

// newAdmin serves what operators and their machines look at. It has no authentication: it belongs
// on a private address.
func newAdmin(metrics prometheus.Gatherer, h *health, withPprof bool) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		reasons, serves := h.report()
		w.Header().Set("Content-Type", "application/json")
		if !serves {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		json.NewEncoder(w).Encode(map[string]any{"ready": serves, "reasons": reasons})
	})
	if withPprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return &http.Server{Handler: notThroughEdge(mux), ReadHeaderTimeout: 5 * time.Second}
}

// notThroughEdge refuses what came through an edge, this one or another: a private address is no
// wall against a tenant whose origin is set to it. Clients cannot keep an edge from adding CDN-Loop.
func notThroughEdge(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, looped := r.Header["Cdn-Loop"]; looped {
			http.Error(w, "This address is for the node's operator and is not served through an edge.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
