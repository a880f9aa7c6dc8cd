package dns_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// peerZone has every type that a zone can have, and every shape that an answer can take.
const peerZone = `$TTL 300
@ A 192.0.2.1
@ A 192.0.2.2
@ AAAA 2001:db8::1
@ MX 10 mail
@ MX 20 mail.elsewhere.example.
@ TXT "v=spf1 -all" "second string"
@ CAA 0 issue "letsencrypt.org"
@ CAA 128 iodef "mailto:hostmaster@example.com"
@ HTTPS 1 . alpn="h2,h3" ipv4hint=192.0.2.1
ns1 A 192.0.2.53
ns1 AAAA 2001:db8::53
mail 120 A 192.0.2.25
www CNAME @
chain1 CNAME chain2
chain2 CNAME chain3
chain3 CNAME www
out CNAME www.example.net.
dangling CNAME nothere
looped1 CNAME looped2
looped2 CNAME looped1
tosub CNAME host.sub
tosubhere CNAME sub
towild CNAME some.wild
towildalias CNAME some.wildalias
toent CNAME b.c
a.b.c A 192.0.2.3
d.b.c TXT "deep"
*.wild A 192.0.2.42
*.wild TXT "any"
*.wild MX 5 mail
real.wild A 192.0.2.43
x.ent.wild A 192.0.2.44
*.wildalias CNAME mail
*.wildout CNAME www.example.net.
*.deep.wild2 A 192.0.2.45
sub 3600 NS ns.sub
sub 3600 NS ns.elsewhere.example.
ns.sub 3600 A 192.0.2.153
ns.sub 3600 AAAA 2001:db8::153
sub 3600 DS 12345 13 2 49FD46E6C4B45C55D4AC69CBD3CD34AC1AFE51DE8A17D9C4D2C8B3F7E5A10B11
hidden.sub A 192.0.2.154
far.below.cut NS ns1
noglue NS ns.elsewhere.example.
_sip._tcp SRV 10 5 5060 mail
_sip._tcp SRV 20 0 5060 .
_443._tcp TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
_smime SMIMEA 3 0 0 0a0b0c
ssh SSHFP 4 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
naptr NAPTR 100 50 "s" "z3950+I2L+I2C" "" _z3950._tcp.gatech.edu.
naptr NAPTR 100 60 "u" "E2U+sip" "!^.*$!sip:info@example.com!" .
svc SVCB 1 mail port=8443 alpn="h2" mandatory=alpn
svcalias SVCB 0 elsewhere.example.
cert CERT 1 12345 8 AQIDBA==
key DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==
loc LOC 51 30 12.748 N 0 7 39.612 W 10.00m 1.00m 10.00m 2.00m
uri URI 10 1 "https://example.com/a?b=c"
pgp OPENPGPKEY AQIDBAUGBwg=
ptr PTR host.example.net.
txt TXT unquoted words "quoted; semicolon" "\"escaped\" \\ \195\164"
big TXT "` + "%s" + `"
*.nodelegation A 192.0.2.47
`

// TestAgreesWithKnot asks Knot DNS, loaded with the zone that we exported, the same questions.
//
// What may differ, and why:
//   - the additional section of answers that are not referrals: Knot adds addresses of mail and
//     service hosts, which resolvers may not use anyway; we add those of our name servers only;
//   - ANY, which we answer with HINFO (RFC 8482), so it is not asked.
//   - a chain of CNAMEs that loops: how many turns it makes before it ends is nobody's business.
func TestAgreesWithKnot(t *testing.T) {
	d := newDesk(t, "example.com")
	if _, err := d.importFile(fmt.Sprintf(peerZone, strings.Repeat("x", 600)), "false"); err != nil {
		t.Fatal(err)
	}
	ours, theirs := serve(t, d.server), startKnot(t, "example.com", d.export())
	names, types := questions(d)
	asked, differ := 0, 0
	for _, name := range names {
		for _, typ := range types {
			for _, network := range []string{"udp", "tcp"} {
				if network == "tcp" && asked%7 != 0 { // the same code answers; a sample is enough
					asked++
					continue
				}
				asked++
				a, b := canonical(askOver(t, network, ours, name, typ, spelled)), canonical(askOver(t, network, theirs, name, typ, spelled))
				if strings.HasPrefix(name, "looped") {
					a, _, _ = strings.Cut(a, "\n")
					b, _, _ = strings.Cut(b, "\n")
				}
				if a != b {
					if differ++; differ < 10 {
						t.Errorf("%s %s %s:\nwe answer\n%s\nKnot answers\n%s", network, name, typ, a, b)
					}
				}
			}
		}
	}
	t.Logf("%d questions, %d differ", asked, differ)
}

// questions are all names of the zone, names between, beside and below them, and all types.
func questions(d *desk) (names, types []string) {
	known := map[string]bool{}
	for _, r := range d.store.Snapshot().Zones[d.zone.ID].Records {
		for name := r.Name; name != "com"; _, name, _ = strings.Cut(name, ".") {
			known[name] = true
			known["nope."+name] = true
			known["a.b."+name] = true
			known[strings.Replace(name, "*", "star", 1)] = true
		}
	}
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, []string{"A", "AAAA", "CNAME", "MX", "TXT", "NS", "SOA", "SRV", "CAA", "PTR", "HTTPS", "SVCB", "TLSA", "SSHFP", "NAPTR", "DS",
		"CERT", "DNSKEY", "LOC", "SMIMEA", "URI", "OPENPGPKEY", "HINFO", "RRSIG", "NSEC"}
}

// spelled asks as a resolver does that mixes cases, with EDNS.
func spelled(m *mdns.Msg) {
	name := []byte(m.Question[0].Name)
	for i := range name {
		if i%2 == 0 && name[i] >= 'a' && name[i] <= 'z' {
			name[i] -= 32
		}
	}
	m.Question[0].Name = string(name)
	m.SetEdns0(1232, false)
}

// canonical writes an answer so that the order of records, and the case of names in their data,
// make no difference.
func canonical(m *mdns.Msg) string {
	lines := []string{}
	for i, section := range [][]mdns.RR{m.Answer, m.Ns, m.Extra} {
		referral := len(m.Ns) > 0 && m.Ns[0].Header().Rrtype == mdns.TypeNS
		for _, rr := range section {
			if rr.Header().Rrtype == mdns.TypeOPT || i == 2 && !referral {
				continue
			}
			lines = append(lines, fmt.Sprint(i)+" "+strings.ToLower(rr.String()))
		}
	}
	slices.Sort(lines)
	return fmt.Sprintf("%s aa=%v tc=%v q=%s\n%s", mdns.RcodeToString[m.Rcode], m.Authoritative, m.Truncated, m.Question[0].Name, strings.Join(lines, "\n"))
}

// startKnot serves a zone file with knotd on a free loopback port until the test ends.
func startKnot(t testing.TB, zone, file string) string {
	t.Helper()
	dir := t.TempDir()
	addr := freePort(t)
	host, port, _ := net.SplitHostPort(addr)
	zonefile := filepath.Join(dir, "zone.txt")
	if err := os.WriteFile(zonefile, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("server:\n  listen: %s@%s\n  rundir: %s\ndatabase:\n  storage: %s\nlog:\n- target: stderr\n  any: warning\nzone:\n- domain: %s\n  file: %s\n", host, port, dir, dir, zone, zonefile)
	if err := os.WriteFile(filepath.Join(dir, "knot.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd := exec.Command("knotd", "-c", filepath.Join(dir, "knot.conf"))
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start knotd (Debian package knot): %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	})
	q := new(mdns.Msg).SetQuestion(zone+".", mdns.TypeSOA)
	client := &mdns.Client{Timeout: 200 * time.Millisecond}
	for range 100 {
		if m, _, err := client.Exchange(q, addr); err == nil && m.Rcode == mdns.RcodeSuccess {
			return addr
		}
		time.Sleep(50 * time.Millisecond)
	}
	cmd.Process.Kill()
	cmd.Wait()
	t.Fatalf("knotd does not serve the zone:\n%s", log.String())
	return ""
}

func freePort(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
