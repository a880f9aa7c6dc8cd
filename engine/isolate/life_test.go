package isolate_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"selvage/engine/isolate"
	"selvage/engine/isolate/sandbox"
)

// counter is a unit with objects that answers its version and how often it was asked.
func (h *house) counter(version string) isolate.Unit {
	u := h.module("o", `
import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject {
  async fetch(r) { const n = (await this.ctx.storage.get("n") ?? 0) + 1; await this.ctx.storage.put("n", n); return new Response("`+version+` " + n); }
}
export default { fetch(r, env) { return env.DO.get(env.DO.idFromName("a")).fetch(r); } }`)
	u.Objects = filepath.Join(h.dir, "objects")
	u.Programs[0].Classes = []isolate.Class{{Name: "Counter", Namespace: strings.Repeat("ab", 16), SQLite: true}}
	u.Programs[0].Bindings = []isolate.Binding{{Name: "DO", Kind: isolate.Objects, Program: "main", Class: "Counter"}}
	return u
}

func TestExclusiveUnitIsReplacedUnderLoad(t *testing.T) {
	h := start(t, nil)
	h.Set(h.counter("v0"))
	const workers, each, versions = 8, 25, 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	for range workers {
		wg.Go(func() {
			for range each {
				status, body, err := h.ask("o", request("GET", "/", ""))
				if err != nil || status != 200 {
					t.Errorf("got %d %q %v", status, body, err)
					continue
				}
				_, n, _ := strings.Cut(body, " ")
				mu.Lock()
				if seen[n] {
					t.Errorf("two requests counted %s: two children lived at once", n)
				}
				seen[n] = true
				mu.Unlock()
			}
		})
	}
	for v := 1; v <= versions; v++ {
		h.Set(h.counter("v" + strconv.Itoa(v)))
		if err := h.Start(t.Context(), "o"); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	// The last request may still have been answered by the child before.
	status, body, err := h.ask("o", request("GET", "/", ""))
	if want := fmt.Sprintf("v%d ", versions); err != nil || status != 200 || !strings.HasPrefix(body, want) {
		t.Errorf("after all: %d %q %v, want %q", status, body, err, want)
	}
	if len(seen) != workers*each {
		t.Errorf("%d numbers, want %d", len(seen), workers*each)
	}
}

func TestContentThatDoesNotStartLeavesTheOld(t *testing.T) {
	failed := make(chan string, 10)
	h := start(t, func(o *isolate.Options) {
		o.Failed = func(u *isolate.Unit, why *isolate.Stopped) { failed <- why.Detail }
	})
	for _, kind := range []string{"stateless", "exclusive"} {
		good := h.module(kind, `export default { fetch() { return new Response("good") } }`)
		bad := h.module(kind, `export default {}; throw new Error("bad")`)
		if kind == "exclusive" {
			good.Objects = filepath.Join(h.dir, "x")
			bad.Objects = good.Objects
		}
		h.Set(good)
		h.want(kind, "/", "good")
		h.Set(bad)
		if detail := <-failed; !strings.Contains(detail, "Error: bad") {
			t.Errorf("%s: reported %q", kind, detail)
		}
		h.want(kind, "/", "good")
	}
}

func TestStatelessUnitIsReplacedBesideTheOld(t *testing.T) {
	h := start(t, nil)
	h.Set(h.module("u", `export default { async fetch(r) { if (r.url.endsWith("slow")) await scheduler.wait(300); return new Response("old") } }`))
	h.want("u", "/", "old")
	var wg sync.WaitGroup
	wg.Go(func() { h.want("u", "/slow", "old") })
	for h.Usage()[0].Running == 0 {
		time.Sleep(time.Millisecond)
	}
	h.Set(h.module("u", `export default { fetch() { return new Response("new") } }`))
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, body, err := h.ask("u", request("GET", "/", ""))
		if err != nil {
			t.Fatal(err)
		}
		if body == "new" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the new content never answered")
		}
	}
	wg.Wait()
}

func TestSleepAndWake(t *testing.T) {
	h := start(t, func(o *isolate.Options) { o.IdleAfter = 100 * time.Millisecond })
	h.Set(h.module("u", `let n = 0; export default { fetch() { return new Response("" + ++n) } }`))
	h.want("u", "/", "1")
	h.asleep("u")
	h.want("u", "/", "1") // another isolate
}

// asleep waits until the unit has no child.
func (h *house) asleep(key string) {
	h.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		for _, u := range h.Usage() {
			if u.Unit == key && u.Children == 0 {
				return
			}
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s does not fall asleep", key)
		}
	}
}

func TestAlarmWakesAUnitThatSleeps(t *testing.T) {
	h := start(t, func(o *isolate.Options) { o.IdleAfter = 200 * time.Millisecond })
	u := h.counter("v1")
	u.Programs[0].Modules[0].Digest = h.put(`
import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject {
  async fetch(r) { if (r.url.endsWith("set")) await this.ctx.storage.setAlarm(Date.now() + 1200); return new Response("" + await this.ctx.storage.get("rang")); }
  async alarm() { await this.ctx.storage.put("rang", "rang"); }
}
export default { fetch(r, env) { return env.DO.get(env.DO.idFromName("a")).fetch(r); } }`)
	h.Set(u)
	h.want("o", "/set", "undefined")
	h.asleep("o")
	for deadline := time.Now().Add(10 * time.Second); h.Usage()[0].Children == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the unit does not wake")
		}
	}
	time.Sleep(300 * time.Millisecond) // it wakes a little before
	h.asleep("o")
	h.want("o", "/", "rang")
}

func TestCrashAtStartBacksOff(t *testing.T) {
	failed := make(chan string, 10)
	h := start(t, func(o *isolate.Options) {
		o.Failed = func(u *isolate.Unit, why *isolate.Stopped) { failed <- why.Detail }
	})
	h.Set(h.module("u", `throw new Error("never")`))
	began, refused := time.Now(), 0
	for len(failed) == 0 {
		if _, _, err := h.ask("u", request("GET", "/", "")); err == nil {
			t.Fatal("it answered")
		}
		refused++
		if time.Since(began) > 20*time.Second {
			t.Fatal("it was not reported")
		}
		time.Sleep(time.Millisecond)
	}
	// Five starts, with pauses of 100, 200, 400 and 800 ms.
	if took := time.Since(began); took < 1500*time.Millisecond {
		t.Errorf("five starts took %v: too hot", took)
	}
	if refused < 100 {
		t.Errorf("only %d requests were refused meanwhile; they should not wait", refused)
	}
}

func TestCrashIsNotForEver(t *testing.T) {
	h := start(t, nil)
	h.Set(h.module("u", `export default { fetch(r) { return new Response("fine") } }`))
	h.want("u", "/", "fine")
	h.Kill("u", "a test")
	h.want("u", "/", "fine")
	if u := h.Usage()[0]; u.Kills != 1 || u.Requests != 2 {
		t.Errorf("usage %+v", u)
	}
}

func TestStreamingBothWays(t *testing.T) {
	h := start(t, nil)
	h.Set(h.module("u", `export default { fetch(r) { return new Response(r.body) } }`))
	in, out := io.Pipe()
	r := request("POST", "/", "")
	r.Body, r.Length = in, -1
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go out.Write([]byte("first"))
	resp, err := h.Fetch(ctx, isolate.Address{Unit: "u", Program: "main"}, r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 5)
	for _, want := range []string{"first", "again", "third"} {
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != want {
			t.Fatalf("read %q %v, want %q", buf, err, want)
		}
		if want == "first" {
			go out.Write([]byte("again"))
		} else if want == "again" {
			go func() { out.Write([]byte("third")); out.Close() }()
		}
	}
	if n, err := resp.Body.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d %v", n, err)
	}
}

func TestOrphansAreEnded(t *testing.T) {
	dir, err := os.MkdirTemp("", "iso")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	// What a killed node leaves: a directory that nobody locks, and in it a process and its ID.
	orphan := exec.Command("sleep", "1000")
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", orphan.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	began := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))[19]
	left := filepath.Join(dir, "r", "n0", "c1")
	os.MkdirAll(left, 0o755)
	os.WriteFile(left+".pid", fmt.Appendf(nil, "%d %s", orphan.Process.Pid, began), 0o600)
	innocent := filepath.Join(dir, "r", "n0", "c2")
	os.MkdirAll(innocent, 0o755)
	os.WriteFile(innocent+".pid", fmt.Appendf(nil, "%d 12345", os.Getpid()), 0o600)
	start(t, func(o *isolate.Options) { o.RunDir = filepath.Join(dir, "r") })
	var exit *exec.ExitError
	if err := orphan.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the orphan ended with %v", err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("its directory is still there")
	}
}

func TestEvents(t *testing.T) {
	h := start(t, nil)
	h.Set(h.module("u", `let last; export default {
		fetch() { return new Response(last) },
		scheduled(c) { last = c.cron + " " + c.scheduledTime; if (c.cron === "throw") throw new Error("x"); if (c.cron === "never") c.noRetry(); },
		queue(b) { last = b.queue + " " + JSON.stringify(b.messages.map(m => [m.id, m.body, m.attempts])); b.messages[0].ack(); b.messages[1].retry({delaySeconds: 7}); },
		tail(events) { last = JSON.stringify(events); },
	}`))
	at := isolate.Address{Unit: "u", Program: "main"}
	for _, c := range []struct {
		event isolate.Event
		want  isolate.Outcome
		last  string
	}{
		{isolate.Event{Scheduled: &isolate.Scheduled{Cron: "* * * * *", Time: time.UnixMilli(1000)}}, isolate.Outcome{Outcome: "ok"}, "* * * * * 1000"},
		{isolate.Event{Scheduled: &isolate.Scheduled{Cron: "throw", Time: time.UnixMilli(1)}}, isolate.Outcome{Outcome: "exception"}, "throw 1"},
		{isolate.Event{Scheduled: &isolate.Scheduled{Cron: "never", Time: time.UnixMilli(2)}}, isolate.Outcome{Outcome: "ok", NoRetry: true}, "never 2"},
		{isolate.Event{Queue: &isolate.QueueBatch{Queue: "q", Messages: []isolate.QueueMessage{
			{ID: "m1", Timestamp: time.UnixMilli(1), ContentType: "json", Body: []byte(`{"a":1}`), Attempts: 1}, {ID: "m2", Timestamp: time.UnixMilli(2), ContentType: "text", Body: []byte("tüxt"), Attempts: 2}}}},
			isolate.Outcome{Outcome: "ok"}, `q [["m1",{"a":1},1],["m2","tüxt",2]]`},
		{isolate.Event{Traces: []byte(`[{"outcome":"ok"}]`)}, isolate.Outcome{Outcome: "ok"}, `[{"outcome":"ok"}]`},
	} {
		got, err := h.Dispatch(t.Context(), at, c.event)
		if queue := got.Queue; queue != nil && !strings.Contains(string(queue), `"retryMessages":[{"msgId":"m2","delaySeconds":7}]`) {
			t.Errorf("queue outcome %s", queue)
		}
		got.Queue = nil
		if err != nil || got.Outcome != c.want.Outcome || got.NoRetry != c.want.NoRetry {
			t.Errorf("Dispatch() = %+v %v, want %+v", got, err, c.want)
		}
	}
}

func TestInspect(t *testing.T) {
	h := start(t, nil)
	u := h.module("u", `
import { WorkerEntrypoint, DurableObject, WorkflowEntrypoint, env } from "cloudflare:workers";
if (env.T !== "x") throw new Error("no env");
export class Api extends WorkerEntrypoint { fetch() {} add() {} }
export class Room extends DurableObject { fetch() {} alarm() {} }
export class Flow extends WorkflowEntrypoint { run() {} }
export const helper = {};
export default class extends WorkerEntrypoint { fetch() {} scheduled() {} }`)
	p := u.Programs[0]
	p.Bindings = []isolate.Binding{{Name: "T", Kind: isolate.Text, Text: "x"}, {Name: "S", Kind: isolate.KV, Service: "kv"}, {Name: "D", Kind: isolate.Objects, Program: "other", Class: "X"}}
	got, err := h.Inspect(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(got.Handlers, got.Named)
	for _, want := range []string{"[fetch scheduled]", "{Api entrypoint [fetch]}", "{Flow workflow [run]}", "{Room object [fetch alarm]}", "{helper other []}"} {
		if !strings.Contains(text, want) {
			t.Errorf("Inspect() = %s, want %s in it", text, want)
		}
	}
	for _, c := range []struct{ name, code, want string }{
		{"syntax", "export default {}\n let a b", "Uncaught SyntaxError: Unexpected identifier 'b'\n  at main.js:2:"},
		{"loop", "for (;;);", "Script startup exceeded CPU time limit."},
		{"import", `import "./nope.js"; export default {}`, `No such module "nope.js"`},
		{"default", "export default null", "Incorrect type for map entry 'default'"},
	} {
		p := h.module("u", c.code).Programs[0]
		_, err := h.Inspect(t.Context(), p)
		var stopped *isolate.Stopped
		if !errors.As(err, &stopped) || stopped.Reason != isolate.ReasonStart || !strings.Contains(stopped.Detail, c.want) {
			t.Errorf("%s: Inspect() = %v, want %q", c.name, err, c.want)
		}
	}
	p = h.module("u", `export default { fetch() {} }`).Programs[0]
	p.CompatibilityFlags = []string{"service_binding_extra_handlers"}
	if _, err := h.Inspect(t.Context(), p); err == nil || !strings.Contains(err.Error(), "experimental") {
		t.Errorf("an experimental flag: %v, want a refusal", err)
	}
	p = h.module("u", `addEventListener("fetch", e => e.respondWith(new Response("x"))); addEventListener("scheduled", () => {});`).Programs[0]
	p.ServiceWorker, p.CompatibilityDate = true, "2023-01-01"
	if got, err := h.Inspect(t.Context(), p); err != nil || fmt.Sprint(got.Handlers) != "[fetch scheduled]" {
		t.Errorf("a service worker: %v %v", got, err)
	}
	p = h.module("u", `let x; throw new Error("at 12")`).Programs[0]
	p.ServiceWorker, p.CompatibilityDate = true, "2023-01-01"
	if _, err := h.Inspect(t.Context(), p); err == nil || !strings.Contains(err.Error(), ":1:14") {
		t.Errorf("a service worker that throws: %v, want :1:14", err)
	}
}

// beKilled is a node that starts children in dir, says so and waits for its end.
func beKilled(dir string) {
	path, err := isolate.FindRuntime(os.Environ())
	if err != nil {
		panic(err)
	}
	var s shelf
	o := isolate.Options{Runtime: path, RunDir: filepath.Join(dir, "r"), Code: s.get}
	if os.Getenv("SELVAGE_TEST_WALLS") != "" {
		o.Walls = sandbox.Probe(context.Background())
	}
	host, err := isolate.New(o)
	if err != nil {
		panic(err)
	}
	h := &house{Host: host, dir: dir}
	for _, u := range []isolate.Unit{h.module("u", `export default { fetch() { for (;;); } }`), h.counter("v1")} {
		for _, code := range h.code {
			s.put(string(code))
		}
		host.Set(u)
		if err := host.Start(context.Background(), u.Key); err != nil {
			panic(err)
		}
	}
	go host.Fetch(context.Background(), isolate.Address{Unit: "u", Program: "main"}, request("GET", "/", ""))
	fmt.Println("ready")
	select {}
}

func TestChildrenDieWithTheNode(t *testing.T) {
	for _, walls := range []string{"", "yes"} {
		dir, err := os.MkdirTemp("", "iso")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		node := exec.Command("/proc/self/exe")
		node.Env = append(os.Environ(), "SELVAGE_TEST_NODE="+dir, "SELVAGE_TEST_WALLS="+walls)
		node.Stderr = os.Stderr
		out, err := node.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := node.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("ready"))); err != nil {
			t.Fatal(err)
		}
		notes, _ := filepath.Glob(filepath.Join(dir, "r", "n*", "c*.pid"))
		if len(notes) < 2 {
			t.Fatalf("children: %v, want two", notes)
		}
		var pids []int
		for _, n := range notes {
			b, _ := os.ReadFile(n)
			pid, _ := strconv.Atoi(strings.Fields(string(b))[0])
			pids = append(pids, pid)
		}
		node.Process.Kill()
		node.Wait()
		for _, pid := range pids {
			for deadline := time.Now().Add(5 * time.Second); syscall.Kill(pid, 0) == nil && !zombie(pid); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					syscall.Kill(pid, syscall.SIGKILL)
					t.Errorf("walls %q: child %d outlives its node", walls, pid)
				}
			}
		}
		// The objects are free for the next.
		h := start(t, nil)
		h.dir = dir
		h.Set(h.counter("v2"))
		h.want("o", "/", "v2 1")
	}
}

// zombie tells whether a process has ended, though nobody has asked for its fate.
func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// A child that has grown makes room for a new one before it is ended, and finishes what it had begun.
func TestGrownChildIsRenewed(t *testing.T) {
	h := start(t, nil)
	script := `const kept = [];
export default { async fetch(request) {
  const { pathname } = new URL(request.url);
  if (pathname === "/grow") kept.push(new Uint8Array(10 << 20).fill(1));
  if (pathname === "/wait") await request.text();
  return new Response(String(kept.length));
} }`
	h.Set(h.module("u", script))
	h.want("u", "/", "0")
	h.Set(h.module("u", script)) // the same again, as with every change of configuration
	body, end := io.Pipe()
	slow := request("POST", "/wait", "")
	slow.Body, slow.Length = body, -1
	begun := make(chan string, 1)
	go func() {
		_, answer, err := h.ask("u", slow)
		begun <- fmt.Sprint(answer, err)
	}()
	if _, err := end.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	// So many keep more than a child should have, and less than it may.
	grown, target := 0, "/grow"
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, answer, err := h.ask("u", request("GET", target, ""))
		n, _ := strconv.Atoi(answer)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the child keeps %d, and was not renewed: %v", grown, err)
		}
		if n < grown {
			break
		}
		if grown = n; grown == 35 {
			target = "/"
			time.Sleep(20 * time.Millisecond)
		}
	}
	end.Close()
	if got, want := <-begun, fmt.Sprint(strconv.Itoa(grown), nil); got != want {
		t.Errorf("what had been begun ended with %q, want %q", got, want)
	}
	if n := h.Usage()[0].Kills; n != 0 {
		t.Errorf("%d kills, want none", n)
	}
}
