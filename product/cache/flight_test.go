package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"selvage/edge"
	"selvage/product/cache"
)

// pour is an origin's body that arrives when it is let go.
type pour struct {
	io.Reader
	closed atomic.Bool
}

func (p *pour) Close() error { p.closed.Store(true); return nil }

// streams makes the origin answer with what r gives, of unknown length.
func (s *site) streams(r io.Reader, fields ...string) *pour {
	p := &pour{Reader: r}
	s.serve(func(ctx context.Context, ex *edge.Exchange) error {
		ex.Response = edge.Response{Status: 200, Header: edge.NewHeader(fields...), Length: -1, Body: p}
		context.AfterFunc(ctx, func() {
			if pr, ok := r.(*io.PipeReader); ok {
				pr.CloseWithError(context.Cause(ctx))
			}
		})
		return nil
	})
	return p
}

func TestManyRequestsOneFetch(t *testing.T) {
	s := newSite(t, cache.Options{Dir: t.TempDir()}, everything)
	const clients = 300
	body := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/16) // larger than what is kept in memory
	pr, pw := io.Pipe()
	s.streams(pr, "Cache-Control", "max-age=60")
	var wg sync.WaitGroup
	var begun atomic.Int64
	for range clients {
		wg.Go(func() {
			ex := s.request("GET", "/big")
			if err := s.handler(context.Background(), ex); err != nil {
				t.Errorf("got %v", err)
				return
			}
			begun.Add(1)
			defer ex.Response.Close()
			if err := equalStream(ex.Response.Body, body); err != nil {
				t.Error(err)
			}
		})
	}
	// The first octets reach everybody while the rest has not arrived.
	pw.Write(body[:1000])
	eventually(t, func() bool { return begun.Load() == clients })
	pw.Write(body[1000:])
	pw.Close()
	wg.Wait()
	if n := s.fetches.Load(); n != 1 {
		t.Errorf("%d fetches for %d requests, want 1", n, clients)
	}
	eventually(t, func() bool { return s.get("/big").status == "HIT" })
}

func equalStream(r io.Reader, want []byte) error {
	buf := make([]byte, 10000)
	for at := 0; ; {
		n, err := r.Read(buf)
		if at+n > len(want) || !bytes.Equal(buf[:n], want[at:at+n]) {
			return fmt.Errorf("the body differs after %d octets", at)
		}
		at += n
		if err == io.EOF && at == len(want) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d of %d octets: %w", at, len(want), err)
		}
	}
}

func TestLeaderLeavesFollowersStay(t *testing.T) { synctest.Test(t, leaderLeavesFollowersStay) }

func leaderLeavesFollowersStay(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	pr, pw := io.Pipe()
	s.streams(pr, "Cache-Control", "max-age=60")
	ctx, leave := context.WithCancel(context.Background())
	leader := s.request("GET", "/a")
	if err := s.handler(ctx, leader); err != nil {
		t.Fatal(err)
	}
	follower := make(chan reply)
	go func() { follower <- s.get("/a") }()
	synctest.Wait()
	leave()
	leader.Response.Close()
	pw.Write([]byte("all of it"))
	pw.Close()
	s.want(<-follower, "MISS", "all of it")
	if n := s.fetches.Load(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
}

func TestNobodyLeftEndsTheFetch(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	pr, pw := io.Pipe()
	p := s.streams(pr, "Cache-Control", "max-age=60")
	ex := s.request("GET", "/a")
	if err := s.handler(context.Background(), ex); err != nil {
		t.Fatal(err)
	}
	pw.Write([]byte("begin"))
	ex.Response.Close()
	eventually(t, p.closed.Load)
	if _, err := pw.Write([]byte("more")); err == nil {
		t.Error("the origin can still send to nobody")
	}

	// Before the head has come, too.
	asked := make(chan struct{})
	s.serve(func(ctx context.Context, ex *edge.Exchange) error {
		close(asked)
		<-ctx.Done()
		return ctx.Err()
	})
	ctx, leave := context.WithCancel(context.Background())
	gone := make(chan reply)
	go func() { gone <- s.send(ctx, s.request("GET", "/b")) }()
	<-asked
	leave()
	if r := <-gone; r.err == nil {
		t.Error("a client that left got a response")
	}
}

func TestUncacheableIsNotShared(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	var n, most, now atomic.Int64
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		time.Sleep(5 * time.Millisecond)
		ex.Respond(200, edge.NewHeader("Cache-Control", "private"), []byte(fmt.Sprint("for ", n.Add(1))))
		return nil
	})
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	for range 300 {
		wg.Go(func() {
			r := s.get("/me")
			mu.Lock()
			defer mu.Unlock()
			if r.err != nil || seen[r.body] || r.status != "BYPASS" {
				t.Errorf("got %s %q (%v)", r.status, r.body, r.err)
			}
			seen[r.body] = true
		})
	}
	wg.Wait()
	if len(seen) != 300 {
		t.Errorf("%d different answers, want 300", len(seen))
	}
}

func TestFollowersOfAnotherVariant(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	start := make(chan struct{})
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		<-start
		ex.Respond(200, edge.NewHeader("Cache-Control", "max-age=60", "Vary", "Foo"), []byte("for "+ex.Request.Header.Get("Foo")))
		return nil
	})
	var wg sync.WaitGroup
	for i := range 90 {
		foo := fmt.Sprint(i % 3)
		wg.Go(func() {
			if r := s.get("/v", "Foo", foo); r.err != nil || r.body != "for "+foo {
				t.Errorf("Foo %s gets %q (%v)", foo, r.body, r.err)
			}
		})
	}
	eventually(t, func() bool { return s.fetches.Load() > 0 })
	close(start)
	wg.Wait()
}

func TestOriginBreaksOff(t *testing.T) {
	s := newSite(t, cache.Options{Dir: t.TempDir()}, everything)
	broken := errors.New("connection reset")
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		ex.Response = edge.Response{Status: 200, Header: edge.NewHeader("Cache-Control", "max-age=60"), Length: 100,
			Body: io.NopCloser(io.MultiReader(strings.NewReader("half"), errReader{broken}))}
		return nil
	})
	if r := s.get("/a"); !errors.Is(r.err, broken) {
		t.Errorf("got %q and %v, want the origin's error", r.body, r.err)
	}
	// It lies about the length.
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		ex.Response = edge.Response{Status: 200, Header: edge.NewHeader("Cache-Control", "max-age=60"), Length: 100, Body: io.NopCloser(strings.NewReader("short"))}
		return nil
	})
	if r := s.get("/a"); r.err == nil {
		t.Error("a response that ends early looks whole")
	}
	s.says("Cache-Control", "max-age=60")
	s.want(s.get("/a"), "MISS", "answer 1")
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestLockTimeout(t *testing.T) {
	s := newSite(t, cache.Options{LockTimeout: 20 * time.Millisecond}, everything)
	hold := make(chan struct{})
	var n atomic.Int64
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		i := n.Add(1)
		if i == 1 {
			<-hold
		}
		ex.Respond(200, edge.NewHeader("Cache-Control", "max-age=60"), []byte(fmt.Sprint(i)))
		return nil
	})
	first := make(chan reply)
	go func() { first <- s.get("/slow") }()
	eventually(t, func() bool { return n.Load() == 1 })
	s.want(s.get("/slow"), "MISS", "2")
	close(hold)
	s.want(<-first, "MISS", "1")
}

// TestPurgeWinsAgainstFills: whatever was asked for before a purge is not served after it.
func TestPurgeWinsAgainstFills(t *testing.T) {
	for _, purge := range []string{
		`{"purge_everything": true}`, `{"files": ["https://site.test/a"]}`, `{"tags": ["TAG"]}`,
		`{"hosts": ["site.test"]}`, `{"prefixes": ["site.test/a"]}`,
	} {
		t.Run(purge, func(t *testing.T) {
			s := newSite(t, cache.Options{Dir: t.TempDir()}, everything)
			pr, pw := io.Pipe()
			s.streams(pr, "Cache-Control", "max-age=60", "Cache-Tag", "tag")
			old := s.request("GET", "/a")
			if err := s.handler(context.Background(), old); err != nil {
				t.Fatal(err)
			}
			if err := s.purge(purge); err != nil {
				t.Fatal(err)
			}
			s.says("Cache-Control", "max-age=60", "Cache-Tag", "tag")
			s.want(s.get("/a"), "MISS", "answer 1")
			pw.Write([]byte("old"))
			pw.Close()
			io.Copy(io.Discard, old.Response.Body)
			old.Response.Close()
			s.want(s.get("/a"), "HIT", "answer 1")
		})
	}
}

// TestPurgeRaces: while clients read and an origin counts versions, no answer that began after a
// purge was acknowledged is older than the purge.
func TestPurgeRaces(t *testing.T) {
	s := newSite(t, cache.Options{Dir: t.TempDir()}, everything)
	var version atomic.Int64
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		v := version.Load()
		time.Sleep(time.Duration(v%3) * 200 * time.Microsecond)
		ex.Respond(200, edge.NewHeader("Cache-Control", "max-age=60", "Cache-Tag", "t"), []byte(fmt.Sprint(v)))
		return nil
	})
	var purged atomic.Int64
	ctx, stop := context.WithTimeout(context.Background(), 1500*time.Millisecond)
	defer stop()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for ctx.Err() == nil {
				least := purged.Load()
				r := s.get("/a")
				var got int64
				fmt.Sscan(r.body, &got)
				if r.err != nil || got < least {
					t.Errorf("got version %d (%s, %v) after version %d was purged for", got, r.status, r.err, least)
					return
				}
			}
		})
	}
	bodies := []string{`{"tags": ["t"]}`, `{"files": ["https://site.test/a"]}`, `{"purge_everything": true}`, `{"prefixes": ["site.test"]}`}
	for i := 0; ctx.Err() == nil; i++ {
		v := version.Add(1)
		if err := s.purge(bodies[i%len(bodies)]); err != nil {
			t.Fatal(err)
		}
		purged.Store(v)
	}
	wg.Wait()
}

func TestInterimResponsesReachTheLeader(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		h := edge.NewHeader("Link", "</a.css>; rel=preload")
		ex.Inform(103, &h)
		ex.Respond(200, edge.NewHeader("Cache-Control", "max-age=60"), []byte("x"))
		return nil
	})
	for i, want := range []int{1, 0} {
		informed := 0
		ex := s.request("GET", "/a")
		ex.Inform = func(status int, h *edge.Header) {
			if status == 103 && h.Has("Link") {
				informed++
			}
		}
		s.send(context.Background(), ex)
		if informed != want {
			t.Errorf("request %d: %d interim responses, want %d", i+1, informed, want)
		}
	}
}

func TestPanicBelowIsContained(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	s.serve(func(context.Context, *edge.Exchange) error { panic("origin phase") })
	if r := s.get("/a"); r.err == nil {
		t.Error("a panic gives a response")
	}
	s.says("Cache-Control", "max-age=60")
	s.want(s.get("/a"), "MISS", "answer 1")
}

func TestAuthorization(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	s.says("Cache-Control", "max-age=60")
	s.want(s.get("/private", "Authorization", "Basic x"), "BYPASS", "answer 1")
	s.want(s.get("/private"), "MISS", "answer 2")
	s.says("Cache-Control", "max-age=60, public")
	s.want(s.get("/public", "Authorization", "Basic x"), "MISS", "answer 1")
	s.want(s.get("/public"), "HIT", "answer 1")
}

// TestFollowersOutliveTheLeaderOfAPrivateResponse: when the only one that may have a response has
// gone, the others ask for themselves.
func TestFollowersOutliveTheLeaderOfAPrivateResponse(t *testing.T) {
	synctest.Test(t, followersOutliveTheLeader)
}

func followersOutliveTheLeader(t *testing.T) {
	s := newSite(t, cache.Options{}, everything)
	hold, asked := make(chan struct{}), make(chan struct{}, 100)
	var n atomic.Int64
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		asked <- struct{}{}
		i := n.Add(1)
		if i == 1 {
			<-hold
		}
		ex.Respond(200, edge.NewHeader("Cache-Control", "private"), []byte(fmt.Sprint("for ", i)))
		return nil
	})
	ctx, leave := context.WithCancel(context.Background())
	leader, follower := make(chan reply, 1), make(chan reply, 1)
	go func() { leader <- s.send(ctx, s.request("GET", "/me")) }()
	<-asked
	go func() { follower <- s.get("/me") }()
	synctest.Wait()
	leave()
	if r := <-leader; r.err == nil {
		t.Error("a client that left got a response")
	}
	close(hold)
	if r := <-follower; r.err != nil || r.status != "BYPASS" || r.body == "for 1" {
		t.Errorf("got %s %q (%v), want BYPASS and an answer of its own", r.status, r.body, r.err)
	}
}
