package tail_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"selvage/engine/isolate"
	"selvage/product/workers/tail"
)

// script logs and throws as it is told.
const code = `
export default {
	async fetch(request, env, ctx) {
		const { pathname } = new URL(request.url);
		console.log("hello", { a: 1 }, [1, 2], new Error("logged"));
		if (pathname === "/boom") throw new TypeError("boom");
		if (pathname === "/later") ctx.waitUntil(Promise.reject(new RangeError("late")));
		if (pathname === "/loud") for (let i = 0; i < 3000; i++) console.log("x".repeat(100));
		return new Response("ok");
	},
	async scheduled() { console.warn("cron"); },
}`

// traced is a script that runs, with its traces going to a Hub.
type traced struct {
	*site
	host *isolate.Host
	t    testing.TB
}

func newTraced(t testing.TB, s *site) *traced {
	t.Helper()
	path, err := isolate.FindRuntime(os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "tail") // t.TempDir() is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	host, err := isolate.New(isolate.Options{Runtime: path, RunDir: filepath.Join(dir, "r"), Spares: -1, Replicas: 1, Code: func(_ context.Context, digest string) ([]byte, error) {
		if digest != "code" {
			return nil, errors.New("no such code")
		}
		return []byte(code), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = host.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = os.RemoveAll(dir)
	})
	host.Set(isolate.Unit{Key: "unit", Tenant: account,
		Services: []isolate.Service{{Name: "trace", Serve: tail.Service(s.hub, account, "api", "ver")}},
		Programs: []isolate.Program{{Name: "api", Version: "ver", CompatibilityDate: "2026-01-01", Trace: "trace",
			Modules: []isolate.Module{{Name: "dist/w.js", Type: "esm", Digest: "code"}}}},
	})
	return &traced{s, host, t}
}

func (r *traced) get(path string) int {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	res, err := r.host.Fetch(ctx, isolate.Address{Unit: "unit", Program: "api"}, &isolate.Request{
		Method: "GET", Scheme: "https", Host: "site.test", Target: path, CF: []byte(`{"colo":"DEV"}`), Again: true,
		Header: func(yield func(string, string) bool) { yield("cf-connecting-ip", "192.0.2.7") },
	})
	if err != nil {
		r.t.Error(err)
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.Status
}

func TestTracesOfTheRuntime(t *testing.T) {
	s := newSite(t, tail.Options{SourceMap: func(context.Context, string, string, string) ([]byte, error) {
		// Line 5 of the module is line 1 of the source, line 6 is line 2.
		return []byte(`{"version":3,"sources":["../src/app.ts"],"mappings":";;;;AAAA;AACA"}`), nil
	}})
	w := s.watch(s.open("api", `{"client_ip":["192.0.2.7"]}`))
	r := newTraced(t, s)
	if got := r.get("/hi?a=b"); got != 200 {
		t.Errorf("status %d", got)
	}
	m := w.next()
	if m.Outcome != "ok" || m.ScriptName != "api" || m.ScriptVersion.ID != "ver" || !strings.Contains(m.raw, `"colo":"DEV"`) || !strings.Contains(m.raw, `"status":200`) {
		t.Errorf("trace %s", m.raw)
	}
	if req := m.Event["request"].(map[string]any); req["url"] != "https://site.test/hi?a=b" || req["method"] != "GET" {
		t.Errorf("request %v", req)
	}
	want := `["hello",{"a":1},[1,2],"Error: logged\n    at Object.fetch (src/app.ts:1:1)"]`
	if got, _ := json.Marshal(m.Logs[0].Message); string(got) != want {
		t.Errorf("logged %s, want %s", got, want)
	}
	r.get("/boom")
	if m := w.next(); m.Outcome != "exception" || m.Exceptions[0].Name != "TypeError" || m.Exceptions[0].Message != "boom" || m.Exceptions[0].Stack != "    at Object.fetch (src/app.ts:2:1)" {
		t.Errorf("trace %s", m.raw)
	}
	r.get("/later")
	if m := w.next(); len(m.Exceptions) != 1 || m.Exceptions[0].Message != "late" {
		t.Errorf("trace %s", m.raw)
	}
}

// TestTracesUnderLoad asks much of a loud script: each trace arrives or is counted, and the answers do
// not wait for either. A batch that the node took and answered too late is both, and one that it did not
// take in time is told of with the next.
func TestTracesUnderLoad(t *testing.T) {
	const requests = 200
	s := newSite(t, tail.Options{})
	w := s.watch(s.open("api", ""))
	r := newTraced(t, s)
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for range requests / 4 {
				if got := r.get("/loud"); got != 200 {
					t.Errorf("status %d", got)
				}
			}
		})
	}
	var more atomic.Int64
	told, stop := context.WithCancel(t.Context())
	defer stop()
	asking.Go(func() {
		for t := time.NewTicker(2 * time.Second); ; {
			select {
			case <-told.Done():
				t.Stop()
				return
			case <-t.C:
				more.Add(1)
				r.get("/hi")
			}
		}
	})
	seen, lost := 0, 0
	for seen+lost < requests {
		m := w.next()
		text, notice := m.Event["message"].(string)
		if !notice {
			seen++
			continue
		}
		if n, _ := fmt.Sscanf(text, "Tail is dropping messages due to their high volume, %d so far", &lost); n == 0 {
			_, _ = fmt.Sscanf(text, "Tail is no longer dropping messages; %d were lost", &lost)
		}
	}
	stop()
	asking.Wait()
	if seen > requests+int(more.Load()) || seen == 0 {
		t.Errorf("of %d traces %d arrived and %d were lost", requests, seen, lost)
	}
}
