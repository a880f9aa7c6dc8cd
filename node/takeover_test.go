package node_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestTakeoverUnderLoad replaces the process five times, by flag and by signal, while clients of all
// kinds make requests. Not one may fail.
func TestTakeoverUnderLoad(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	}))
	defer origin.Close()
	p := up(t, t.TempDir())
	zone := p.addSite("site.test", origin)
	load := newLoad(t, p, zone)
	load.start()
	current := p
	for i := range 5 {
		old := current.PID
		before := load.made.Load()
		if i%2 == 0 {
			next := launch(t, p.dir, "--takeover")
			next.awaitReady(old)
			current = next
		} else {
			syscall.Kill(old, syscall.SIGHUP)
			current.awaitReady(old)
		}
		if i == 0 {
			if err := p.wait(); err != nil {
				t.Errorf("the node that was taken over ended with %v:\n%s", err, p.log)
			}
		}
		for load.made.Load() < before+500 && load.failures() == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	load.stop()
	for kind, err := range load.failed {
		t.Errorf("%s failed: %v", kind, err)
	}
	t.Logf("%d requests during 5 takeovers", load.made.Load())
	var records []struct{ Name string }
	if err := current.call("GET", fmt.Sprintf("/zones/%s/dns_records?type=TXT&per_page=5000", zone), "", &records); err != nil {
		t.Fatal(err)
	}
	if len(records) != load.records {
		t.Errorf("%d records are there after %d were acknowledged", len(records), load.records)
	}
	if strings.Contains(p.log.String(), "level=ERROR") {
		t.Errorf("the nodes logged errors:\n%s", p.log)
	}
	syscall.Kill(current.PID, syscall.SIGTERM)
	for deadline := time.Now().Add(20 * time.Second); syscall.Kill(current.PID, 0) == nil && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}

// load is clients of all kinds, each making one request after the other.
type load struct {
	t       testing.TB
	p       *process
	zone    string
	ctx     context.Context
	stopped context.CancelFunc
	group   sync.WaitGroup
	made    atomic.Int64

	mu      sync.Mutex // guards the fields below
	failed  map[string]error
	records int
}

func newLoad(t testing.TB, p *process, zone string) *load {
	l := &load{t: t, p: p, zone: zone, failed: map[string]error{}}
	l.ctx, l.stopped = context.WithCancel(context.Background())
	return l
}

func (l *load) failures() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.failed)
}

func (l *load) start() {
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(l.p.CAFile)
	if err != nil {
		l.t.Fatal(err)
	}
	roots.AppendCertsFromPEM(ca)
	to := func(base string) func(context.Context, string, string) (net.Conn, error) {
		u, _ := url.Parse(base)
		return func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", u.Host)
		}
	}
	trust := &tls.Config{RootCAs: roots}
	// POST, because clients repeat a GET by themselves when a connection breaks.
	post := func(c *http.Client, url string) func() error { return func() error { return postEcho(c, url) } }
	l.run("http, new connections", post(&http.Client{Transport: &http.Transport{DialContext: to(l.p.HTTP), DisableKeepAlives: true}}, "http://site.test/"))
	l.run("http, kept alive", post(&http.Client{Transport: &http.Transport{DialContext: to(l.p.HTTP)}}, "http://site.test/"))
	l.run("https, kept alive", post(&http.Client{Transport: &http.Transport{DialContext: to(l.p.HTTPS), TLSClientConfig: trust.Clone()}}, "https://site.test/"))
	l.run("https, h2", post(&http.Client{Transport: &http.Transport{DialContext: to(l.p.HTTPS), TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: true}}, "https://site.test/"))
	for _, network := range []string{"udp", "tcp"} {
		client := &dns.Client{Net: network, Timeout: 15 * time.Second} // a machine that tests much at once is slow, too
		l.run("dns over "+network, func() error { return l.query(client) })
	}
	l.run("api writes", l.write())
}

func (l *load) run(kind string, request func() error) {
	l.group.Go(func() {
		for l.ctx.Err() == nil {
			if err := request(); err != nil {
				l.mu.Lock()
				l.failed[kind] = err
				l.mu.Unlock()
				return
			}
			l.made.Add(1)
		}
	})
}

func (l *load) stop() {
	l.stopped()
	l.group.Wait()
}

func postEcho(c *http.Client, url string) error {
	res, err := c.Post(url, "text/plain", strings.NewReader("hello"))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || string(body) != "hello" {
		return fmt.Errorf("status %d: %.300s", res.StatusCode, body)
	}
	return nil
}

func (l *load) query(c *dns.Client) error {
	m := new(dns.Msg).SetQuestion("site.test.", dns.TypeA)
	answer, _, err := c.Exchange(m, l.p.DNS)
	if err != nil {
		return err
	}
	if answer.Rcode != dns.RcodeSuccess || len(answer.Answer) != 1 {
		return errors.New(answer.String())
	}
	return nil
}

// write returns a request that adds a record, over connections that are kept alive.
func (l *load) write() func() error {
	client := &http.Client{Transport: &http.Transport{}}
	return func() error {
		l.mu.Lock()
		n := l.records
		l.mu.Unlock()
		body := fmt.Sprintf(`{"name":"r%d.site.test","type":"TXT","content":"\"%d\"","ttl":300}`, n, n)
		if err := callAPI(client, l.p.API+"/zones/"+l.zone+"/dns_records", "POST", l.p.token, body, nil); err != nil {
			return err
		}
		l.mu.Lock()
		l.records++
		l.mu.Unlock()
		return nil
	}
}
