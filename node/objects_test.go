package node_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// objectsSource returns the tests' Worker, which signs what it answers with version.
func objectsSource(t testing.TB, version string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/objects/objects.js")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(string(data), `"VERSION"`, strconv.Quote(version), 1)
}

const (
	objectsBindings = `"bindings":[{"type":"durable_object_namespace","name":"rows","class_name":"Rows"},{"type":"durable_object_namespace","name":"pairs","class_name":"Pairs"}]`
	objectsCreated  = `"migrations":{"new_tag":"v1","steps":[{"new_sqlite_classes":["Rows"]},{"new_classes":["Pairs"]}]}`
)

// upload deploys a script with the given fields of metadata.
func (p *process) upload(name, source string, fields ...string) error {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part := func(name, media, content string) {
		header := textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf("form-data; name=%q; filename=%q", name, name)}, "Content-Type": {media}}
		f, err := w.CreatePart(header)
		if err == nil {
			_, err = io.WriteString(f, content)
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
	part("metadata", "application/json", "{"+strings.Join(append([]string{`"main_module":"index.js","compatibility_date":"2026-11-01"`}, fields...), ",")+"}")
	part("index.js", "application/javascript+module", source)
	w.Close()
	req, err := http.NewRequest("PUT", p.API+"/accounts/"+p.AccountID+"/workers/scripts/"+name, &b)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	req.Header.Set("Content-Type", w.FormDataContentType())
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("upload %s: status %d: %s", name, res.StatusCode, text)
	}
	return err
}

// site is a Worker that answers on the account's subdomain of a node that may be replaced.
type site struct {
	t      testing.TB
	node   atomic.Pointer[process]
	host   string
	client *http.Client
}

// deployObjects deploys the tests' Worker for the first time and lets it answer on the subdomain.
func deployObjects(t testing.TB, p *process) *site {
	t.Helper()
	if err := p.upload("objects", objectsSource(t, "first"), objectsBindings, objectsCreated); err != nil {
		t.Fatalf("%v\n%s", err, p.log)
	}
	return siteOf(t, p, "objects")
}

// siteOf makes a script answer on the subdomain.
func siteOf(t testing.TB, p *process, script string) *site {
	t.Helper()
	workers := "/accounts/" + p.AccountID + "/workers"
	var sub struct{ Subdomain, Domain string }
	err := errors.Join(p.call("GET", workers+"/subdomain", "", &sub), p.call("POST", workers+"/scripts/"+script+"/subdomain", `{"enabled":true}`, nil))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, host: script + "." + sub.Subdomain + "." + sub.Domain, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 30 * time.Second}}
	s.node.Store(p)
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

// ask sends a POST, which nothing repeats, and returns the answer.
func (s *site) ask(path string) (status int, body string, err error) {
	req, err := http.NewRequest("POST", s.node.Load().HTTP+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = s.host
	res, err := s.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return res.StatusCode, string(data), err
}

// objectAnswer is what the tests' objects say.
type objectAnswer struct {
	N       int
	Life    string
	Version string
	ID      string
	Name    string
	Fired   []struct {
		At      int64
		Version string
		Retry   int
	}
	Closed *struct {
		Code    int
		Clean   bool
		Version string
	}
}

// want asks for what has to be answered.
func (s *site) want(path string) objectAnswer {
	s.t.Helper()
	status, body, err := s.ask(path)
	var a objectAnswer
	if err == nil && status == http.StatusOK {
		err = json.Unmarshal([]byte(body), &a)
	}
	if err != nil || status != http.StatusOK {
		s.t.Fatalf("%s: %d %.300s %v\n%s", path, status, body, err, s.node.Load().log)
	}
	return a
}

// counting is clients that count with objects, by two for each object.
type counting struct {
	site *site
	stop atomic.Bool
	work sync.WaitGroup

	acked atomic.Int64
	mu    sync.Mutex // guards the fields below
	tried map[string]int
	seen  map[string]map[int]bool // numbers that were acknowledged, by object
	last  error                   // that a client met
	fails int
}

var countedObjects = []string{"/rows/add/a", "/rows/add/b", "/pairs/add/a", "/pairs/add/b"}

// count starts the clients.
func count(s *site) *counting {
	c := &counting{site: s, tried: map[string]int{}, seen: map[string]map[int]bool{}}
	for _, path := range countedObjects {
		c.seen[path] = map[int]bool{}
		for range 2 {
			c.work.Go(func() { c.client(path) })
		}
	}
	return c
}

// client counts with one object until it is told to stop, and on after errors.
func (c *counting) client(path string) {
	before := 0
	for !c.stop.Load() {
		c.mu.Lock()
		c.tried[path]++
		c.mu.Unlock()
		status, body, err := c.site.ask(path)
		var a objectAnswer
		if err == nil && status == http.StatusOK {
			err = json.Unmarshal([]byte(body), &a)
		}
		if err != nil || status != http.StatusOK {
			c.failed(path, fmt.Errorf("%d %.200s %w", status, body, errors.Join(err)), status)
			continue
		}
		c.mu.Lock()
		if c.seen[path][a.N] || a.N <= before {
			c.site.t.Errorf("%s: %d was acknowledged twice or after %d", path, a.N, before)
		}
		c.seen[path][a.N] = true
		c.mu.Unlock()
		before = a.N
		c.acked.Add(1)
	}
}

func (c *counting) failed(path string, err error, status int) {
	if status == http.StatusConflict {
		c.site.t.Errorf("%s: two instances lived at once: %v", path, err)
	}
	c.mu.Lock()
	c.last = err
	c.fails++
	c.mu.Unlock()
	time.Sleep(2 * time.Millisecond)
}

// more waits until n more increments were acknowledged.
func (c *counting) more(n int64) {
	c.site.t.Helper()
	for want, deadline := c.acked.Load()+n, time.Now().Add(30*time.Second); c.acked.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.site.t.Fatalf("nothing is counted any more: %v\n%s", c.last, c.site.node.Load().log)
		}
	}
}

// check ends the clients and compares what was acknowledged with what is stored.
func (c *counting) check() {
	c.site.t.Helper()
	c.stop.Store(true)
	c.work.Wait()
	for path, seen := range c.seen {
		final := c.site.want(strings.Replace(path, "/add/", "/get/", 1)).N
		most := slices.Max(slices.Collect(maps.Keys(seen)))
		if most > final || final > c.tried[path] {
			c.site.t.Errorf("%s: %d acknowledged, %d tried, but %d is stored", path, most, c.tried[path], final)
		}
	}
}

// TestObjectsSurviveKills counts under load while the child that runs the objects, and now and then the
// whole node, is killed: 100 times in all.
func TestObjectsSurviveKills(t *testing.T) {
	t.Parallel()
	const kills = 100
	dir := t.TempDir()
	p := up(t, dir)
	s := deployObjects(t, p)
	c := count(s)
	how := map[string]int{}
	for range kills {
		c.more(int64(4 + rand.IntN(12)))
		time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond)
		switch n := rand.IntN(10); {
		case n == 0:
			how["node"]++
			p.stop(syscall.SIGKILL)
			p = up(t, dir)
			s.node.Store(p)
		case n < 4:
			how["by the API"]++
			if err := p.call("POST", "/accounts/"+p.AccountID+"/selvage/workers/scripts/objects/kill", "{}", nil); err != nil {
				t.Fatal(err)
			}
		default:
			how["child"]++
			for _, pid := range objectChildren(t, p) {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	c.more(20)
	c.check()
	t.Logf("%d increments were acknowledged, %d failed, through %d kills: %v", c.acked.Load(), c.fails, kills, how)
}

// objectChildren returns the processes that hold the lock of an account's objects, but for the node itself.
func objectChildren(t testing.TB, p *process) (pids []int) {
	t.Helper()
	lock := filepath.Join(p.dir, "objects", p.AccountID+".lock")
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != lock {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil && pid != p.PID {
			pids = append(pids, pid)
		}
	}
	return pids
}
