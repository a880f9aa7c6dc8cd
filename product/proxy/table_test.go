package proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/edge"
	"selvage/foundation/observe"
	"selvage/product/proxy"
	"selvage/spec"
)

// TestChangesAreLikeANewStart edits zones at random and holds a proxy that follows the changes
// against one that starts with the result.
func TestChangesAreLikeANewStart(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	zones := map[string]string{"z1": "a.test", "z2": "b.test", "z3": "b.test", "z4": "sub.a.test"} // two of one name
	names := []string{"", "www.", "*.", "x.", "y.x.", "*.x.", "*.deep.x.", "z.deep.x.", "sub."}
	hosts := []string{"test", "a.test.other"}
	for _, zone := range []string{"a.test", "b.test"} {
		for _, n := range append([]string{"q.", "q.x.", "deep.x.", "q.deep.x.", "w.sub."}, names...) {
			if n == "" || n[0] != '*' {
				hosts = append(hosts, n+zone)
			}
		}
	}
	edit := func() spec.Change {
		id := fmt.Sprintf("z%d", 1+rnd.IntN(4))
		switch n := rnd.IntN(20); {
		case n < 2:
			z := &spec.Zone{ID: id, AccountID: "alice", Name: zones[id], Status: []string{"active", "active", "pending"}[rnd.IntN(3)], Paused: rnd.IntN(4) == 0, Type: "full"}
			return spec.Change{Key: z.Key(), Noun: z}
		case n == 2 && rnd.IntN(4) == 0:
			return spec.Change{Key: (&spec.Zone{ID: id}).Key()}
		case n == 3:
			s := &spec.Settings{ZoneID: id, Values: map[string]any{"ssl": []string{"full", "flexible"}[rnd.IntN(2)]}}
			return spec.Change{Key: s.Key(), Noun: s}
		case n == 4:
			r := ruleset(spec.Rule{Expression: "true", Action: "route", Enabled: true, ActionParameters: json.RawMessage(fmt.Sprintf(`{"origin":{"port":%d}}`, 1+rnd.IntN(3)))})
			r.ZoneID = id
			return spec.Change{Key: r.Key(), Noun: r}
		}
		r := &spec.Record{ID: fmt.Sprintf("r%d", rnd.IntN(20)), ZoneID: id, Name: names[rnd.IntN(len(names))] + zones[id], TTL: 1, Proxied: rnd.IntN(2) == 0}
		if rnd.IntN(3) == 0 {
			return spec.Change{Key: r.Key()}
		}
		switch rnd.IntN(4) {
		case 0:
			r.Type, r.Content, r.Proxied = "TXT", "x", false
		case 1:
			r.Type, r.Content = "CNAME", hosts[rnd.IntN(len(hosts))]
		default:
			r.Type, r.Content = "A", fmt.Sprintf("192.0.2.%d", rnd.IntN(9))
		}
		return spec.Change{Key: r.Key(), Noun: r}
	}
	s := spec.NewSnapshot()
	metrics := prometheus.NewRegistry()
	follower := ready(t, proxy.Options{Observe: observe.Observer{Metrics: metrics}}, s)
	for version := range uint64(3000) {
		var changes []spec.Change
		for range 1 + rnd.IntN(4) {
			changes = append(changes, edit())
		}
		s = s.With(version+1, changes)
		if rnd.IntN(5) == 0 { // a version that is prepared and discarded, or coalesced with the next
			if c, err := follower.Prepare(context.Background(), s); err == nil && rnd.IntN(2) == 0 {
				c.Discard()
			}
			continue
		}
		commit(t, follower, s)
		freshMetrics := prometheus.NewRegistry()
		fresh := ready(t, proxy.Options{Observe: observe.Observer{Metrics: freshMetrics}}, s)
		for _, host := range hosts {
			if got, want := outcome(follower, host), outcome(fresh, host); got != want {
				t.Fatalf("version %d: %s goes to %s, after a new start to %s", s.Version, host, got, want)
			}
		}
		if got, want := gauge(t, metrics), gauge(t, freshMetrics); got != want {
			t.Fatalf("version %d: %v hosts, after a new start %v", s.Version, got, want)
		}
	}
}

// outcome tells what becomes of a request, whichever turn its addresses are at.
func outcome(p *proxy.Proxy, host string) string {
	ex, went, failure := ask(p, "https://"+host+"/", nil)
	ex.Target.Addrs = slices.SortedFunc(slices.Values(ex.Target.Addrs), netip.Addr.Compare)
	zone := ""
	if ex.Zone != nil {
		zone = fmt.Sprintf("%s@%d", ex.Zone.Zone.ID, ex.Zone.Version)
	}
	return fmt.Sprint(zone, went, failure, ex.Target)
}

func gauge(t *testing.T, metrics *prometheus.Registry) float64 {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "selvage_proxy_hosts" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("no gauge of hosts")
	return 0
}

// large is a zone of so many names, and a change of one of them.
func large(names int) (s, changed *spec.Snapshot) {
	z := &spec.Zone{ID: "z1", AccountID: "alice", Name: "large.test", Status: "active", Type: "full"}
	changes := []spec.Change{{Key: z.Key(), Noun: z}}
	for i := range names {
		r := &spec.Record{ID: fmt.Sprint(i), ZoneID: z.ID, Type: "A", Name: fmt.Sprintf("host%d.large.test", i), Content: "192.0.2.1", Proxied: true, TTL: 1}
		changes = append(changes, spec.Change{Key: r.Key(), Noun: r})
	}
	s = spec.NewSnapshot().With(1, changes)
	other := *changes[names/2].Noun.(*spec.Record)
	other.Content = "192.0.2.2"
	return s, s.With(2, []spec.Change{{Key: other.Key(), Noun: &other}})
}

func BenchmarkPrepare(b *testing.B) {
	for _, names := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("names=%d", names), func(b *testing.B) {
			s, changed := large(names)
			p := ready(b, proxy.Options{}, s)
			b.ReportAllocs()
			for b.Loop() {
				commit(b, p, changed)
				s, changed = changed, s
			}
		})
	}
}

func BenchmarkPhaseLargeZone(b *testing.B) {
	s, _ := large(10_000)
	p := ready(b, proxy.Options{}, s)
	phase := p.Phase()
	ex := &edge.Exchange{Request: edge.Request{Method: "GET", Scheme: "https", Host: "host77.large.test", Path: "/"}, TLS: &edge.TLS{ServerName: "host77.large.test"}}
	next := func(context.Context, *edge.Exchange) error { return nil }
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		phase.Handle(context.Background(), ex, next)
	}
}
