package node_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"selvage/engine/state"
	"selvage/engine/state/powercut"
	"selvage/product/kv"
	"selvage/product/kv/store"
)

// keeper puts and gets values of a size that the query names: the key over and over.
const keeper = `export default { async fetch(request, env) {
	const url = new URL(request.url), key = decodeURIComponent(url.pathname.slice(1)), size = Number(url.searchParams.get("size"));
	if (request.method === "GET") return new Response(await env.KV.get(key, "stream"), { status: 200 });
	if (request.method === "DELETE") { await env.KV.delete(key); return new Response("ok"); }
	try { await env.KV.put(key, key.repeat(size / key.length + 1).slice(0, size), { metadata: { size } }); } catch (e) { return new Response(e.message, { status: 500 }); }
	return new Response("ok");
} }`

// kept returns the value that keeper puts.
func kept(key string, size int) string { return strings.Repeat(key, size/len(key)+1)[:size] }

// kvSizes are those of values that lie beside their metadata, apart and in files.
var kvSizes = []int{30, 3000, 90_000}

// kvRounds is how often the writers are stopped; the long run is for nights: KV_ROUNDS=100.
func kvRounds(usual int) int {
	if n, err := strconv.Atoi(os.Getenv("KV_ROUNDS")); err == nil {
		return n
	}
	return usual
}

// TestKVSurvivesKills kills a node with SIGKILL while clients put and delete through binding and API.
func TestKVSurvivesKills(t *testing.T) {
	powercut.Kill(t, powercut.Plan{Rounds: kvRounds(3), Writing: 300 * time.Millisecond, Verify: kvKept,
		Writer: func(dir string, round int, ack func(string)) error { return putUntilCut(t, dir, round, ack) }})
}

// TestKVSurvivesPowerCuts does so on a disk whose power is cut.
func TestKVSurvivesPowerCuts(t *testing.T) {
	powercut.Cut(t, powercut.Plan{Rounds: kvRounds(3), Writing: 300 * time.Millisecond, Verify: kvKept,
		Writer: func(dir string, round int, ack func(string)) error { return putUntilCut(t, dir, round, ack) }})
}

// hideRole keeps the node from taking the test's variables for settings of its own.
func hideRole() {
	for _, line := range os.Environ() {
		if name, _, _ := strings.Cut(line, "="); strings.HasPrefix(name, "SELVAGE_POWERCUT") {
			os.Unsetenv(name)
		}
	}
}

// upUntilCut starts a node that ends with this process.
func upUntilCut(t *testing.T, dir string) (*process, error) {
	hideRole()
	p := &process{t: t, dir: filepath.Join(dir, "data"), log: &logBuffer{}, ended: make(chan error, 1)}
	os.Remove(filepath.Join(p.dir, "node.json"))
	p.cmd = exec.Command(program, append([]string{"up", "--data", p.dir, "--cache-disk", "0", "--access-log", "off"}, freePorts...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.ended <- p.cmd.Wait() }()
	p.awaitReady(0)
	return p, nil
}

// namespaceOf returns the ID of the node's namespace, which it makes if need be.
func namespaceOf(t testing.TB, p *process) string {
	t.Helper()
	var all []struct{ ID string }
	base := "/accounts/" + p.AccountID + "/storage/kv/namespaces"
	must(t, p.call("GET", base, "", &all))
	if len(all) > 0 {
		return all[0].ID
	}
	var made struct{ ID string }
	must(t, p.call("POST", base, `{"title":"kept"}`, &made))
	return made.ID
}

func deployKeeper(t testing.TB, p *process, namespace string) *site {
	t.Helper()
	return p.deploy("keeper", script{source: keeper, meta: fmt.Sprintf(`"bindings":[{"type":"kv_namespace","name":"KV","namespace_id":%q}]`, namespace)})
}

// putUntilCut runs a node on dir and has some clients put and delete keys of their own until a request
// fails. It acknowledges each as "account namespace key size", with the size -1 for a deletion.
func putUntilCut(t *testing.T, dir string, round int, ack func(string)) error {
	p, err := upUntilCut(t, dir)
	if err != nil {
		return err
	}
	namespace := namespaceOf(t, p)
	var s *site
	if round == 0 {
		s = deployKeeper(t, p, namespace)
	} else {
		s = siteOf(t, p, "keeper")
	}
	var mu sync.Mutex // held while acknowledging
	var work sync.WaitGroup
	for client := range 6 {
		work.Go(func() {
			for i := 0; ; i++ {
				key, size, method := fmt.Sprintf("k%d-%d", client, i%20), kvSizes[(i+i/20)%3], "PUT"
				if i%7 == 6 {
					method, size = "DELETE", -1
				}
				// What a request that nobody answers did is not known: the key is told of first.
				mu.Lock()
				ack(fmt.Sprintf("%s %s %s %d begun", p.AccountID, namespace, key, size))
				mu.Unlock()
				if client%2 == 0 {
					a, err := s.do(method, fmt.Sprintf("/%s?size=%d", key, size), nil)
					if err != nil || a.status != 200 {
						return
					}
				} else if err := p.putKey(method, namespace, key, size); err != nil {
					return
				}
				mu.Lock()
				ack(fmt.Sprintf("%s %s %s %d", p.AccountID, namespace, key, size))
				mu.Unlock()
			}
		})
	}
	work.Wait()
	return fmt.Errorf("nothing can be put any more:\n%s", p.log)
}

// putKey puts or deletes a key by the API.
func (p *process) putKey(method, namespace, key string, size int) error {
	var body io.Reader
	if size >= 0 {
		body = strings.NewReader(kept(key, size))
	}
	req, err := http.NewRequest(method, p.API+"/accounts/"+p.AccountID+"/storage/kv/namespaces/"+namespace+"/values/"+key, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != 200 {
		err = fmt.Errorf("%d %s", res.StatusCode, text)
	}
	return err
}

// kvKept reads what is stored: each key as it was acknowledged last, or as a request that was under way
// then would have made it, and counts that are exact.
func kvKept(dir string, acked []string) error {
	last, begun := map[string]int{}, map[string][]int{}
	var account, namespace string
	for _, name := range acked {
		f := strings.Fields(name)
		size, _ := strconv.Atoi(f[3])
		account, namespace = f[0], f[1]
		if len(f) == 5 {
			begun[f[2]] = append(begun[f[2]], size)
			continue
		}
		last[f[2]], begun[f[2]] = size, nil
	}
	if account == "" {
		return nil
	}
	db := state.NewShared(filepath.Join(dir, "data", "data"), state.Options{})
	if err := db.Open(); err != nil {
		return err
	}
	defer db.Close("verified")
	s, err := store.New(store.Options{DB: db, Prefix: kv.Prefix, Dir: filepath.Join(dir, "data", "kv")})
	if err != nil {
		return err
	}
	sp, err := store.SpaceOf(account, namespace)
	if err != nil {
		return err
	}
	var keys, bytes int64
	for key := range begun {
		e, value, err := readKept(s, sp, key)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		got := -1
		if e != nil {
			got, keys, bytes = len(value), keys+1, bytes+int64(len(key)+len(value)+len(e.Metadata))
			if value != kept(key, got) {
				return fmt.Errorf("%s has %d bytes of something else", key, got)
			}
		}
		want, was := last[key]
		ok := was && got == want || !was && got == -1
		for _, size := range begun[key] {
			ok = ok || got == size
		}
		if !ok {
			return fmt.Errorf("%s has %d bytes, acknowledged were %d, under way %v", key, got, want, begun[key])
		}
	}
	if u, err := s.AccountUsage(account); err != nil || u != (store.Usage{Keys: keys, Bytes: bytes}) {
		return fmt.Errorf("counted are %+v, stored %d keys and %d bytes: %w", u, keys, bytes, err)
	}
	return nil
}

func readKept(s *store.Store, sp store.Space, key string) (*store.Entry, string, error) {
	e, body, err := s.Open(context.Background(), sp, key)
	if e == nil || err != nil {
		return nil, "", err
	}
	if body == nil {
		return e, string(e.Data), nil
	}
	defer body.Close()
	value, err := io.ReadAll(body)
	return e, string(value), err
}
