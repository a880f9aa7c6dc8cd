package node_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// BenchmarkEffect measures from the call of POST dns_records to the first DNS answer that has the
// record, over the API and the wire, with other zones around. It reports the percentiles.
func BenchmarkEffect(b *testing.B) {
	for _, zones := range []int{1, 1000} {
		b.Run(fmt.Sprintf("zones=%d", zones), func(b *testing.B) {
			p := up(b, b.TempDir())
			id := manyZones(b, p, zones)
			client, resolver := &http.Client{Transport: &http.Transport{}}, &dns.Client{Timeout: 5 * time.Second}
			conn, err := resolver.Dial(p.DNS)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			took := make([]time.Duration, 0, b.N)
			b.ResetTimer()
			for i := range b.N {
				name := fmt.Sprintf("r%d.zone0.test", i)
				began := time.Now()
				body := fmt.Sprintf(`{"name":%q,"type":"A","content":"192.0.2.1","ttl":60}`, name)
				if err := callAPI(client, p.API+"/zones/"+id+"/dns_records", "POST", p.token, body, nil); err != nil {
					b.Fatal(err)
				}
				for {
					answer, _, err := resolver.ExchangeWithConn(new(dns.Msg).SetQuestion(name+".", dns.TypeA), conn)
					if err != nil {
						b.Fatal(err)
					}
					if len(answer.Answer) == 1 {
						break
					}
				}
				took = append(took, time.Since(began))
			}
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
			p.stop(syscall.SIGTERM)
		})
	}
}

// BenchmarkStart measures from the start of the program to node.json, on a data directory that has
// zones.
func BenchmarkStart(b *testing.B) {
	for _, zones := range []int{1, 1000} {
		b.Run(fmt.Sprintf("zones=%d", zones), func(b *testing.B) {
			dir := b.TempDir()
			p := up(b, dir)
			manyZones(b, p, zones)
			p.stop(syscall.SIGTERM)
			b.ResetTimer()
			for range b.N {
				p = up(b, dir)
				b.StopTimer()
				p.stop(syscall.SIGTERM)
				b.StartTimer()
			}
		})
	}
}

// manyZones makes zones with a proxied apex each, and returns the ID of the first.
func manyZones(b *testing.B, p *process, zones int) string {
	b.Helper()
	origin := httptest.NewServer(http.NotFoundHandler())
	b.Cleanup(origin.Close)
	p.t = b
	first := ""
	for i := range zones {
		if id := p.addSite(fmt.Sprintf("zone%d.test", i), origin); i == 0 {
			first = id
		}
	}
	return first
}
