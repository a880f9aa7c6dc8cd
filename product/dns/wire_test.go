package dns_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/observe"
	"selvage/product"
	"selvage/product/dns"
	"selvage/spec"
)

const wireZone = `
	@ 300 A 192.0.2.1
	www 300 CNAME web.example.com
	web 60 A 192.0.2.80
	_sip._tcp 300 SRV 10 5 5060 sip.example.com
	caa 300 CAA 0 issue "letsencrypt.org"
	https 300 HTTPS 1 . alpn="h2"
	txt 300 TXT "hello \"world\""
	prox 1 A 10.0.0.1 ;proxied
`

// Other people's clients, asked about wireZone.
func TestClients(t *testing.T) {
	_, addr := start(t, dns.Options{}, zoneOf(t, 1, "example.com", wireZone+bigTXT(8)))
	host, port, _ := net.SplitHostPort(addr)
	for _, c := range []struct{ command, want string }{
		{"dig @HOST -p PORT +short www.example.com A", "web.example.com.\n192.0.2.80"},
		{"dig @HOST -p PORT +short +tcp prox.example.com AAAA", "2001:db8:ed9e::7"},
		{"dig @HOST -p PORT +short caa.example.com CAA", `0 issue "letsencrypt.org"`},
		{"dig @HOST -p PORT +short _sip._tcp.example.com SRV", "10 5 5060 sip.example.com."},
		{"dig @HOST -p PORT +short https.example.com TYPE65", `1 . alpn="h2"`},
		{"dig @HOST -p PORT +cookie=0102030405060708 example.com", "; COOKIE: 0102030405060708"},
		{"dig @HOST -p PORT +edns=7 +noednsneg example.com", "status: BADVERS"},
		{"dig @HOST -p PORT +header-only", "status: FORMERR"},
		{"dig @HOST -p PORT +opcode=5 example.com", "status: NOTIMP"},
		{"dig @HOST -p PORT +short CH TXT version.bind", `"selvage"`},
		{"dig @HOST -p PORT CH TXT id.server", "status: REFUSED"},
		{"dig @HOST -p PORT AXFR example.com", "Transfer failed"},
		{"dig @HOST -p PORT +noall +stats big.example.com TXT", "(TCP)"},
		{"dig @HOST -p PORT +ignore big.example.com TXT", "flags: qr aa tc rd;"},
		{"kdig @HOST -p PORT +short txt.example.com TXT", `"hello \"world\""`},
		{"kdig @HOST -p PORT +edns=0 +nsid +padding=32 +short example.com", "192.0.2.1"},
		{"kdig @HOST -p PORT +tcp +keepopen example.com A web.example.com A", "192.0.2.80"},
		{"drill -p PORT @HOST www.example.com A", "192.0.2.80"},
		{"drill -p PORT @HOST nope.example.com A", "rcode: NXDOMAIN"},
	} {
		args := strings.Fields(strings.NewReplacer("HOST", host, "PORT", port).Replace(c.command))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		cancel()
		if len(out) == 0 && err != nil {
			t.Fatalf("%s (Debian packages bind9-dnsutils, knot-dnsutils, ldnsutils): %v", args[0], err)
		}
		if got := strings.ReplaceAll(string(out), " ", ""); !strings.Contains(got, strings.ReplaceAll(c.want, " ", "")) {
			t.Errorf("%s: got\n%s\nwithout %q", c.command, out, c.want)
		}
	}
}

func bigTXT(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "big 300 TXT \"%d%s\"\n", i, strings.Repeat("x", 200))
	}
	return b.String()
}

// TestPackets sends raw queries and looks at the flags and counts of the answers.
func TestPackets(t *testing.T) {
	_, addr := start(t, dns.Options{}, zoneOf(t, 1, "example.com", wireZone))
	const question = "076578616d706c6503636f6d0000010001"
	for _, c := range []struct{ name, packet, want string }{
		{"a plain query", "abcd01000001000000000000" + question, "abcd85000001000100000000"},
		{"CD is copied, RD too, RA is not set", "abcd01100001000000000000" + question, "abcd85100001000100000000"},
		{"an answer", "abcd81000001000000000000" + question, "none"},
		{"a header and no more", "abcd01000001000000000000", "abcd81010000000000000000"},
		{"less than a header", "abcd0100", "none"},
		{"no question", "abcd01000000000000000000", "abcd81010000000000000000"},
		{"two questions", "abcd01000002000000000000" + question + question, "abcd81010000000000000000"},
		{"a compressed question", "abcd01000001000000000000c00c00010001", "abcd81010000000000000000"},
		{"a label of 64", "abcd01000001000000000000" + "40" + strings.Repeat("61", 64) + "0000010001", "abcd81010000000000000000"},
		{"a name too long", "abcd01000001000000000000" + strings.Repeat("0161", 128) + "0000010001", "abcd81010000000000000000"},
		{"a cut question", "abcd01000001000000000000" + question[:20], "abcd81010000000000000000"},
		{"STATUS", "abcd11000001000000000000" + question, "abcd91040000000000000000"},
		{"NOTIFY", "abcd21000001000000000000" + question, "abcd a1040000000000000000"},
		{"class ANY", "abcd01000001000000000000" + question[:len(question)-4] + "00ff", "abcd81050001000000000000"},
		{"EDNS", "abcd01000001000000000001" + question + "0000291000000000000000", "abcd85000001000100000001"},
		{"two OPT records", "abcd01000001000000000002" + question + "0000291000000000000000" + "0000291000000000000000", "abcd81010001000000000001"},
		{"OPT with a name", "abcd01000001000000000001" + question + "016100" + "00291000000000000000", "abcd81010001000000000000"},
		{"OPT in the answer section", "abcd01000001000100000000" + question + "0000291000000000000000", "abcd81010001000000000000"},
		{"OPT longer than the packet", "abcd01000001000000000001" + question + "00002910000000000000ff", "abcd81010001000000000000"},
		{"a cookie of 9 octets", "abcd01000001000000000001" + question + "00002910000000000000" + "0d000a0009" + strings.Repeat("01", 9), "abcd81010001000000000001"},
		{"a record before OPT is passed over", "abcd01000001000000000002" + question + "c00c000100010000000000047f000001" + "0000291000000000000000", "abcd85000001000100000001"},
		{"more records than there are", "abcd01000001ffff00000000" + question, "abcd81010001000000000000"},
	} {
		raw, err := hex.DecodeString(c.packet)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got, want := exchangeRaw(t, addr, raw), strings.ReplaceAll(c.want, " ", ""); got != want {
			t.Errorf("%s: answer begins %s, want %s", c.name, got, want)
		}
	}
}

// exchangeRaw sends a packet and returns the header of the answer in hex, or "none". To know that
// none comes, a query that is answered for certain follows on the same socket.
func exchangeRaw(t *testing.T, addr string, packet []byte) string {
	t.Helper()
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	conn.Write(packet)
	last := new(mdns.Msg).SetQuestion("last.example.com.", mdns.TypeA)
	last.Id = 0x1a57
	wire, _ := last.Pack()
	conn.Write(wire)
	answer, seen := "none", false
	buf := make([]byte, 4096)
	for {
		if answer == "none" && seen {
			// Another reader may be at the first packet still.
			conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		}
		n, err := conn.Read(buf)
		if err != nil && seen {
			return answer
		}
		if err != nil || n < 12 {
			t.Fatalf("read: %d octets, %v", n, err)
		}
		if binary.BigEndian.Uint16(buf) == 0x1a57 {
			seen = true
		} else {
			answer = hex.EncodeToString(buf[:12])
		}
		if seen && answer != "none" {
			return answer
		}
	}
}

func TestSizes(t *testing.T) {
	_, addr := start(t, dns.Options{}, zoneOf(t, 1, "example.com", wireZone+bigTXT(250)))
	for _, c := range []struct {
		size uint16
		tc   bool
	}{{0, true}, {512, true}, {4096, true}} {
		m := ask(t, addr, "big.example.com", "TXT", func(m *mdns.Msg) {
			if c.size > 0 {
				m.SetEdns0(c.size, false)
			}
		})
		if m.Truncated != c.tc || len(m.Answer) != 0 {
			t.Errorf("UDP with %d octets: tc=%v, %d answers", c.size, m.Truncated, len(m.Answer))
		}
	}
	if m := askOver(t, "tcp", addr, "big.example.com", "TXT"); m.Truncated || len(m.Answer) != 250 {
		t.Errorf("TCP: tc=%v, %d answers", m.Truncated, len(m.Answer))
	}
	if m := ask(t, addr, "example.com", "A", func(m *mdns.Msg) { m.SetEdns0(4096, true) }); m.IsEdns0() == nil || m.IsEdns0().UDPSize() != 1232 || !m.IsEdns0().Do() {
		t.Errorf("EDNS of the answer: %v", m.IsEdns0())
	}
}

func TestTCP(t *testing.T) {
	_, addr := start(t, dns.Options{Connections: 3}, zoneOf(t, 1, "example.com", wireZone))
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	// A hundred queries at once, the last one in two pieces; answers come for all, in order.
	var out []byte
	for i := range 100 {
		q := new(mdns.Msg).SetQuestion("web.example.com.", mdns.TypeA)
		q.Id = uint16(i)
		wire, _ := q.Pack()
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(wire))), wire...)
	}
	conn.Write(out[:len(out)-5])
	read := func(n int) {
		for i := range n {
			m := readMessage(t, conn)
			if want := uint16(i); n == 99 && m.Id != want || len(m.Answer) != 1 {
				t.Fatalf("answer %d: id %d, %s", i, m.Id, show(m))
			}
		}
	}
	read(99)
	conn.Write(out[len(out)-5:])
	read(1)
	// Further connections are taken up to the limit, those over it closed.
	var others []net.Conn
	for range 4 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		others = append(others, c)
	}
	closed := 0
	for _, c := range others {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		c.Write(out[:len(out)/100])
		if _, err := c.Read(make([]byte, 2)); err != nil {
			closed++
		}
	}
	if closed != 2 {
		t.Errorf("with 1 of 3 connections open, 4 more: %d closed, want 2", closed)
	}
}

func readMessage(t *testing.T, conn net.Conn) *mdns.Msg {
	t.Helper()
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		t.Fatal(err)
	}
	m := new(mdns.Msg)
	if err := m.Unpack(buf); err != nil {
		t.Fatal(err)
	}
	return m
}

// A client that sends queries and reads no answers is cut off, and holds nobody else up.
func TestSlowReader(t *testing.T) {
	_, addr := start(t, dns.Options{}, zoneOf(t, 1, "example.com", wireZone+bigTXT(250)))
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	q, _ := new(mdns.Msg).SetQuestion("big.example.com.", mdns.TypeTXT).Pack()
	one := append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)
	conn.SetWriteDeadline(time.Now().Add(30 * time.Second))
	cut := false
	for range 100_000 {
		if _, err := conn.Write(bytes.Repeat(one, 100)); err != nil {
			cut = !strings.Contains(err.Error(), "timeout")
			break
		}
	}
	if !cut {
		t.Error("a client that reads nothing was not cut off")
	}
	if m := askOver(t, "tcp", addr, "web.example.com", "A"); len(m.Answer) != 1 {
		t.Errorf("another client: %s", show(m))
	}
}

// resolver is an upstream resolver for flattened CNAMEs.
type resolver struct {
	addr   string
	answer atomic.Pointer[string] // the records of outside.example.net, or empty for SERVFAIL
	asked  atomic.Int64
}

func startResolver(t *testing.T, answer string) *resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &resolver{addr: pc.LocalAddr().String()}
	r.answer.Store(&answer)
	server := &mdns.Server{PacketConn: pc, Handler: r}
	done := make(chan struct{})
	go func() { defer close(done); server.ActivateAndServe() }()
	t.Cleanup(func() { pc.Close(); <-done })
	return r
}

func (r *resolver) ServeDNS(w mdns.ResponseWriter, q *mdns.Msg) {
	r.asked.Add(1)
	m := new(mdns.Msg).SetReply(q)
	lines := *r.answer.Load()
	if lines == "" {
		m.Rcode = mdns.RcodeServerFailure
	}
	for line := range strings.Lines(lines) {
		rr, err := mdns.NewRR(line)
		if err == nil && (rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == mdns.TypeCNAME) {
			m.Answer = append(m.Answer, rr)
		}
	}
	w.WriteMsg(m)
}

func TestFlattenOutside(t *testing.T) {
	up := startResolver(t, "outside.example.net. 120 CNAME far.example.net.\nfar.example.net. 45 A 198.51.100.1\nfar.example.net. 45 A 198.51.100.2\n")
	s, addr := start(t, dns.Options{Upstreams: []string{"127.0.0.1:1", up.addr}}, zoneOf(t, 1, "example.com", `
		@ 1 CNAME outside.example.net
		@ 300 TXT "beside"
		flat 30 CNAME outside.example.net ;flatten
		far 300 CNAME flat.example.com ;flatten
		dead 300 CNAME dead.example.net ;flatten`))
	if m := ask(t, addr, "example.com", "A"); m.Rcode != mdns.RcodeServerFailure {
		t.Errorf("before it was resolved: %s", show(m))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	defer running.Wait()
	defer cancel()
	eventually(t, func() bool { return len(ask(t, addr, "example.com", "A").Answer) == 2 })
	m := ask(t, addr, "example.com", "A")
	if a, ok := m.Answer[0].(*mdns.A); !ok || a.Hdr.Name != "example.com." || a.Hdr.Ttl < 25 || a.Hdr.Ttl > 45 {
		t.Errorf("apex: %s", show(m))
	}
	if m := ask(t, addr, "example.com", "TXT"); len(m.Answer) != 1 {
		t.Errorf("TXT beside the apex CNAME: %s", show(m))
	}
	if m := ask(t, addr, "far.example.com", "A"); len(m.Answer) != 2 || m.Answer[0].Header().Ttl > 30 {
		t.Errorf("through two flattened CNAMEs: %s", show(m))
	}
	eventually(t, func() bool { return ask(t, addr, "example.com", "AAAA").Rcode == mdns.RcodeSuccess })
	if m := ask(t, addr, "example.com", "AAAA"); len(m.Answer) != 0 || len(m.Ns) != 1 {
		t.Errorf("no such type at the target: %s", show(m))
	}
	// The target moves and comes to be asked again; a name that leaves the zone is forgotten.
	broken := ""
	up.answer.Store(&broken)
	if m := ask(t, addr, "flat.example.com", "A"); len(m.Answer) != 2 {
		t.Errorf("while the resolver fails: %s", show(m))
	}
	commit(t, s, snapshotOf(2, zoneOf(t, 2, "example.com", "@ 300 A 192.0.2.1")))
	if m := ask(t, addr, "example.com", "A"); len(m.Answer) != 1 {
		t.Errorf("after the CNAME is gone: %s", show(m))
	}
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for range 400 {
		if holds() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("did not happen within 10 s")
}

func TestAddressesFollow(t *testing.T) {
	var addrs atomic.Pointer[[]netip.Addr]
	addrs.Store(&edgeAddresses)
	s, addr := start(t, dns.Options{Addresses: func() []netip.Addr { return *addrs.Load() }}, zoneOf(t, 1, "example.com", wireZone))
	if m := ask(t, addr, "prox.example.com", "A"); len(m.Answer) != 2 {
		t.Errorf("before: %s", show(m))
	}
	addrs.Store(&[]netip.Addr{netip.MustParseAddr("203.0.113.99")})
	commit(t, s, snapshotOf(1, zoneOf(t, 1, "example.com", wireZone)))
	if m := ask(t, addr, "prox.example.com", "A"); len(m.Answer) != 1 || m.Answer[0].(*mdns.A).A.String() != "203.0.113.99" {
		t.Errorf("after: %s", show(m))
	}
	if m := ask(t, addr, "prox.example.com", "AAAA"); m.Rcode != mdns.RcodeSuccess || len(m.Answer) != 0 || len(m.Ns) != 1 {
		t.Errorf("an edge without IPv6: %s", show(m))
	}
}

func TestPaused(t *testing.T) {
	z := zoneOf(t, 1, "example.com", wireZone)
	s, addr := start(t, dns.Options{}, z)
	paused := *z
	own := *z.Zone
	own.Paused = true
	paused.Zone, paused.Version = &own, 2
	commit(t, s, snapshotOf(2, &paused))
	if m := ask(t, addr, "prox.example.com", "A"); len(m.Answer) != 1 || m.Answer[0].(*mdns.A).A.String() != "10.0.0.1" {
		t.Errorf("a proxied name of a paused zone: %s", show(m))
	}
}

// TestIncremental changes a zone at random, and checks that what was prepared step by step answers
// as what is prepared at once.
func TestIncremental(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	z := zoneOf(t, 1, "example.com", "@ 300 A 192.0.2.1")
	step, _ := start(t, dns.Options{}, z)
	stepAddr := serve(t, step)
	names := []string{"@", "a", "b.a", "c.b.a", "*.a", "*", "d", "x.d", "y.x.d", "*.x.d"}
	types := []string{"A 192.0.2.", "TXT t", "NS ns.example.", "CNAME web.example."}
	snap := snapshotOf(1, z)
	for round := range 60 {
		var changes []spec.Change
		for range 1 + rnd.IntN(4) {
			records := snap.Zones[z.Zone.ID].Records
			if len(records) > 0 && rnd.IntN(2) == 0 {
				r := records[rnd.IntN(len(records))]
				changes = append(changes, spec.Change{Key: r.Key()})
				continue
			}
			typ := types[rnd.IntN(len(types))]
			r := recordOf(t, z.Zone, fmt.Sprintf("%s 300 %s%d", names[rnd.IntN(len(names))], typ, 1+rnd.IntN(200)))
			changes = append(changes, spec.Change{Key: r.Key(), Noun: r})
		}
		snap = snap.With(uint64(round+2), changes)
		commit(t, step, snap)
		whole := dns.New(dns.Options{Upstreams: []string{"127.0.0.1:1"}, Addresses: func() []netip.Addr { return edgeAddresses }})
		commit(t, whole, snap)
		ctx, cancel := context.WithCancel(t.Context())
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- whole.ServeUDP(ctx, pc) }()
		for _, name := range append(names, "q.a", "q", "q.x.d", "q.q.c.b.a") {
			name = strings.TrimPrefix(name+".example.com", "@.")
			for _, typ := range []string{"A", "TXT", "NS", "AAAA"} {
				a, b := canonical(ask(t, stepAddr, name, typ)), canonical(ask(t, pc.LocalAddr().String(), name, typ))
				if a != b {
					t.Fatalf("round %d, %s %s: step by step\n%s\nat once\n%s", round, name, typ, a, b)
				}
			}
		}
		cancel()
		<-done
		pc.Close()
	}
}

func TestPrepareBlames(t *testing.T) {
	s, addr := start(t, dns.Options{}, zoneOf(t, 1, "example.com", wireZone))
	good := zoneOf(t, 2, "example.com", wireZone)
	for what, bad := range map[string]*spec.ZoneConfig{
		"a record that cannot be encoded": zoneOf(t, 2, "bad.example", "x 300 A nonsense"),
		"records too large for a message": zoneOf(t, 2, "bad.example", strings.ReplaceAll(bigTXT(400), "big ", "x ")),
		"a type that does not exist":      zoneOf(t, 2, "bad.example", "x 300 WKS nonsense"),
	} {
		_, err := s.Prepare(t.Context(), snapshotOf(2, good, bad))
		blamed := zoneErrors(err)
		if !slices.Equal(blamed, []string{bad.Zone.ID}) {
			t.Errorf("%s: Prepare = %v blames %v, want %s", what, err, blamed, bad.Zone.ID)
		}
	}
	twin := zoneOf(t, 2, "example.com", wireZone)
	twin.Zone.CreatedOn = time.Now()
	if _, err := s.Prepare(t.Context(), snapshotOf(2, good, twin)); !slices.Equal(zoneErrors(err), []string{twin.Zone.ID}) {
		t.Errorf("two zones of one name: %v, want the younger one blamed", err)
	}
	if m := ask(t, addr, "web.example.com", "A"); len(m.Answer) != 1 {
		t.Errorf("after failed Prepares: %s", show(m))
	}
}

func zoneErrors(err error) []string {
	var ids []string
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	for _, e := range joined.Unwrap() {
		if z, ok := e.(*product.ZoneError); ok {
			ids = append(ids, z.ZoneID)
		}
	}
	return ids
}

func TestSeen(t *testing.T) {
	events, metrics := &observe.Events{}, prometheus.NewRegistry()
	_, addr := start(t, dns.Options{Observe: observe.Observer{Events: events, Metrics: metrics}}, zoneOf(t, 1, "example.com", wireZone))
	ask(t, addr, "nope.example.com", "A")
	w := events.Watch(10)
	defer w.Close()
	askOver(t, "tcp", addr, "web.example.com", "A")
	select {
	case ev := <-w.C:
		got := fmt.Sprint(ev.Kind, " ", ev.Zone, " ", ev.Attrs)
		if want := "query example.com [name=web.example.com type=A rcode=NOERROR proto=tcp client=127.0.0.1]"; got != want {
			t.Errorf("event %s, want %s", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		if f.GetName() != "selvage_dns_queries_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			got = append(got, fmt.Sprint(m.GetLabel()[0].GetValue(), " ", m.GetLabel()[1].GetValue(), " ", m.GetLabel()[2].GetValue(), " ", m.GetCounter().GetValue()))
		}
	}
	slices.Sort(got)
	if want := []string{"tcp NOERROR A 1", "udp NXDOMAIN A 1"}; !slices.Equal(got, want) {
		t.Errorf("metrics %v, want %v", got, want)
	}
}
