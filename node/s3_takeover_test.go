package node_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestS3WhileTakenOver replaces the node three times while S3 clients, readers of a public bucket and users
// of the API are at work, some of them so slowly that what they do begins in one process and ends in
// another: no request fails, and nothing is lost.
func TestS3WhileTakenOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var node atomic.Pointer[process]
	node.Store(up(t, dir))
	c := newS3Client(t, &node, "photos")
	w := &s3Work{t: t, node: &node}
	public := publish(t, &node, "photos")
	rest := restOf(t, &node)
	still := s3Content(2)
	if _, _, err := c.do("PUT", "/still", still); err != nil {
		t.Fatal(err)
	}

	w.run("puts", w.puts(c, "kept"))
	w.run("puts, new connections", w.puts(c.with(&http.Transport{DisableKeepAlives: true}), "new"))
	w.run("deletes", w.deletes(c.with(&http.Transport{})))
	w.run("multipart", w.multiparts(c.with(&http.Transport{})))
	w.run("lists", w.lists(c.with(&http.Transport{})))
	w.run("public", func(int) error {
		a, err := public.do("GET", "/still", nil)
		if err == nil && (a.status != http.StatusOK || a.body != string(still)) {
			err = fmt.Errorf("status %d: %.200s", a.status, a.body)
		}
		return err
	})
	for name, request := range rest {
		w.run(name, request)
	}
	for _, size := range []int{100 << 20, 8 << 20, 8 << 20} {
		w.more(5)
		slow := beginSlowly(t, c.with(&http.Transport{}), public, noise(size))
		old := node.Load()
		next := up(t, dir, "--takeover")
		node.Store(next)
		slow.end()
		if err := old.wait(); err != nil {
			t.Errorf("the node that was taken over: %v\n%s", err, old.log)
		}
	}
	w.more(5)
	w.stop()
	for key, n := range w.there {
		if err := c.has(key, s3Content(n)); err != nil {
			t.Errorf("after all takeovers: %v", err)
		}
	}
}

// s3Work is clients of all kinds, each making one request after the other.
type s3Work struct {
	t     testing.TB
	node  *atomic.Pointer[process]
	group sync.WaitGroup
	ended atomic.Bool

	mu     sync.Mutex // guards the fields below
	made   map[string]int
	failed int
	there  map[string]int // which contents are acknowledged, by key
}

// run calls request with ascending numbers until stop.
func (w *s3Work) run(kind string, request func(i int) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.made == nil {
		w.made, w.there = map[string]int{}, map[string]int{}
	}
	w.made[kind] = 0
	w.group.Go(func() {
		for i := 0; !w.ended.Load(); i++ {
			err := request(i)
			w.mu.Lock()
			w.made[kind]++
			if err != nil {
				if w.failed++; w.failed < 10 {
					w.t.Errorf("%s, request %d: %v", kind, i, err)
				}
			}
			w.mu.Unlock()
		}
	})
}

func (w *s3Work) stop() {
	w.ended.Store(true)
	w.group.Wait()
	w.t.Logf("made %v", w.made)
}

// more waits until each kind has made so many requests more.
func (w *s3Work) more(count int) {
	w.t.Helper()
	w.mu.Lock()
	want := map[string]int{}
	for kind, n := range w.made {
		want[kind] = n + count
	}
	w.mu.Unlock()
	eventually(w.t, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		for kind, n := range want {
			if w.made[kind] < n {
				return fmt.Errorf("%s: %d of %d", kind, w.made[kind], n)
			}
		}
		return nil
	})
}

func (w *s3Work) puts(c *s3Client, prefix string) func(i int) error {
	return func(i int) error {
		key := fmt.Sprintf("%s/%d", prefix, i)
		if _, _, err := c.do("PUT", "/"+key, s3Content(i)); err != nil {
			return err
		}
		w.mu.Lock()
		w.there[key] = i
		w.mu.Unlock()
		return c.has(key, s3Content(i))
	}
}

func (w *s3Work) deletes(c *s3Client) func(i int) error {
	return func(i int) error {
		key := fmt.Sprintf("gone/%d", i)
		if _, _, err := c.do("PUT", "/"+key, s3Content(i)); err != nil {
			return err
		}
		if _, _, err := c.do("DELETE", "/"+key, nil); err != nil {
			return err
		}
		return c.lacks(key)
	}
}

func (w *s3Work) multiparts(c *s3Client) func(i int) error {
	const least = 5 << 20
	return func(i int) error {
		key := fmt.Sprintf("parts/%d", i%5)
		first, last := bytes.Repeat([]byte{byte(i)}, least), s3Content(i)
		if err := c.putParts(key, first, last); err != nil {
			return err
		}
		return c.has(key, append(first, last...))
	}
}

// lists compares the listing with what was acknowledged before.
func (w *s3Work) lists(c *s3Client) func(i int) error {
	return func(int) error {
		w.mu.Lock()
		want := 0
		for key := range w.there {
			if strings.HasPrefix(key, "kept/") {
				want++
			}
		}
		w.mu.Unlock()
		got, after := 0, ""
		for more := true; more; {
			data, _, err := c.do("GET", "?list-type=2&max-keys=500&prefix=kept%2F&start-after="+strings.ReplaceAll(after, "/", "%2F"), nil)
			if err != nil {
				return err
			}
			var page struct {
				IsTruncated bool
				Contents    []struct{ Key string }
			}
			if err := xml.Unmarshal(data, &page); err != nil {
				return err
			}
			got += len(page.Contents)
			if more = page.IsTruncated; more {
				after = page.Contents[len(page.Contents)-1].Key
			}
		}
		if got < want {
			return fmt.Errorf("%d objects are listed, %d were there", got, want)
		}
		return nil
	}
}

// publish makes a bucket public by its own name, which no cache stands before.
func publish(t testing.TB, node *atomic.Pointer[process], bucket string) *site {
	t.Helper()
	p := node.Load()
	var managed struct{ Domain string }
	must(t, p.call("PUT", "/accounts/"+p.AccountID+"/r2/buckets/"+bucket+"/domains/managed", `{"enabled":true}`, &managed))
	s := &site{t: t, host: managed.Domain, client: &http.Client{Transport: &http.Transport{}}}
	s.node.Store(p) // its address stays
	return s
}

// restOf are writes by the API to each product that keeps data, each read again.
func restOf(t testing.TB, node *atomic.Pointer[process]) map[string]func(i int) error {
	t.Helper()
	p := node.Load()
	account := "/accounts/" + p.AccountID
	var kv struct{ ID string }
	var d1 struct{ UUID string }
	var queue struct {
		ID string `json:"queue_id"`
	}
	must(t, errors.Join(
		p.call("POST", account+"/storage/kv/namespaces", `{"title":"rest"}`, &kv),
		p.call("POST", account+"/d1/database", `{"name":"rest"}`, &d1),
		p.call("POST", account+"/queues", `{"queue_name":"rest"}`, &queue),
		p.call("POST", account+"/d1/database/"+d1.UUID+"/query", `{"sql":"CREATE TABLE n (i INTEGER PRIMARY KEY)"}`, nil),
	))
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	call := func(method, path, body string, result any) error {
		return callAPI(client, node.Load().API+account+path, method, p.token, body, result)
	}
	return map[string]func(i int) error{
		"kv by REST": func(i int) error {
			return call("PUT", fmt.Sprintf("/storage/kv/namespaces/%s/values/key%d", kv.ID, i), "value", nil)
		},
		"r2 by REST": func(i int) error {
			return call("PUT", fmt.Sprintf("/r2/buckets/photos/objects/rest%d", i), string(s3Content(i)), nil)
		},
		"d1 by REST": func(i int) error {
			return call("POST", "/d1/database/"+d1.UUID+"/query", fmt.Sprintf(`{"sql":"INSERT INTO n VALUES (%d)"}`, i), nil)
		},
		"queues by REST": func(i int) error {
			return call("POST", "/queues/"+queue.ID+"/messages", fmt.Sprintf(`{"body":"message %d"}`, i), nil)
		},
	}
}

// slowly is requests that are half done.
type slowly struct {
	t     *testing.T
	c     *s3Client
	group sync.WaitGroup
	rest  []func() // what is left of each, to be called by end
}

// beginSlowly puts and gets a large object by S3, puts a part, puts by the API, and reads a public object
// and one of parts, all up to the middle.
func beginSlowly(t *testing.T, c *s3Client, public *site, large []byte) *slowly {
	t.Helper()
	s := &slowly{t: t, c: c}
	parts := large[:5<<20]
	if _, _, err := c.do("PUT", "/large", large); err != nil {
		t.Fatal(err)
	}
	must(t, c.putParts("pieces", parts, parts, parts[:1000]))
	upload, err := c.upload("slow-parts")
	must(t, err)
	var tag string
	s.put("slow", large, func(body io.Reader) error { return s.send("/slow", body, int64(len(large)), nil) })
	s.put("slow-parts", parts, func(body io.Reader) error {
		if err := s.send(partPath("slow-parts", upload, 1), body, int64(len(parts)), &tag); err != nil {
			return err
		}
		return c.complete("slow-parts", upload, tag)
	})
	s.put("slow-rest", parts, func(body io.Reader) error {
		p := c.node.Load()
		req, err := http.NewRequest("PUT", p.API+"/accounts/"+p.AccountID+"/r2/buckets/"+c.bucket+"/objects/slow-rest", body)
		if err != nil {
			return err
		}
		req.ContentLength = int64(len(parts))
		req.Header.Set("Authorization", "Bearer "+p.token)
		return good(http.DefaultClient.Do(req))
	})
	get := func(key string) (*http.Response, error) { return c.open("GET", "/"+key, nil, 0) }
	s.get("large", large, get)
	s.get("pieces", append(append(bytes.Clone(parts), parts...), parts[:1000]...), get)
	s.get("large", large, func(key string) (*http.Response, error) {
		req, err := http.NewRequest("GET", c.node.Load().HTTP+"/"+key, nil)
		if err != nil {
			return nil, err
		}
		req.Host = public.host
		return http.DefaultTransport.RoundTrip(req)
	})
	return s
}

// send puts a body and returns the ETag.
func (s *slowly) send(path string, body io.Reader, size int64, tag *string) error {
	res, err := s.c.open("PUT", path, body, size)
	if err == nil && tag != nil {
		*tag = res.Header.Get("Etag")
	}
	return good(res, err)
}

func good(res *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", res.StatusCode, text)
	}
	return err
}

// put sends the first half of content; send makes the request of what it reads. The object of that key is
// what is looked at in the end.
func (s *slowly) put(key string, content []byte, send func(body io.Reader) error) {
	body, feed := io.Pipe()
	half := make(chan struct{})
	s.group.Go(func() {
		if err := send(body); err != nil {
			s.t.Errorf("%s, put while the node is replaced: %v", key, err)
			body.CloseWithError(err)
			return
		}
		if err := s.c.has(key, content); err != nil {
			s.t.Errorf("put while the node was replaced: %v", err)
		}
	})
	rest := make(chan struct{})
	s.group.Go(func() {
		feed.Write(content[:len(content)/2])
		close(half)
		<-rest
		feed.Write(content[len(content)/2:])
		feed.Close()
	})
	<-half
	s.rest = append(s.rest, func() { close(rest) })
}

// get reads the first half of what has to be content.
func (s *slowly) get(key string, content []byte, open func(key string) (*http.Response, error)) {
	s.t.Helper()
	res, err := open(key)
	must(s.t, err)
	got := sha256.New()
	if _, err := io.CopyN(got, res.Body, int64(len(content)/2)); err != nil || res.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: status %d, %v", key, res.StatusCode, err)
	}
	s.rest = append(s.rest, func() {
		defer res.Body.Close()
		_, err := io.Copy(got, res.Body)
		if want := sha256.Sum256(content); err != nil || !bytes.Equal(got.Sum(nil), want[:]) {
			s.t.Errorf("%s, read while the node was replaced, is not what was there: %v", key, err)
		}
	})
}

// end deletes what is being read, and has all go on to their ends.
func (s *slowly) end() {
	for _, key := range []string{"large", "pieces"} {
		if _, _, err := s.c.with(&http.Transport{}).do("DELETE", "/"+key, nil); err != nil {
			s.t.Errorf("delete what is being read: %v", err)
		}
	}
	for _, rest := range s.rest {
		rest()
	}
	s.group.Wait()
}

// noise returns n bytes.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(rand.Uint32()), byte(rand.Uint32())}).Read(b)
	return b
}
