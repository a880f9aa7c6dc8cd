package node_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
)

// r2Call sends a request to the API of R2 and returns the result.
func r2Call(t *testing.T, p *process, method, path, body string) json.RawMessage {
	t.Helper()
	status, text := r2Send(t, p, method, path, body)
	var e envelope
	if err := json.Unmarshal([]byte(text), &e); err != nil || !e.Success {
		t.Fatalf("%s %s = %d %.1000s\n%s", method, path, status, text, p.log)
	}
	return e.Result
}

func r2Send(t *testing.T, p *process, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.API+"/accounts/"+p.AccountID+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// TestPublicBucket reads a bucket by a custom domain over TLS, through the cache, and has a Worker told
// by a queue of what is put.
func TestPublicBucket(t *testing.T) {
	p := up(t, t.TempDir())
	r2Call(t, p, "POST", "/r2/buckets", `{"name":"open"}`)
	var zone struct{ ID string }
	if err := p.call("POST", "/zones", fmt.Sprintf(`{"name":"r2.test","account":{"id":%q}}`, p.AccountID), &zone); err != nil {
		t.Fatal(err)
	}
	r2Call(t, p, "POST", "/r2/buckets/open/domains/custom", `{"domain":"cdn.r2.test","zoneId":"`+zone.ID+`","enabled":true}`)
	big := strings.Repeat("0123456789abcdef", 1<<16)
	r2Call(t, p, "PUT", "/r2/buckets/open/objects/dir/page.css", big)
	cdn := &site{t: t, host: "cdn.r2.test", client: &http.Client{}}
	cdn.node.Store(p)
	first := cdn.expect("/dir/page.css", 200, "abcdef")
	if first.body != big || first.header.Get("Etag") != fmt.Sprintf(`"%x"`, md5.Sum([]byte(big))) {
		t.Errorf("read %d bytes, %v", len(first.body), first.header)
	}
	eventually(t, func() error {
		if a := cdn.get("/dir/page.css"); a.header.Get("Cf-Cache-Status") != "HIT" {
			return fmt.Errorf("no hit in the cache: %v", a.header)
		}
		return nil
	})
	if a := cdn.get("/dir/page.css", "Range", "bytes=5-9"); a.status != 206 || a.body != big[5:10] {
		t.Errorf("a range from the cache = %d %.50q", a.status, a.body)
	}
	// As at Cloudflare the cache does not know of what is put until it is purged or old.
	r2Call(t, p, "PUT", "/r2/buckets/open/objects/dir/page.css", "changed")
	if a := cdn.get("/dir/page.css"); a.body != big {
		t.Errorf("the cache had %.50q at once", a.body)
	}
	cdn.expect("/dir/other.css", 404, "Object not found")
	if a, err := cdn.do("PUT", "/dir/page.css", strings.NewReader("x")); err != nil || a.status != 405 {
		t.Errorf("PUT = %d, %v", a.status, err)
	}
	if text := overTLS(t, p, "cdn.r2.test", "/dir/page.css?fresh"); text != "changed" {
		t.Errorf("over TLS: %.50q", text)
	}

	var managed struct{ Domain string }
	if err := json.Unmarshal(r2Call(t, p, "PUT", "/r2/buckets/open/domains/managed", `{"enabled":true}`), &managed); err != nil {
		t.Fatal(err)
	}
	own := &site{t: t, host: managed.Domain, client: &http.Client{}}
	own.node.Store(p)
	own.expect("/dir/page.css", 200, "changed")
	r2Call(t, p, "PUT", "/r2/buckets/open/objects/dir/page.css", "again")
	own.expect("/dir/page.css", 200, "again") // nothing is cached there
	r2Call(t, p, "PUT", "/r2/buckets/open/domains/managed", `{"enabled":false}`)
	if a := own.get("/dir/page.css"); a.status == 200 {
		t.Errorf("a name that is switched off answers %q", a.body)
	}
	tellWorker(t, p)
}

// overTLS reads a page over TLS, trusting the node's CA.
func overTLS(t *testing.T, p *process, host, path string) string {
	t.Helper()
	ca, err := os.ReadFile(p.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(p.HTTPS, "https://"))
		},
	}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get("https://" + host + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Errorf("GET https://%s%s = %d, %v", host, path, res.StatusCode, err)
	}
	return string(text)
}

// tellWorker has a queue's consumer put what it is told of into the bucket, as an object.
func tellWorker(t *testing.T, p *process) {
	t.Helper()
	var queue struct {
		ID string `json:"queue_id"`
	}
	if err := json.Unmarshal(r2Call(t, p, "POST", "/queues", `{"queue_name":"changes"}`), &queue); err != nil {
		t.Fatal(err)
	}
	p.deploy("consumer", script{
		source: `export default {
			async fetch() { return new Response("up") },
			async queue(batch, env) { for (const m of batch.messages) await env.B.put("seen/" + m.body.object.key, JSON.stringify(m.body)) },
		}`,
		meta: `"bindings":[{"type":"r2_bucket","name":"B","bucket_name":"open"}]`,
	})
	r2Call(t, p, "POST", "/queues/"+queue.ID+"/consumers", `{"type":"worker","script_name":"consumer","settings":{"max_wait_time_ms":100}}`)
	r2Call(t, p, "PUT", "/event_notifications/r2/open/configuration/queues/"+queue.ID, `{"rules":[{"prefix":"in/","actions":["PutObject"]}]}`)
	r2Call(t, p, "PUT", "/r2/buckets/open/objects/in/one", "content")
	eventually(t, func() error {
		status, text := r2Send(t, p, "GET", "/r2/buckets/open/objects/seen/in/one", "")
		if status != 200 || !strings.Contains(text, `"action":"PutObject"`) || !strings.Contains(text, `"size":7`) {
			return fmt.Errorf("the consumer was not told: %d %.300s", status, text)
		}
		return nil
	})
}

// TestHalfPutsAndSlowReaders breaks puts off half-way and reads very slowly: no half object is ever
// there, and the node goes on.
func TestHalfPutsAndSlowReaders(t *testing.T) {
	p := up(t, t.TempDir())
	r2Call(t, p, "POST", "/r2/buckets", `{"name":"half"}`)
	r2Call(t, p, "PUT", "/r2/buckets/half/objects/there", "before")
	for _, key := range []string{"there", "absent"} {
		ctx, cancel := context.WithCancel(t.Context())
		body, feed := io.Pipe()
		req, err := http.NewRequestWithContext(ctx, "PUT", p.API+"/accounts/"+p.AccountID+"/r2/buckets/half/objects/"+key, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+p.token)
		req.ContentLength = 10 << 20
		done := make(chan struct{})
		go func() {
			defer close(done)
			if res, err := http.DefaultClient.Do(req); err == nil {
				res.Body.Close()
			}
		}()
		if _, err := feed.Write(bytes.Repeat([]byte("x"), 3<<20)); err != nil {
			t.Fatal(err)
		}
		cancel()
		feed.CloseWithError(context.Canceled) // the client may wait for the body to end
		<-done
	}
	if _, text := r2Send(t, p, "GET", "/r2/buckets/half/objects/there", ""); text != "before" {
		t.Errorf("after half a put the object is %.50q", text)
	}
	if status, _ := r2Send(t, p, "GET", "/r2/buckets/half/objects/absent", ""); status != 404 {
		t.Errorf("after half a put there is an object: %d", status)
	}
	big := strings.Repeat("slow", 1<<20)
	r2Call(t, p, "PUT", "/r2/buckets/half/objects/slow", big)
	s := p.deploy("reader", script{
		source: `export default { async fetch(r, env) { return new Response((await env.B.get("slow")).body) } }`,
		meta:   `"bindings":[{"type":"r2_bucket","name":"B","bucket_name":"half"}]`,
	})
	req, err := http.NewRequestWithContext(t.Context(), "GET", p.HTTP+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = s.host
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	for i := range 20 {
		if _, err := io.ReadFull(res.Body, one); err != nil || one[0] != big[i] {
			t.Fatalf("byte %d = %q, %v", i, one, err)
		}
		// While one reads slowly the object is replaced and others are served.
		r2Call(t, p, "PUT", "/r2/buckets/half/objects/slow", fmt.Sprint("new ", i))
	}
	rest, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || string(rest) != big[20:] {
		t.Errorf("the slow reader got %d bytes of what it had opened, %v", len(rest)+20, err)
	}
}
