package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/sync/semaphore"
)

const (
	outsideWorkers = 16               // resolutions under way at once
	outsideMin     = 30 * time.Second // an answer is kept no shorter than this, whatever its TTL
	outsideMax     = time.Hour        // and no longer
	outsideStale   = 24 * time.Hour   // how long after that it still serves if no new one is to be had (RFC 8767)
	outsideRetry   = 5 * time.Second  // between tries that fail
	staleTTL       = 30               // seconds, of stale answers
	upstreamWait   = 2 * time.Second  // for one upstream resolver
)

// outside resolves the targets of flattened CNAMEs that are not in our zones. It asks in the
// background, before anybody waits: queries only ever read what is there.
type outside struct {
	upstreams []string // host:port of resolvers, tried in order
	log       *slog.Logger
	meter     *meter
	entries   atomic.Pointer[map[string]*outsideName]
	wake      chan struct{}
}

// outsideName is one name with its addresses.
type outsideName struct {
	name    string // presentation form with trailing dot
	answers [2]atomic.Pointer[outsideAnswer]
	due     [2]time.Time // of the next resolution; only Run's goroutine uses it
	busy    [2]atomic.Bool
}

type outsideAnswer struct {
	set   *rrset // nil if there are no such records
	until time.Time
}

var outsideTypes = [2]uint16{mdns.TypeA, mdns.TypeAAAA}

func newOutside(upstreams []string, log *slog.Logger, m *meter) *outside {
	o := &outside{upstreams: upstreams, log: log, meter: m, wake: make(chan struct{}, 1)}
	o.entries.Store(&map[string]*outsideName{})
	return o
}

// want sets the names to keep resolved, by wire form.
func (o *outside) want(names map[string]bool) {
	old := *o.entries.Load()
	next := make(map[string]*outsideName, len(names))
	for wire := range names {
		if next[wire] = old[wire]; next[wire] == nil {
			next[wire] = &outsideName{name: mdns.Fqdn(textName(wire))}
		}
	}
	o.entries.Store(&next)
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// lookup returns what is known of a name; ttl caps the answer's.
func (o *outside) lookup(wire string, typ uint16, ttl uint32) resolved {
	e := (*o.entries.Load())[wire]
	if e == nil {
		return resolved{}
	}
	got := e.answers[typeIndex(typ)].Load()
	if got == nil {
		return resolved{}
	}
	left := time.Until(got.until)
	switch {
	case left < -outsideStale:
		return resolved{}
	case left <= staleTTL*time.Second:
		return resolved{set: got.set, ttl: min(ttl, staleTTL), known: true}
	}
	return resolved{set: got.set, ttl: min(ttl, uint32(left/time.Second)), known: true}
}

func typeIndex(typ uint16) int {
	if typ == mdns.TypeAAAA {
		return 1
	}
	return 0
}

// run keeps the names resolved until ctx ends.
func (o *outside) run(ctx context.Context) {
	slots := semaphore.NewWeighted(outsideWorkers)
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for e := range maps.Values(*o.entries.Load()) {
			for i := range outsideTypes {
				if time.Now().Before(e.due[i]) || e.busy[i].Load() {
					continue
				}
				if slots.Acquire(ctx, 1) != nil {
					return
				}
				e.busy[i].Store(true)
				e.due[i] = time.Now().Add(outsideRetry)
				wg.Go(func() {
					defer slots.Release(1)
					defer e.busy[i].Store(false)
					o.refresh(ctx, e, i)
				})
			}
			// An answer that came meanwhile says when it wants to be renewed.
			for i := range outsideTypes {
				if got := e.answers[i].Load(); got != nil && time.Now().Before(got.until) {
					e.due[i] = later(e.due[i], got.until.Add(-outsideMin/3))
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
		case <-tick.C:
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// refresh asks for a name once and keeps the answer. Without one, the old answer stays.
func (o *outside) refresh(ctx context.Context, e *outsideName, i int) {
	set, ttl, err := o.ask(ctx, e.name, outsideTypes[i])
	if err != nil {
		if ctx.Err() == nil {
			o.meter.outsideFailures.Add(1)
			o.log.Warn("flattened CNAME not resolved", "target", e.name, "type", typeName(outsideTypes[i]), "error", err)
		}
		return
	}
	e.answers[i].Store(&outsideAnswer{set: set, until: time.Now().Add(ttl)})
}

// ask asks the upstream resolvers in turn.
func (o *outside) ask(ctx context.Context, name string, typ uint16) (*rrset, time.Duration, error) {
	if len(o.upstreams) == 0 {
		return nil, 0, errors.New("no upstream resolver is configured")
	}
	var faults []error
	for _, up := range o.upstreams {
		m, err := exchange(ctx, up, name, typ)
		if err == nil {
			return readAddresses(m, typ)
		}
		faults = append(faults, fmt.Errorf("%s: %w", up, err))
	}
	return nil, 0, errors.Join(faults...)
}

// exchange asks one resolver, over TCP if the answer does not fit UDP.
func exchange(ctx context.Context, upstream, name string, typ uint16) (*mdns.Msg, error) {
	q := new(mdns.Msg).SetQuestion(name, typ)
	q.SetEdns0(ednsSize, false)
	for _, network := range []string{"udp", "tcp"} {
		client := &mdns.Client{Net: network, Timeout: upstreamWait}
		m, _, err := client.ExchangeContext(ctx, q, upstream)
		if err != nil {
			return nil, err
		}
		if m.Truncated && network == "udp" {
			continue
		}
		if m.Rcode != mdns.RcodeSuccess && m.Rcode != mdns.RcodeNameError {
			return nil, fmt.Errorf("answered %s", mdns.RcodeToString[m.Rcode])
		}
		return m, nil
	}
	return nil, errors.New("truncated over TCP")
}

// readAddresses takes the addresses of an answer, whose owner may be the end of a CNAME chain.
func readAddresses(m *mdns.Msg, typ uint16) (*rrset, time.Duration, error) {
	ttl := outsideMax
	e := newEncoder("", typ, uint32(outsideMax/time.Second))
	for _, rr := range m.Answer {
		ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
		if rr.Header().Rrtype != typ {
			continue
		}
		data, err := rdata(rooted(rr))
		if err != nil {
			return nil, 0, err
		}
		at := e.begin()
		e.raw(data...)
		if err := e.end(at); err != nil {
			return nil, 0, err
		}
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*mdns.SOA); ok {
			ttl = min(ttl, time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second)
		}
	}
	ttl = max(ttl, outsideMin)
	if len(e.set.starts) == 0 {
		return nil, ttl, nil
	}
	return e.done(), ttl, nil
}

// rooted returns a copy owned by the root, which is what rdata expects.
func rooted(rr mdns.RR) mdns.RR {
	c := mdns.Copy(rr)
	c.Header().Name = "."
	return c
}
