package node_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// says is a Worker that answers with a text after a short wait, so that requests are always under way.
func says(text string) script {
	return script{source: fmt.Sprintf(`export default { async fetch() { await scheduler.wait(2); return new Response(%q); } };`, text)}
}

// asking is clients that ask a site all the time.
type asking struct {
	site *site
	stop atomic.Bool
	work sync.WaitGroup
	n    atomic.Int64

	mu      sync.Mutex // guards the fields below
	allowed map[string]bool
	seen    map[string]int
	bad     []string
}

// askAll starts clients, each with connections of its own that are kept.
func askAll(s *site, clients int, allowed ...string) *asking {
	a := &asking{site: s, allowed: map[string]bool{}, seen: map[string]int{}}
	a.allow(allowed...)
	for range clients {
		a.work.Go(func() {
			for !a.stop.Load() {
				got, err := s.do("GET", "/", nil)
				a.n.Add(1)
				a.mu.Lock()
				if a.seen[got.body]++; err != nil || got.status != 200 || !a.allowed[got.body] {
					a.bad = append(a.bad, fmt.Sprintf("%d %.300q %v", got.status, got.body, err))
				}
				a.mu.Unlock()
			}
		})
	}
	return a
}

func (a *asking) allow(versions ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range versions {
		a.allowed[v] = true
	}
}

// more waits for n more answers.
func (a *asking) more(n int64) {
	a.site.t.Helper()
	for want, deadline := a.n.Load()+n, time.Now().Add(30*time.Second); a.n.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			a.site.t.Fatalf("no answers any more\n%s", a.site.node.Load().log)
		}
	}
}

// end stops the clients, none of which may have met an error.
func (a *asking) end() map[string]int {
	a.site.t.Helper()
	a.stop.Store(true)
	a.work.Wait()
	if len(a.bad) > 0 {
		a.site.t.Errorf("%d of %d requests failed, first with %s\n%s", len(a.bad), a.n.Load(), a.bad[0], a.site.node.Load().log)
	}
	return a.seen
}

// TestDeploysUnderLoad deploys 50 times while eight clients ask: no request fails, and each deploy
// is in force when the API has answered. Then versions share the requests, and the first comes back.
func TestDeploysUnderLoad(t *testing.T) {
	t.Parallel()
	const deploys = 50
	p := up(t, t.TempDir())
	s := p.deploy("busy", says("v0"))
	a := askAll(s, 8, "v0")
	for i := 1; i <= deploys; i++ {
		version := fmt.Sprint("v", i)
		a.allow(version)
		if e, err := p.send("PUT", p.AccountID, "busy", says(version)); err != nil || len(e.Messages) > 0 {
			t.Fatalf("deploy %d: %v %v", i, e.Messages, err)
		}
		s.expect("/", 200, version)
		a.more(8)
	}
	versions := p.versionsOf(t, "busy")
	first, last := versions[len(versions)-1], versions[0]
	p.share(t, "busy", first, last)
	a.more(60)
	s.expect("/", 200, "v0", "Cloudflare-Workers-Version-Overrides", fmt.Sprintf("busy=%q", first))
	s.expect("/", 200, "v50", "Cloudflare-Workers-Version-Overrides", fmt.Sprintf("busy=%q", last))
	both := map[string]bool{}
	for i := range 20 {
		key := fmt.Sprint("user-", i)
		body := s.get("/", "Cloudflare-Workers-Version-Key", key).body
		both[body] = true
		s.expect("/", 200, body, "Cloudflare-Workers-Version-Key", key)
	}
	if len(both) != 2 {
		t.Errorf("keys lead to %v, not to both versions", both)
	}
	p.share(t, "busy", first)
	for range 5 {
		s.expect("/", 200, "v0")
	}
	seen := a.end()
	if seen["v0"] == 0 || seen["v50"] == 0 {
		t.Errorf("the shared deployment was answered by %v", seen)
	}
	t.Logf("%d requests through %d deploys", a.n.Load(), deploys+3)
}

// versionsOf returns the IDs of a script's versions, newest first.
func (p *process) versionsOf(t testing.TB, name string) (ids []string) {
	t.Helper()
	var all struct{ Items []struct{ ID string } }
	if err := p.call("GET", "/accounts/"+p.AccountID+"/workers/scripts/"+name+"/versions?per_page=100", "", &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range all.Items {
		ids = append(ids, v.ID)
	}
	return ids
}

// share deploys versions in equal parts.
func (p *process) share(t testing.TB, name string, versions ...string) {
	t.Helper()
	type part struct {
		ID         string  `json:"version_id"`
		Percentage float64 `json:"percentage"`
	}
	var parts []part
	for _, v := range versions {
		parts = append(parts, part{v, 100 / float64(len(versions))})
	}
	body, err := json.Marshal(map[string]any{"strategy": "percentage", "versions": parts})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.call("POST", "/accounts/"+p.AccountID+"/workers/scripts/"+name+"/deployments", string(body), nil); err != nil {
		t.Fatal(err)
	}
}

// TestDeploysSurviveKills kills the node at moments of a deploy. What serves after the start is the
// version before or the one after, the children of the killed node are gone, and so is at the end
// everything that it had made outside its data.
func TestDeploysSurviveKills(t *testing.T) {
	t.Parallel()
	const rounds = 10
	dir := t.TempDir()
	p := up(t, dir)
	s := p.deploy("steady", says("v0"))
	s.expect("/", 200, "v0")
	newest, children := "v0", map[child]bool{}
	for i := 1; i <= rounds; i++ {
		s.expect("/", 200, newest)
		for _, c := range childrenOf(t, p.PID) {
			children[c] = true
		}
		next, done := fmt.Sprint("v", i), make(chan error, 1)
		go func() {
			_, err := p.send("PUT", p.AccountID, "steady", says(next))
			done <- err
		}()
		time.Sleep(time.Duration(i*i) * 3 * time.Millisecond) // from before the upload is read to after its answer
		p.stop(syscall.SIGKILL)
		acknowledged := <-done == nil
		p = up(t, dir)
		s.node.Store(p)
		a := s.get("/")
		if a.status != 200 || a.body != next && (acknowledged || a.body != newest) {
			t.Errorf("round %d (acknowledged: %v): %d %.300q; before it was %q", i, acknowledged, a.status, a.body, newest)
		}
		newest = a.body
	}
	for _, c := range childrenOf(t, p.PID) {
		children[c] = true
	}
	if len(children) < rounds {
		t.Errorf("%d nodes had only %d children", rounds+1, len(children))
	}
	if err := p.stop(syscall.SIGTERM); err != nil {
		t.Errorf("the node ended with %v", err)
	}
	for c := range children {
		if c.began != "" && c.began == beganAt(c.pid) {
			t.Errorf("child %d outlived its node", c.pid)
		}
	}
	sum := sha256.Sum256([]byte(dir))
	for _, base := range []string{"/run", os.TempDir()} {
		if left, err := filepath.Glob(filepath.Join(base, "selvage-"+hex.EncodeToString(sum[:4]))); err != nil || len(left) > 0 {
			t.Errorf("the node left %v %v", left, err)
		}
	}
}

// child is a process below a node. IDs are used again, the time of its begin tells it apart.
type child struct {
	pid   int
	began string
}

// childrenOf returns the processes below another one.
func childrenOf(t testing.TB, parent int) (found []child) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	parents := map[int]int{}
	for _, path := range stats {
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if f := statFields(pid); err == nil && len(f) > 1 {
			parents[pid], _ = strconv.Atoi(f[1])
		}
	}
	for pid := range parents {
		for above := parents[pid]; above > 1; above = parents[above] {
			if above == parent {
				found = append(found, child{pid, beganAt(pid)})
				break
			}
		}
	}
	return found
}

// statFields returns the fields of /proc/PID/stat from the state on.
func statFields(pid int) []string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
}

// beganAt returns when a process began, or nothing if there is none.
func beganAt(pid int) string {
	f := statFields(pid)
	if len(f) < 20 || f[0] == "Z" {
		return ""
	}
	return f[19]
}
