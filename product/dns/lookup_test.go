package dns_test

import (
	"strings"
	"testing"

	mdns "github.com/miekg/dns"

	"selvage/product/dns"
	"selvage/spec"
)

const testZone = `
	@ 300 A 192.0.2.1
	@ 1 MX 10 mail.example.com
	@ 300 TXT "v=spf1 -all"
	mail 120 A 192.0.2.25
	mail 120 AAAA 2001:db8::25
	www 300 CNAME web.example.com
	web 60 A 192.0.2.80
	web 120 A 192.0.2.81
	out 300 CNAME www.example.net
	loop1 300 CNAME loop2.example.com
	loop2 300 CNAME loop1.example.com
	dangling 300 CNAME nothere.example.com
	a.b.c 300 A 192.0.2.3
	*.wild 300 A 192.0.2.42
	*.wild 300 TXT "any"
	real.wild 300 A 192.0.2.43
	x.ent.wild 300 A 192.0.2.44
	*.alias 300 CNAME web.example.com
	sub 3600 NS ns.sub.example.com
	sub 3600 NS ns.elsewhere.example
	sub 3600 DS 12345 13 2 49FD46E6C4B45C55D4AC69CBD3CD34AC1AFE51DE8A17D9C4D2C8B3F7E5A10B11
	ns.sub 3600 A 192.0.2.53
	deep.sub 300 A 192.0.2.54
	tosub 300 CNAME host.sub.example.com
	prox 1 A 10.0.0.1 ;proxied
	prox 1 TXT "beside"
	prox4 1 CNAME origin.example.net ;v4only
	*.prox 1 CNAME example.com ;proxied
	flatin 300 CNAME web.example.com ;flatten
	flatprox 300 CNAME prox.example.com ;flatten
	flatloop 300 CNAME flatloop.example.com ;flatten
	flatnone 300 CNAME nothere.example.com ;flatten
	across 300 CNAME two.example.org
`

const otherZone = `
	two 300 CNAME three.example.org
	three 300 A 192.0.2.200
	back 300 CNAME www.example.com
`

const soa = "au example.com. 1800 SOA ns1.example.com. hostmaster.example.com. 1 10000 2400 604800 1800"

// lookups are questions to testZone and what the answer has to be, in show's form.
var lookups = []struct{ name, typ, want string }{
	{"example.com", "A", "NOERROR aa|an example.com. 300 A 192.0.2.1"},
	{"example.com", "MX", "NOERROR aa|an example.com. 300 MX 10 mail.example.com."},
	{"example.com", "TXT", `NOERROR aa|an example.com. 300 TXT "v=spf1 -all"`},
	{"example.com", "AAAA", "NOERROR aa|" + soa},
	{"example.com", "SOA", "NOERROR aa|an" + strings.TrimPrefix(soa, "au")},
	{"example.com", "NS", "NOERROR aa|an example.com. 86400 NS ns1.example.com.|an example.com. 86400 NS ns2.other.example.|ad ns1.example.com. 300 A 203.0.113.7|ad ns1.example.com. 300 A 203.0.113.8|ad ns1.example.com. 300 AAAA 2001:db8:ed9e::7"},
	{"ns1.example.com", "A", "NOERROR aa|an ns1.example.com. 300 A 203.0.113.7|an ns1.example.com. 300 A 203.0.113.8"},
	{"ExAmPlE.cOm", "A", "NOERROR aa|an ExAmPlE.cOm. 300 A 192.0.2.1"},
	{"web.example.com", "A", "NOERROR aa|an web.example.com. 60 A 192.0.2.80|an web.example.com. 60 A 192.0.2.81"},
	{"nope.example.com", "A", "NXDOMAIN aa|" + soa},
	{"nope.mail.example.com", "A", "NXDOMAIN aa|" + soa},
	{"example.net", "A", "REFUSED"},
	{"com", "NS", "REFUSED"},
	{".", "NS", "REFUSED"},
	{"notexample.com", "A", "REFUSED"},

	// Aliases.
	{"www.example.com", "A", "NOERROR aa|an www.example.com. 300 CNAME web.example.com.|an web.example.com. 60 A 192.0.2.80|an web.example.com. 60 A 192.0.2.81"},
	{"www.example.com", "CNAME", "NOERROR aa|an www.example.com. 300 CNAME web.example.com."},
	{"www.example.com", "AAAA", "NOERROR aa|an www.example.com. 300 CNAME web.example.com.|" + soa},
	{"out.example.com", "A", "NOERROR aa|an out.example.com. 300 CNAME www.example.net."},
	{"dangling.example.com", "A", "NXDOMAIN aa|an dangling.example.com. 300 CNAME nothere.example.com.|" + soa},
	{"across.example.com", "A", "NOERROR aa|an across.example.com. 300 CNAME two.example.org.|an two.example.org. 300 CNAME three.example.org.|an three.example.org. 300 A 192.0.2.200"},
	{"back.example.org", "A", "NOERROR aa|an back.example.org. 300 CNAME www.example.com.|an www.example.com. 300 CNAME web.example.com.|an web.example.com. 60 A 192.0.2.80|an web.example.com. 60 A 192.0.2.81"},
	{"across.example.com", "AAAA", "NOERROR aa|an across.example.com. 300 CNAME two.example.org.|an two.example.org. 300 CNAME three.example.org.|au example.org. 1800 SOA ns1.example.org. hostmaster.example.org. 1 10000 2400 604800 1800"},

	// Empty non-terminals (RFC 8020: they exist) and wildcards (RFC 4592).
	{"b.c.example.com", "A", "NOERROR aa|" + soa},
	{"c.example.com", "TXT", "NOERROR aa|" + soa},
	{"z.c.example.com", "A", "NXDOMAIN aa|" + soa},
	{"any.wild.example.com", "A", "NOERROR aa|an any.wild.example.com. 300 A 192.0.2.42"},
	{"a.b.c.wild.example.com", "TXT", `NOERROR aa|an a.b.c.wild.example.com. 300 TXT "any"`},
	{"any.wild.example.com", "AAAA", "NOERROR aa|" + soa},
	{"*.wild.example.com", "A", "NOERROR aa|an *.wild.example.com. 300 A 192.0.2.42"},
	{"real.wild.example.com", "TXT", "NOERROR aa|" + soa},
	{"below.real.wild.example.com", "A", "NXDOMAIN aa|" + soa},
	{"ent.wild.example.com", "A", "NOERROR aa|" + soa},
	{"y.ent.wild.example.com", "A", "NXDOMAIN aa|" + soa},
	{"wild.example.com", "A", "NOERROR aa|" + soa},
	{"q.alias.example.com", "A", "NOERROR aa|an q.alias.example.com. 300 CNAME web.example.com.|an web.example.com. 60 A 192.0.2.80|an web.example.com. 60 A 192.0.2.81"},

	// Delegations.
	{"sub.example.com", "A", referral},
	{"sub.example.com", "NS", referral},
	{"deep.sub.example.com", "A", referral},
	{"any.thing.sub.example.com", "TXT", referral},
	{"sub.example.com", "DS", "NOERROR aa|an sub.example.com. 3600 DS 12345 13 2 49FD46E6C4B45C55D4AC69CBD3CD34AC1AFE51DE8A17D9C4D2C8B3F7E5A10B11"},
	{"deep.sub.example.com", "DS", referral},
	{"tosub.example.com", "A", "NOERROR aa|an tosub.example.com. 300 CNAME host.sub.example.com." + strings.TrimPrefix(referral, "NOERROR")},
	{"example.com", "DS", "NOERROR aa|" + soa},

	// Names served through the edge.
	{"prox.example.com", "A", "NOERROR aa|an prox.example.com. 300 A 203.0.113.7|an prox.example.com. 300 A 203.0.113.8"},
	{"prox.example.com", "AAAA", "NOERROR aa|an prox.example.com. 300 AAAA 2001:db8:ed9e::7"},
	{"prox.example.com", "TXT", `NOERROR aa|an prox.example.com. 300 TXT "beside"`},
	{"prox.example.com", "HTTPS", `NOERROR aa|an prox.example.com. 300 HTTPS 1 . alpn="h2" ipv4hint="203.0.113.7,203.0.113.8" ipv6hint="2001:db8:ed9e::7"`},
	{"prox4.example.com", "A", "NOERROR aa|an prox4.example.com. 300 A 203.0.113.7|an prox4.example.com. 300 A 203.0.113.8"},
	{"prox4.example.com", "AAAA", "NOERROR aa|" + soa},
	{"prox4.example.com", "CNAME", "NOERROR aa|" + soa},
	{"prox4.example.com", "HTTPS", `NOERROR aa|an prox4.example.com. 300 HTTPS 1 . alpn="h2" ipv4hint="203.0.113.7,203.0.113.8"`},
	{"q.prox.example.com", "AAAA", "NOERROR aa|an q.prox.example.com. 300 AAAA 2001:db8:ed9e::7"},

	// CNAMEs resolved here.
	{"flatin.example.com", "A", "NOERROR aa|an flatin.example.com. 60 A 192.0.2.80|an flatin.example.com. 60 A 192.0.2.81"},
	{"flatin.example.com", "AAAA", "NOERROR aa|" + soa},
	{"flatin.example.com", "CNAME", "NOERROR aa|" + soa},
	{"flatprox.example.com", "AAAA", "NOERROR aa|an flatprox.example.com. 300 AAAA 2001:db8:ed9e::7"},
	{"flatloop.example.com", "A", "SERVFAIL"},
	{"flatnone.example.com", "A", "NOERROR aa|" + soa},

	{"web.example.com", "ANY", `NOERROR aa|an web.example.com. 3789 HINFO "RFC8482" ""`},
	{"nope.example.com", "ANY", "NXDOMAIN aa|" + soa},
	{"example.com", "AXFR", "REFUSED"},
	{"example.com", "IXFR", "REFUSED"},
}

const referral = "NOERROR|au sub.example.com. 3600 NS ns.sub.example.com.|au sub.example.com. 3600 NS ns.elsewhere.example.|ad ns.sub.example.com. 3600 A 192.0.2.53"

func TestLookup(t *testing.T) {
	_, addr := start(t, dns.Options{ALPN: []string{"h2"}}, zoneOf(t, 1, "example.com", testZone), zoneOf(t, 1, "example.org", otherZone))
	for _, network := range []string{"udp", "tcp"} {
		for _, c := range lookups {
			if network == "tcp" && strings.HasSuffix(c.typ, "XFR") {
				continue // the client library insists on its own way
			}
			m := askOver(t, network, addr, c.name, c.typ)
			if got := strings.ReplaceAll(sortedRecords(show(m)), "\n", "|"); got != strings.ReplaceAll(sortedRecords(strings.ReplaceAll(c.want, "|", "\n")), "\n", "|") {
				t.Errorf("%s %s %s:\n got %s\nwant %s", network, c.name, c.typ, got, c.want)
			}
		}
	}
}

// sortedRecords orders records of the same owner and type, whose order means nothing.
func sortedRecords(s string) string {
	lines := strings.Split(s, "\n")
	for i := 1; i < len(lines); i++ {
		for j := i; j > 1 && lines[j] < lines[j-1] && key(lines[j]) == key(lines[j-1]); j-- {
			lines[j], lines[j-1] = lines[j-1], lines[j]
		}
	}
	return strings.Join(lines, "\n")
}

func key(line string) string {
	words := strings.Fields(line)
	if len(words) < 4 {
		return line
	}
	return words[0] + words[1] + words[3]
}

func TestLoopEnds(t *testing.T) {
	_, addr := start(t, dns.Options{}, zoneOf(t, 1, "example.com", testZone))
	m := ask(t, addr, "loop1.example.com", "A")
	if m.Rcode != mdns.RcodeSuccess || len(m.Answer) == 0 || len(m.Answer) > 12 {
		t.Errorf("loop: %s", show(m))
	}
}

// TestEmptyZone asks a zone as it is right after it was made, by which lego finds it.
func TestEmptyZone(t *testing.T) {
	s, addr := start(t, dns.Options{}, zoneOf(t, 1, "example.com", "out 300 A 192.0.2.1"))
	empty := func(version uint64) *spec.Snapshot {
		z := zoneOf(t, version, "example.com", "")
		return &spec.Snapshot{Version: version, Zones: map[string]*spec.ZoneConfig{z.Zone.ID: z}}
	}
	for version := range uint64(2) {
		commit(t, s, empty(version+2))
		if m := ask(t, addr, "example.com", "SOA"); m.Rcode != mdns.RcodeSuccess || len(m.Answer) != 1 {
			t.Errorf("SOA of an empty zone: %s", show(m))
		}
		if m := ask(t, addr, "example.com", "A"); m.Rcode != mdns.RcodeSuccess || len(m.Ns) != 1 {
			t.Errorf("A of an empty zone: %s", show(m))
		}
	}
}

// A zone below another of ours: its own names are its own, its DS record is its parent's.
func TestZoneBelowZone(t *testing.T) {
	_, addr := start(t, dns.Options{}, zoneOf(t, 1, "kid.example.com", "@ 300 A 192.0.2.9"), zoneOf(t, 1, "example.com", `
		kid 300 NS ns1.kid.example.com
		kid 300 DS 1 13 2 00ff
		www 300 CNAME kid.example.com`))
	for _, c := range []struct{ name, typ, want string }{
		{"kid.example.com", "A", "NOERROR aa|an kid.example.com. 300 A 192.0.2.9"},
		{"kid.example.com", "DS", "NOERROR aa|an kid.example.com. 300 DS 1 13 2 00FF"},
		{"www.example.com", "A", "NOERROR aa|an www.example.com. 300 CNAME kid.example.com.|an kid.example.com. 300 A 192.0.2.9"},
		{"www.example.com", "TXT", "NOERROR aa|an www.example.com. 300 CNAME kid.example.com.|au kid.example.com. 1800 SOA ns1.kid.example.com. hostmaster.kid.example.com. 1 10000 2400 604800 1800"},
		{"nope.kid.example.com", "A", "NXDOMAIN aa|au kid.example.com. 1800 SOA ns1.kid.example.com. hostmaster.kid.example.com. 1 10000 2400 604800 1800"},
	} {
		if got := strings.ReplaceAll(show(ask(t, addr, c.name, c.typ)), "\n", "|"); got != c.want {
			t.Errorf("%s %s:\n got %s\nwant %s", c.name, c.typ, got, c.want)
		}
	}
}
