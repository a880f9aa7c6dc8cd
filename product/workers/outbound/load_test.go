package outbound_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"selvage/product/workers/outbound"
)

// Many fetches at once, some of which the script or its client gives up, all end, and leave nothing.
func TestManyAtOnce(t *testing.T) {
	var open atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open.Add(1)
		defer open.Add(-1)
		if strings.HasPrefix(r.URL.Path, "/slow") {
			<-r.Context().Done()
			return
		}
		io.WriteString(w, r.URL.Path)
	}))
	t.Cleanup(origin.Close)
	before := runtime.NumGoroutine()
	t.Run("load", func(t *testing.T) {
		o := world(t, nil, nil)
		c := start(t, script{source: fetcher, services: map[string]serve{"egress": o.Egress(outbound.Caller{AccountID: "open"})}})
		var work sync.WaitGroup
		for range 16 {
			work.Go(func() {
				for range 5 {
					if _, got := c.get("/many?to=" + origin.URL + "/n"); strings.Count(got, "/n") != 20 {
						t.Errorf("20 at once: %.200q", got)
					}
					if _, got := c.get("/abort?to=" + origin.URL + "/slow"); got != "TimeoutError" {
						t.Errorf("given up: %q", got)
					}
				}
			})
		}
		work.Wait()
		for end := time.Now().Add(10 * time.Second); open.Load() > 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d requests are still at the origin", open.Load())
			}
		}
	})
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+10; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}
