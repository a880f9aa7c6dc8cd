package dns_test

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"selvage/product"
	"selvage/product/dns"
	"selvage/product/producttest"
	"selvage/spec"
)

func TestContract(t *testing.T) {
	producttest.Run(t, func(t *testing.T) product.Product { return dns.New(dns.Options{Upstreams: []string{"127.0.0.1:1"}}) })
}

// zoneOf builds a zone's configuration of lines "name ttl type content", relative names being
// taken below the zone. A content may end in " ;proxied", " ;flatten" or " ;v4only"; MX, SRV and
// URI begin with their priority.
func zoneOf(t testing.TB, version uint64, name, lines string) *spec.ZoneConfig {
	t.Helper()
	z := &spec.Zone{ID: spec.NewID(), Name: name, Status: "active", Type: "full", NameServers: []string{"ns1." + name, "ns2.other.example"}}
	changes := []spec.Change{{Key: z.Key(), Noun: z}}
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		r := recordOf(t, z, line)
		changes = append(changes, spec.Change{Key: r.Key(), Noun: r})
	}
	return spec.NewSnapshot().With(version, changes).Zones[z.ID]
}

func recordOf(t testing.TB, z *spec.Zone, line string) *spec.Record {
	t.Helper()
	line, flag, _ := strings.Cut(line, " ;")
	words := strings.SplitN(line, " ", 4)
	if len(words) < 4 {
		t.Fatalf("record line %q", line)
	}
	ttl, err := strconv.Atoi(words[1])
	if err != nil {
		t.Fatal(err)
	}
	r := &spec.Record{ID: spec.NewID(), ZoneID: z.ID, Name: words[0] + "." + z.Name, TTL: ttl, Type: words[2], Content: words[3],
		Proxied: flag == "proxied" || flag == "v4only", Settings: spec.RecordSettings{FlattenCNAME: flag == "flatten", IPv4Only: flag == "v4only"}}
	if words[0] == "@" {
		r.Name = z.Name
	}
	if r.Type == "MX" || r.Type == "SRV" || r.Type == "URI" {
		prio, rest, _ := strings.Cut(r.Content, " ")
		n, err := strconv.ParseUint(prio, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		p := uint16(n)
		r.Priority, r.Content = &p, rest
	}
	return r
}

func snapshotOf(version uint64, zones ...*spec.ZoneConfig) *spec.Snapshot {
	s := spec.NewSnapshot()
	s.Version = version
	for _, z := range zones {
		s.Zones[z.Zone.ID] = z
	}
	return s
}

var edgeAddresses = []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("203.0.113.8"), netip.MustParseAddr("2001:db8:ed9e::7")}

// start serves zones over UDP and TCP on one loopback port until the test ends.
func start(t testing.TB, o dns.Options, zones ...*spec.ZoneConfig) (*dns.Server, string) {
	t.Helper()
	if o.Addresses == nil {
		o.Addresses = func() []netip.Addr { return edgeAddresses }
	}
	if o.Upstreams == nil {
		o.Upstreams = []string{"127.0.0.1:1"}
	}
	s := dns.New(o)
	commit(t, s, snapshotOf(1, zones...))
	return s, serve(t, s)
}

func commit(t testing.TB, s *dns.Server, snap *spec.Snapshot) {
	t.Helper()
	c, err := s.Prepare(t.Context(), snap)
	if err != nil {
		t.Fatalf("Prepare: %v", err)
	}
	c.Commit()
}

func serve(t testing.TB, s *dns.Server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, s, pc, ln)
	return addr
}

func serveOn(t testing.TB, s *dns.Server, pc net.PacketConn, ln net.Listener) {
	done := make(chan error, 2)
	ctx := t.Context()
	go func() { done <- s.ServeUDP(ctx, pc) }()
	go func() { done <- s.ServeTCP(ctx, ln) }()
	t.Cleanup(func() { // runs after t.Context has ended
		for range 2 {
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("serve: %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Error("serving went on after its context had ended")
			}
		}
		pc.Close()
		ln.Close()
	})
}

// ask sends one question and returns the answer.
func ask(t testing.TB, addr, name, typ string, change ...func(*mdns.Msg)) *mdns.Msg {
	t.Helper()
	return askOver(t, "udp", addr, name, typ, change...)
}

func askOver(t testing.TB, network, addr, name, typ string, change ...func(*mdns.Msg)) *mdns.Msg {
	t.Helper()
	q := new(mdns.Msg).SetQuestion(mdns.Fqdn(name), mdns.StringToType[typ])
	q.RecursionDesired = false
	for _, c := range change {
		c(q)
	}
	client := &mdns.Client{Net: network, Timeout: 5 * time.Second, UDPSize: 4096}
	m, _, err := client.Exchange(q, addr)
	if err != nil {
		t.Fatalf("ask %s %s over %s: %v", name, typ, network, err)
	}
	return m
}

// show writes an answer as its code, flags and records, one a line, sorted as they came.
func show(m *mdns.Msg) string {
	var b strings.Builder
	b.WriteString(mdns.RcodeToString[m.Rcode])
	if m.Authoritative {
		b.WriteString(" aa")
	}
	if m.Truncated {
		b.WriteString(" tc")
	}
	for i, section := range [][]mdns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if rr.Header().Rrtype == mdns.TypeOPT {
				continue
			}
			b.WriteString("\n" + []string{"an", "au", "ad"}[i] + " " + strings.Join(strings.Fields(strings.Replace(rr.String(), "\tIN\t", "\t", 1)), " "))
		}
	}
	return b.String()
}
