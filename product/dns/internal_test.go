package dns

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"selvage/spec"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The vectors of RFC 9018, appendix A.
func TestCookieVectors(t *testing.T) {
	const first, second = "e5e973e5a6b2a43f48e7dc849e37bfcf", "445536bcd2513298075a5d379663c962"
	for _, c := range []struct {
		secret, client, addr, old string
		now                       int64
		want                      string
	}{
		{first, "2464c4abcf10c957", "198.51.100.100", "", 1559731985, "010000005cf79f111f8130c3eee29480"},
		{first, "2464c4abcf10c957", "198.51.100.100", "010000005cf79f111f8130c3eee29480", 1559734385, "010000005cf7a871d4a564a1442aca77"},
		{first, "fc93fc62807ddb86", "203.0.113.203", "01abcdef5cf78f71a314227b6679ebf5", 1559734700, "010000005cf7a9acf73a7810aca2381e"},
		{second, "22681ab97d52c298", "2001:db8:220:1:59de:d0f4:8769:82b8", "", 1559741961, "010000005cf7c609a6bb79d16625507a"},
	} {
		jar := newCookieJar([16]byte(unhex(t, c.secret)))
		addr, now := netip.MustParseAddr(c.addr), time.Unix(c.now, 0)
		var cookie clientCookie
		if !cookie.read(unhex(t, c.client+c.old)) {
			t.Fatalf("cookie %s%s refused", c.client, c.old)
		}
		valid := jar.valid(&cookie, addr, now)
		if tooOld := strings.HasPrefix(c.old, "01abcdef"); valid != (c.old != "" && !tooOld) {
			t.Errorf("%s%s valid = %v", c.client, c.old, valid)
		}
		got := jar.answer(&cookie, addr, now, valid)
		if hex.EncodeToString(got[:]) != c.want {
			t.Errorf("answer to %s = %x, want %s", c.client, got, c.want)
		}
		// Good for this client, for an hour, and not for another.
		cookie.read(append(unhex(t, c.client), got[:]...))
		for _, v := range []struct {
			addr netip.Addr
			at   time.Time
			want bool
		}{
			{addr, now, true},
			{addr, now.Add(59 * time.Minute), true},
			{addr, now.Add(61 * time.Minute), false},
			{addr, now.Add(-6 * time.Minute), false},
			{netip.MustParseAddr("192.0.2.1"), now, false},
		} {
			if got := jar.valid(&cookie, v.addr, v.at); got != v.want {
				t.Errorf("cookie of %v shown by %v after %v: valid = %v, want %v", addr, v.addr, v.at.Sub(now), got, v.want)
			}
		}
	}
}

func TestLimiter(t *testing.T) {
	l := newLimiter(10)
	now := time.Unix(1e9, 0)
	count := func(addr, key string) (n [3]int) {
		for range 40 {
			n[l.check(netip.MustParseAddr(addr), []byte(key), now)]++
		}
		return n
	}
	if got := count("192.0.2.1", "a"); got != [3]int{10, 15, 15} {
		t.Errorf("40 answers at once: %v passed, truncated, dropped; want 10, 15, 15", got)
	}
	if got := count("192.0.2.200", "a"); got[limitPass] != 0 {
		t.Errorf("another address of the network got %d answers, want none", got[limitPass])
	}
	if got := count("192.0.2.1", "b"); got[limitPass] != 10 {
		t.Errorf("another name got %d answers, want 10", got[limitPass])
	}
	if got := count("192.0.3.1", "a"); got[limitPass] != 10 {
		t.Errorf("another network got %d answers, want 10", got[limitPass])
	}
	if got := count("2001:db8::1", "a"); got[limitPass] != 10 {
		t.Errorf("an IPv6 network got %d answers, want 10", got[limitPass])
	}
	now = now.Add(500 * time.Millisecond)
	if got := count("192.0.2.1", "a"); got[limitPass] != 5 {
		t.Errorf("half a second later: %d answers, want 5", got[limitPass])
	}
	if off := newLimiter(-1); off.check(netip.MustParseAddr("192.0.2.1"), nil, now) != limitPass {
		t.Error("a limiter that is off limits")
	}
}

// testServer serves one small zone.
func testServer(t testing.TB, o Options) *Server {
	t.Helper()
	o.Upstreams = []string{"127.0.0.1:1"}
	s := New(o)
	config := manyRecords("example.com", 3)
	big := &spec.Record{ID: "t", Name: "txt.example.com", Type: "TXT", TTL: 300, Content: strings.Repeat("x", 1500)}
	config.Records = append(config.Records, big)
	c, err := s.Prepare(t.Context(), spec.NewSnapshot().WithZone(config.Zone.ID, config))
	if err != nil {
		t.Fatal(err)
	}
	c.Commit()
	return s
}

func TestResponseRate(t *testing.T) {
	s := testServer(t, Options{AnswersPerSecond: 5})
	q := packed(t, "host000001.example.com.", mdns.TypeA, true)
	count := func(addr netip.Addr, tcp bool, q []byte) (whole, truncated, dropped int) {
		a := responder{server: s}
		for range 50 {
			switch out := a.respond(q, source{addr: addr, tcp: tcp}); {
			case out == nil:
				dropped++
			case out[2]&flagTC != 0:
				truncated++
			default:
				whole++
			}
		}
		return whole, truncated, dropped
	}
	victim := netip.MustParseAddr("192.0.2.1")
	if w, tr, d := count(victim, false, q); w < 5 || w > 8 || tr < 20 || d < 20 {
		t.Errorf("50 queries over UDP: %d whole, %d truncated, %d dropped", w, tr, d)
	}
	if w, _, _ := count(victim, true, q); w != 50 {
		t.Errorf("50 queries over TCP: %d whole", w)
	}
	if w, _, _ := count(netip.MustParseAddr("127.0.0.1"), false, q); w != 50 {
		t.Errorf("50 queries from the host itself: %d whole", w)
	}
	// A client that shows the cookie it was given is real.
	ask := new(mdns.Msg).SetQuestion("host000001.example.com.", mdns.TypeA).SetEdns0(1232, false)
	o := ask.IsEdns0()
	o.Option = []mdns.EDNS0{&mdns.EDNS0_COOKIE{Code: mdns.EDNS0COOKIE, Cookie: "0102030405060708"}}
	wire, _ := ask.Pack()
	a := responder{server: s}
	other := netip.MustParseAddr("198.51.100.1")
	var m mdns.Msg
	if err := m.Unpack(a.respond(wire, source{addr: other})); err != nil {
		t.Fatal(err)
	}
	got := m.IsEdns0().Option[0].(*mdns.EDNS0_COOKIE).Cookie
	if len(got) != 48 || got[:16] != "0102030405060708" {
		t.Fatalf("cookie in the answer: %s", got)
	}
	o.Option = []mdns.EDNS0{&mdns.EDNS0_COOKIE{Code: mdns.EDNS0COOKIE, Cookie: got}}
	wire, _ = ask.Pack()
	if w, _, _ := count(other, false, wire); w != 50 {
		t.Errorf("50 queries with a valid cookie: %d whole", w)
	}
	// Names that do not exist count together: an attacker has any number of them.
	whole := 0
	for i := range 50 {
		q := packed(t, strings.Repeat("x", i+1)+".example.com.", mdns.TypeA, false)
		if out := a.respond(q, source{addr: netip.MustParseAddr("203.0.113.1")}); out != nil && out[2]&flagTC == 0 {
			whole++
		}
	}
	if whole > 8 {
		t.Errorf("50 names that do not exist: %d whole answers", whole)
	}
}

func TestHitAllocatesNothing(t *testing.T) {
	s := testServer(t, Options{})
	a := responder{server: s}
	for _, name := range []string{"host000001.example.com.", "nothere.example.com."} {
		q := packed(t, name, mdns.TypeA, true)
		if n := testing.AllocsPerRun(100, func() { a.respond(q, source{addr: netip.MustParseAddr("192.0.2.1")}) }); n != 0 {
			t.Errorf("a query for %s allocates %v times", name, n)
		}
	}
}

// FuzzRespond: no packet panics, and every answer is a message that another library reads, is an
// answer to the query, and is within the size that the client can take.
func FuzzRespond(f *testing.F) {
	s := testServer(f, Options{AnswersPerSecond: -1})
	for _, name := range []string{"host000001.example.com.", "example.com.", "x.example.com.", "txt.example.com.", "."} {
		for _, typ := range []uint16{mdns.TypeA, mdns.TypeNS, mdns.TypeSOA, mdns.TypeTXT, mdns.TypeANY, mdns.TypeAXFR, mdns.TypeOPT} {
			f.Add(packed(f, name, typ, typ == mdns.TypeTXT))
		}
	}
	cookie := new(mdns.Msg).SetQuestion("example.com.", mdns.TypeTXT).SetEdns0(4096, true)
	cookie.IsEdns0().Option = []mdns.EDNS0{&mdns.EDNS0_COOKIE{Code: 10, Cookie: "0102030405060708"}, &mdns.EDNS0_NSID{Code: 3}}
	wire, _ := cookie.Pack()
	f.Add(wire)
	f.Fuzz(func(t *testing.T, packet []byte) {
		a := responder{server: s}
		for _, tcp := range []bool{false, true} {
			out := a.respond(packet, source{addr: netip.MustParseAddr("192.0.2.1"), tcp: tcp})
			if out == nil {
				continue
			}
			var m mdns.Msg
			if err := m.Unpack(out); err != nil {
				t.Fatalf("answer %x to %x: %v", out, packet, err)
			}
			if !m.Response || out[0] != packet[0] || out[1] != packet[1] {
				t.Errorf("answer %x to %x is no answer to it", out, packet)
			}
			if !tcp && len(out) > a.q.size {
				t.Errorf("answer of %d octets to a client that takes %d", len(out), a.q.size)
			}
		}
	})
}

// FuzzContent: no content panics; what is accepted encodes, reads back as itself, and is what
// another library reads from the wire and from the zone file.
func FuzzContent(f *testing.F) {
	for typ, content := range map[string]string{
		"A": "192.0.2.1", "AAAA": "2001:db8::1", "CNAME": "a.example.net", "MX": "mail.example.com", "TXT": `"a" "b\"c\\ \009"`, "NS": "ns.example.net",
		"SRV": "5 5060 sip.example.com", "CAA": `0 issue "letsencrypt.org; validationmethods=dns-01"`, "PTR": "a.example", "HTTPS": `1 . alpn="h3,h2" ipv4hint=192.0.2.1`,
		"SVCB": "0 other.example", "TLSA": "3 1 1 00ff", "SSHFP": "4 2 00ff", "NAPTR": `100 10 "u" "E2U+sip" "!^.*$!sip:a@b!" .`, "DS": "1 13 2 00ff",
		"CERT": "1 2 3 AQID", "DNSKEY": "257 3 13 AQID", "LOC": "51 30 12.748 N 0 7 39.612 W 0m 1m 10m 2m", "SMIMEA": "3 0 0 aa", "URI": `1 "https://e.example/"`, "OPENPGPKEY": "AQID",
	} {
		f.Add(typ, content)
	}
	f.Add("TXT", "unquoted \" text")
	f.Add("LOC", "91 0 0 N 0 0 0 W 0m")
	f.Fuzz(func(t *testing.T, typ, content string) {
		rank := uint16(7)
		c, err := readContent(typ, content, &rank, "example.com")
		if err != nil {
			return
		}
		e := newEncoder("\x07example\x03com\x00", c.format.typ, 300)
		if err := c.encode(e); err != nil {
			return // too large for a message
		}
		again, err := readContent(typ, c.content(), &rank, "example.com")
		if err != nil || again.content() != c.content() || again.presentation() != c.presentation() {
			t.Fatalf("%s %q reads back as %q: %v", typ, content, c.content(), err)
		}
		if data := c.data(); data != nil {
			checkData(t, typ, c)
		}
		rr, err := mdns.NewRR("x.example.com. 300 IN " + typ + " " + c.presentation())
		if err != nil {
			t.Fatalf("%s %q in a zone file is %q: %v", typ, content, c.presentation(), err)
		}
		full := newEncoder("none", c.format.typ, 300)
		c.encode(full)
		theirs, err := rdata(rooted(rr))
		if ours := full.set.wire[12:]; err != nil || !slices.Equal(ours, theirs) {
			t.Errorf("%s %q: we encode %x, miekg/dns %q as %x (%v)", typ, content, ours, c.presentation(), theirs, err)
		}
	})
}

// FuzzZoneFile: no file panics, and what one is read as comes back from its export.
func FuzzZoneFile(f *testing.F) {
	f.Add("@ 300 IN A 192.0.2.1 ; c cf_tags=a:b,cf-proxied:true\n$ORIGIN sub.example.com.\n$TTL 1h\nx TXT ( \"a\"\n \"b\" )\n\tMX 10 mail\n")
	f.Add("a A 1.1.1.1\n)\n(\n\"\n\\")
	f.Fuzz(func(t *testing.T, file string) {
		lines, err := readFile(file, "example.com", false)
		if err != nil {
			return
		}
		var exported strings.Builder
		for _, l := range lines {
			l.record.ZoneID, l.record.ID = "z", "r"
			if finish(l.record, "example.com") != nil {
				return
			}
			line, err := exportLine(l.record)
			if err != nil {
				t.Fatalf("export of line %d: %v", l.line, err)
			}
			exported.WriteString(line + "\n")
		}
		again, err := readFile(exported.String(), "example.com", false)
		if err != nil || len(again) != len(lines) {
			t.Fatalf("export %q of %q reads as %d records of %d: %v", exported.String(), file, len(again), len(lines), err)
		}
		for i, l := range lines {
			a, b := l.record, again[i].record
			if a.Name != b.Name || a.Type != b.Type || a.TTL != b.TTL || a.Comment != b.Comment || a.Proxied != b.Proxied || !slices.Equal(a.Tags, b.Tags) {
				t.Errorf("record %+v came back as %+v", a, b)
			}
		}
	})
}

// A socket bound to all addresses answers from the one that was asked.
func TestFromDestination(t *testing.T) {
	for network, hosts := range map[string][]string{
		"udp":  {"127.0.0.1", "127.0.0.2", "127.9.8.7", "::1"},
		"udp4": {"127.0.0.1", "127.0.0.2"},
	} {
		pc, err := net.ListenPacket(network, ":0")
		if err != nil {
			t.Fatal(err)
		}
		s := testServer(t, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.ServeUDP(ctx, pc) }()
		_, port, _ := net.SplitHostPort(pc.LocalAddr().String())
		for _, host := range hosts {
			// The client is connected: an answer from another address would not reach it.
			m, _, err := new(mdns.Client).Exchange(new(mdns.Msg).SetQuestion("host000001.example.com.", mdns.TypeA), net.JoinHostPort(host, port))
			if err != nil || len(m.Answer) != 1 {
				t.Errorf("asked at %s: %v", host, err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		pc.Close()
	}
}

// checkData checks that a data object says the same as the content it was made of.
func checkData(t *testing.T, typ string, c contents) {
	t.Helper()
	var data dataObject
	if err := json.Unmarshal(c.data(), &data); err != nil {
		t.Fatalf("data of %s %q: %v", typ, c.content(), err)
	}
	content, priority, err := readData(typ, data)
	if err != nil {
		t.Fatalf("data %s: %v", c.data(), err)
	}
	if priority == nil {
		seven := uint16(7)
		priority = &seven
	}
	back, err := readContent(typ, content, priority, "example.com")
	if err != nil {
		t.Fatalf("data %s gives content %q: %v", c.data(), content, err)
	}
	a, b := newEncoder("none", c.format.typ, 0), newEncoder("none", c.format.typ, 0)
	c.encode(a)
	back.encode(b)
	if !slices.Equal(a.set.wire, b.set.wire) {
		t.Errorf("%s %q became data %s and that %q", typ, c.content(), c.data(), content)
	}
}

func TestConnections(t *testing.T) {
	c := newConnections(8)
	a, sameNet, b, local := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("127.0.0.1")
	for i, step := range []struct {
		addr netip.Addr
		want bool
	}{{a, true}, {sameNet, true}, {a, false}, {b, true}, {b, true}, {b, false}, {local, true}, {local, true}, {local, true}, {local, true}, {local, false}} {
		if got := c.take(step.addr); got != step.want {
			t.Errorf("step %d: take(%s) = %v, want %v", i, step.addr, got, step.want)
		}
	}
	for _, addr := range []netip.Addr{a, sameNet, b, b, local, local, local, local} {
		c.free(addr)
	}
	if c.count() != 0 || len(c.byNet) != 0 {
		t.Errorf("all closed: %d open, %v", c.count(), c.byNet)
	}
}
