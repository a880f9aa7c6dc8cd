package node_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestKilledAgainAndAgain kills the node in the middle of API writes, purges and traffic. What was
// acknowledged is there after each start, in the API and in DNS, and every start is clean.
func TestKilledAgainAndAgain(t *testing.T) {
	const rounds = 8
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, strings.Repeat("x", 4096))
	}))
	defer origin.Close()
	dir := t.TempDir()
	p := up(t, dir)
	zone := p.addSite("site.test", origin)
	acked := &ackedRecords{zone: zone}
	for round := range rounds {
		var group sync.WaitGroup
		for w := range 4 {
			group.Go(func() { acked.write(p, fmt.Sprintf("r%dw%d", round, w)) })
		}
		group.Go(func() { browse(p) })
		group.Go(func() {
			for p.call("POST", "/zones/"+zone+"/purge_cache", `{"purge_everything":true}`, nil) == nil {
			}
		})
		time.Sleep(time.Duration(50+rand.IntN(200)) * time.Millisecond)
		p.stop(syscall.SIGKILL)
		group.Wait()
		p = up(t, dir)
		acked.check(t, p)
		if log := p.log.String(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "level=WARN") {
			t.Errorf("round %d: the start was not clean:\n%s", round, log)
		}
	}
	t.Logf("%d acknowledged records survived %d kills", len(acked.names), rounds)
	if err := p.stop(syscall.SIGTERM); err != nil {
		t.Errorf("the node ended with %v:\n%s", err, p.log)
	}
}

type ackedRecords struct {
	zone string

	mu    sync.Mutex // guards the field below
	names []string
}

// write adds records until the node is gone.
func (a *ackedRecords) write(p *process, prefix string) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for i := 0; ; i++ {
		name := fmt.Sprintf("%s-%d.site.test", prefix, i)
		body := fmt.Sprintf(`{"name":%q,"type":"TXT","content":"\"%d\"","ttl":300}`, name, i)
		if callAPI(client, p.API+"/zones/"+a.zone+"/dns_records", "POST", p.token, body, nil) != nil {
			return
		}
		a.mu.Lock()
		a.names = append(a.names, name)
		a.mu.Unlock()
	}
}

// check looks every acknowledged record up in the API, and the last of them in DNS.
func (a *ackedRecords) check(t *testing.T, p *process) {
	t.Helper()
	var found []string
	for page := 1; ; page++ {
		var part []struct{ Name string }
		if err := p.call("GET", fmt.Sprintf("/zones/%s/dns_records?type=TXT&per_page=1000&page=%d", a.zone, page), "", &part); err != nil {
			t.Fatal(err)
		}
		for _, r := range part {
			found = append(found, r.Name)
		}
		if len(part) < 1000 {
			break
		}
	}
	slices.Sort(found)
	for _, name := range a.names {
		if _, ok := slices.BinarySearch(found, name); !ok {
			t.Errorf("%s was acknowledged and is gone", name)
		}
	}
	if len(a.names) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	last := a.names[len(a.names)-1]
	answer, _, err := (&dns.Client{Timeout: 5 * time.Second}).Exchange(new(dns.Msg).SetQuestion(last+".", dns.TypeTXT), p.DNS)
	if err != nil || len(answer.Answer) != 1 {
		t.Errorf("DNS does not know %s: %v %v", last, answer, err)
	}
}

// browse fetches from the site until the node is gone.
func browse(p *process) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for i := 0; ; i++ {
		req, err := http.NewRequest("GET", fmt.Sprintf("%s/%d.css", p.HTTP, i%50), nil)
		if err != nil {
			return
		}
		req.Host = "site.test"
		res, err := client.Do(req)
		if err != nil {
			return
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}
