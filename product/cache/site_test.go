package cache_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"selvage/edge"
	"selvage/foundation/clock"
	"selvage/product"
	"selvage/product/cache"
	"selvage/product/producttest"
	"selvage/spec"
)

// site is a zone behind a cache, with an origin made of a function and a clock of its own.
type site struct {
	t       testing.TB
	cache   *cache.Cache
	zone    *spec.ZoneConfig
	snap    *spec.Snapshot
	handler edge.Handler
	fetches atomic.Int64
	skew    atomic.Int64 // nanoseconds that the clock is ahead
	stop    func()

	mu     sync.Mutex // guards the field below
	origin func(ctx context.Context, ex *edge.Exchange) error
}

// everything is the rule that makes all requests eligible and reads RFC 9111 strictly.
const everything = `{"cache": true, "origin_cache_control": true}`

// newSite opens a cache in o.Dir and runs it until the test ends or stop is called.
func newSite(t testing.TB, o cache.Options, rules ...string) *site {
	t.Helper()
	s := &site{t: t}
	o.Clock = clock.Fixed(s.now)
	s.cache = open(t, o)
	s.snap = producttest.Snapshot(1, "site.test")
	s.zone = s.snap.ZoneByName("site.test")
	s.setRules(rules...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.cache.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(s.stop)
	front := edge.Phase{Name: "front", Handle: func(ctx context.Context, ex *edge.Exchange, next edge.Handler) error {
		ex.Zone = s.zone
		return next(ctx, ex)
	}}
	log := slog.New(slog.NewTextHandler(testLog{t}, nil))
	s.handler = edge.Chain(log, []edge.Step{{Phase: front}, {Phase: s.cache.Phase()}}, s.fetch)
	return s
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Errorf("logged: %s", p)
	return len(p), nil
}

func (s *site) now() time.Time { return time.Now().Add(time.Duration(s.skew.Load())) }

// later moves the clock.
func (s *site) later(d time.Duration) { s.skew.Add(int64(d)) }

// setRules replaces the zone's cache rules, each with the expression "true", or "when => parameters".
func (s *site) setRules(rules ...string) {
	s.t.Helper()
	rs := ruleset(s.zone.Zone.ID, rules...)
	s.update(spec.Change{Key: rs.Key(), Noun: rs})
}

func ruleset(zoneID string, rules ...string) *spec.Ruleset {
	rs := &spec.Ruleset{ID: strings.Repeat("c", 32), ZoneID: zoneID, Kind: "zone", Phase: "http_request_cache_settings"}
	for _, r := range rules {
		when, set, ok := strings.Cut(r, " => ")
		if !ok {
			when, set = "true", r
		}
		rs.Rules = append(rs.Rules, spec.Rule{Expression: when, Action: "set_cache_settings", ActionParameters: json.RawMessage(set), Enabled: true})
	}
	return rs
}

func (s *site) setting(id string, v any) {
	s.t.Helper()
	set := &spec.Settings{ZoneID: s.zone.Zone.ID, Values: map[string]any{id: v}}
	s.update(spec.Change{Key: set.Key(), Noun: set})
}

func (s *site) update(changes ...spec.Change) {
	s.t.Helper()
	s.snap = s.snap.With(s.snap.Version+1, changes)
	change, err := s.cache.Prepare(context.Background(), s.snap)
	if err != nil {
		s.t.Fatalf("Prepare = %v", err)
	}
	change.Commit()
	s.zone = s.snap.Zones[s.zone.Zone.ID]
}

// serve sets what the origin does.
func (s *site) serve(f func(ctx context.Context, ex *edge.Exchange) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.origin = f
}

// says makes the origin answer 200 with fields and a body that counts its answers.
func (s *site) says(fields ...string) {
	var n atomic.Int64
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		ex.Respond(200, edge.NewHeader(fields...), []byte(fmt.Sprintf("answer %d", n.Add(1))))
		return nil
	})
}

// fails makes the origin unreachable.
func (s *site) fails() {
	s.serve(func(context.Context, *edge.Exchange) error {
		return &edge.Failure{Status: 521, Reason: "origin_refused"}
	})
}

func (s *site) fetch(ctx context.Context, ex *edge.Exchange) error {
	s.fetches.Add(1)
	s.mu.Lock()
	f := s.origin
	s.mu.Unlock()
	if f == nil {
		return errors.New("no origin")
	}
	return f(ctx, ex)
}

// reply is what a client gets.
type reply struct {
	edge.Response
	status string // CF-Cache-Status
	body   string
	err    error
}

// get sends a GET for a URI.
func (s *site) get(uri string, fields ...string) reply { return s.do("GET", uri, fields...) }

func (s *site) do(method, uri string, fields ...string) reply {
	return s.send(context.Background(), s.request(method, uri, fields...))
}

func (s *site) request(method, uri string, fields ...string) *edge.Exchange {
	ex := &edge.Exchange{ID: "0123456789abcdef", Start: s.now(), Inform: func(int, *edge.Header) {}}
	ex.Request = edge.Request{Method: method, Scheme: "https", Host: "site.test", Proto: "HTTP/1.1", Header: edge.NewHeader(fields...)}
	ex.Request.Path, ex.Request.Query, _ = strings.Cut(uri, "?")
	return ex
}

func (s *site) send(ctx context.Context, ex *edge.Exchange) reply {
	if err := s.handler(ctx, ex); err != nil {
		return reply{err: err}
	}
	r := reply{Response: ex.Response, status: ex.Response.Header.Get("CF-Cache-Status")}
	if r.Body != nil {
		var b bytes.Buffer
		_, r.err = io.Copy(&b, r.Body)
		r.Body.Close()
		r.body = b.String()
	}
	return r
}

// want checks status and body of a reply.
func (s *site) want(r reply, status, body string) {
	s.t.Helper()
	if r.err != nil || r.status != status || r.body != body {
		s.t.Errorf("got %s %q (%v), want %s %q", r.status, r.body, r.err, status, body)
	}
}

// purge calls the purge operation.
func (s *site) purge(body string) error {
	route := s.cache.Routes()[0]
	_, err := route.Handle(context.Background(), &product.Call{Zone: s.zone, Body: strings.NewReader(body)})
	return err
}

// settle waits until what is stored has reached the disk.
func (s *site) settle(objects int64) {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for s.cache.Stats().DiskObjects != objects || !s.cache.Stats().Indexed {
		if time.Now().After(deadline) {
			s.t.Fatalf("disk holds %+v, want %d objects", s.cache.Stats(), objects)
		}
		time.Sleep(time.Millisecond)
	}
}

func changeOf(n spec.Noun) spec.Change { return spec.Change{Key: n.Key(), Noun: n} }
