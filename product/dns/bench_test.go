package dns

import (
	"fmt"
	"net/netip"
	"testing"

	mdns "github.com/miekg/dns"

	"selvage/spec"
)

// manyRecords is a zone with n address records.
func manyRecords(name string, n int) *spec.ZoneConfig {
	z := &spec.Zone{ID: spec.NewID(), Name: name, NameServers: []string{"ns1." + name}}
	config := &spec.ZoneConfig{Version: 1, Zone: z, Settings: spec.DefaultSettings(z.ID)}
	for i := range n {
		r := &spec.Record{ID: spec.NewID(), ZoneID: z.ID, Name: fmt.Sprintf("host%06d.%s", i, name), Type: "A", TTL: 300, Content: fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)}
		config.Records = append(config.Records, r)
	}
	return config
}

func packed(tb testing.TB, name string, typ uint16, edns bool) []byte {
	m := new(mdns.Msg).SetQuestion(name, typ)
	if edns {
		m.SetEdns0(1232, false)
	}
	wire, err := m.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	return wire
}

func BenchmarkRespond(b *testing.B) {
	s := New(Options{Upstreams: []string{"127.0.0.1:1"}, Addresses: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.1")} }})
	config := manyRecords("example.com", 10_000)
	config.Records = append(config.Records,
		&spec.Record{ID: "p", Name: "prox.example.com", Type: "A", Content: "10.0.0.1", TTL: 1, Proxied: true},
		&spec.Record{ID: "w", Name: "*.wild.example.com", Type: "A", Content: "10.0.0.1", TTL: 1},
		&spec.Record{ID: "x", Name: "www.example.com", Type: "CNAME", Content: "host000001.example.com", TTL: 1})
	snap := spec.NewSnapshot()
	snap.Zones["z"] = config
	change, err := s.Prepare(b.Context(), snap)
	if err != nil {
		b.Fatal(err)
	}
	change.Commit()
	for _, c := range []struct {
		name  string
		query []byte
	}{
		{"hit", packed(b, "host004711.example.com.", mdns.TypeA, true)},
		{"hit without EDNS", packed(b, "host004711.example.com.", mdns.TypeA, false)},
		{"proxied", packed(b, "prox.example.com.", mdns.TypeA, true)},
		{"wildcard", packed(b, "any.thing.wild.example.com.", mdns.TypeA, true)},
		{"CNAME", packed(b, "www.example.com.", mdns.TypeA, true)},
		{"NXDOMAIN", packed(b, "nothere.example.com.", mdns.TypeA, true)},
		{"REFUSED", packed(b, "www.example.net.", mdns.TypeA, true)},
	} {
		b.Run(c.name, func(b *testing.B) {
			a := responder{server: s}
			from := source{addr: netip.MustParseAddr("127.0.0.1")}
			b.ReportAllocs()
			for b.Loop() {
				if a.respond(c.query, from) == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}

// BenchmarkPrepareChange is one record changed in a zone of 10,000.
func BenchmarkPrepareChange(b *testing.B) {
	s := New(Options{Upstreams: []string{"127.0.0.1:1"}})
	config := manyRecords("example.com", 10_000)
	snap := spec.NewSnapshot().WithZone(config.Zone.ID, config)
	change, err := s.Prepare(b.Context(), snap)
	if err != nil {
		b.Fatal(err)
	}
	change.Commit()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		next := *config
		next.Version++
		next.Records = append([]*spec.Record(nil), config.Records...)
		r := *next.Records[i%10_000]
		r.Content = fmt.Sprintf("192.0.2.%d", i&255)
		next.Records[i%10_000] = &r
		config = &next
		change, err := s.Prepare(b.Context(), snap.WithZone(config.Zone.ID, config))
		if err != nil {
			b.Fatal(err)
		}
		change.Commit()
	}
}

// BenchmarkPrepareZones is one zone changed among 10,000, and all of them at the start.
func BenchmarkPrepareZones(b *testing.B) {
	snap := spec.NewSnapshot()
	for i := range 10_000 {
		z := manyRecords(fmt.Sprintf("zone%d.example", i), 5)
		snap.Zones[z.Zone.ID] = z
	}
	prepare := func(s *Server, snap *spec.Snapshot) {
		change, err := s.Prepare(b.Context(), snap)
		if err != nil {
			b.Fatal(err)
		}
		change.Commit()
	}
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			prepare(New(Options{Upstreams: []string{"127.0.0.1:1"}}), snap)
		}
	})
	b.Run("one", func(b *testing.B) {
		s := New(Options{Upstreams: []string{"127.0.0.1:1"}})
		prepare(s, snap)
		var id string
		for id = range snap.Zones {
			break
		}
		for b.Loop() {
			next := *snap.Zones[id]
			next.Version++
			prepare(s, snap.WithZone(id, &next))
		}
	})
}
