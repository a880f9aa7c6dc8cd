package config_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"selvage/engine/isolate"
	"selvage/engine/isolate/config"
)

func worker(date, code string) *config.Worker {
	return &config.Worker{
		Modules:           []config.Module{{Name: "main.js", Type: config.ESModule, Body: []byte(code)}},
		CompatibilityDate: date,
	}
}

// serve runs workerd with c until the test ends and waits until it listens at each socket.
func serve(t *testing.T, c *config.Config) {
	t.Helper()
	runtime, err := isolate.FindRuntime(os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(runtime, "serve", "--binary", "--experimental", "--control-fd=3", "-")
	cmd.Stdin = bytes.NewReader(c.Encode())
	var stderr bytes.Buffer
	cmd.Stderr, cmd.Stdout = &stderr, io.Discard
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	r.SetReadDeadline(time.Now().Add(20 * time.Second))
	lines := bufio.NewScanner(r)
	for range c.Sockets {
		if !lines.Scan() {
			cmd.Process.Kill()
			cmd.Wait()
			t.Fatalf("workerd did not start: %s", stderr.String())
		}
	}
}

func get(t *testing.T, socket, url string) (string, http.Header) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body), resp.Header
}

const everyModule = `
import text from "a.txt"; import data from "b.bin"; import wasm from "c.wasm"; import obj from "d.json"; import cjs from "e.cjs";
import { helper } from "lib/helper.js";
export default { async fetch() {
  return new Response([text, new Uint8Array(data).join("."), wasm instanceof WebAssembly.Module, obj.k, cjs.v, helper()].join(","));
} }
export const Named = { async fetch(r, env, ctx) { return new Response("named " + JSON.stringify(ctx.props)); } }
`

func TestModulesEntrypointsAndScripts(t *testing.T) {
	dir := t.TempDir()
	main := &config.Worker{CompatibilityDate: "2026-01-01", CompatibilityFlags: []string{"nodejs_compat"}, Modules: []config.Module{
		{Name: "main.js", Type: config.ESModule, Body: []byte(everyModule)},
		{Name: "a.txt", Type: config.Text, Body: []byte("täxt")},
		{Name: "b.bin", Type: config.Data, Body: []byte{1, 2, 3}},
		{Name: "c.wasm", Type: config.Wasm, Body: []byte("\x00asm\x01\x00\x00\x00")},
		{Name: "d.json", Type: config.JSON, Body: []byte(`{"k":"json"}`)},
		{Name: "e.cjs", Type: config.CommonJS, Body: []byte(`module.exports = {v: "cjs"}`)},
		{Name: "lib/helper.js", Type: config.ESModule, Body: []byte(`export const helper = () => "lib"`)},
		{Name: "empty.txt", Type: config.Text},
	}}
	script := &config.Worker{CompatibilityDate: "2023-01-01", Script: []byte(`addEventListener("fetch", e => e.respondWith(new Response("script " + NAME)))`),
		Bindings: []config.Binding{{Name: "NAME", Type: config.BindText, Text: "old"}}}
	socket := func(name, service, entry, props string) config.Socket {
		return config.Socket{Name: name, Address: "unix:" + filepath.Join(dir, name), Service: config.Designator{Name: service, Entrypoint: entry, Props: props},
			HTTP: config.HTTP{InjectResponse: []config.Header{{Name: "x-mark", Value: "1"}}}}
	}
	serve(t, &config.Config{
		Services: []config.Service{{Name: "m", Worker: main}, {Name: "s", Worker: script}, {Name: "internet", Network: &config.Network{}}},
		Sockets:  []config.Socket{socket("a", "m", "", ""), socket("b", "m", "Named", `{"p":1}`), socket("c", "s", "", "")},
		V8Flags:  []string{"--max-heap-size=128"},
	})
	for name, want := range map[string]string{"a": "täxt,1.2.3,true,json,cjs,lib", "b": `named {"p":1}`, "c": "script old"} {
		got, header := get(t, filepath.Join(dir, name), "http://h/")
		if got != want || header.Get("X-Mark") != "1" {
			t.Errorf("socket %s: %q, mark %q; want %q and a mark", name, got, header.Get("X-Mark"), want)
		}
	}
}

const everyBinding = `
import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject { async fetch() { let n = (await this.ctx.storage.get("n") ?? 0) + 1; await this.ctx.storage.put("n", n); return new Response("" + n + this.ctx.storage.sql.exec("select 7 as x").one().x); } }
export default { async fetch(request, env, ctx) {
  const out = [env.TEXT, env.JSON.a, new Uint8Array(env.DATA).join(".")];
  const sig = await crypto.subtle.sign("HMAC", env.KEY, new Uint8Array([1]));
  out.push(sig.byteLength, env.KEY.extractable);
  out.push(await (await env.SVC.fetch("http://h/x", {cf: {a: 1}})).text());
  out.push(await env.KV.get("k"));
  out.push(typeof env.R2.get, typeof env.QUEUE.send, typeof env.AE.writeDataPoint, await env.WRAPPED.hi());
  out.push(await (await env.DO.get(env.DO.idFromName("a")).fetch("http://do/")).text());
  await caches.default.put("http://h/c", new Response("x", {headers: {"cache-control": "max-age=60"}}));
  out.push((await fetch("https://out.example/p")).headers.get("x-seen"));
  try { await fetch("http://127.0.0.1:1/"); } catch (e) { out.push("refused"); }
  ctx.waitUntil(Promise.resolve());
  return new Response(out.join(","));
} }`

func TestBindings(t *testing.T) {
	dir := t.TempDir()
	node := listen(t, filepath.Join(dir, "node"))
	ext := func() *config.External {
		return &config.External{Address: "unix:" + filepath.Join(dir, "node"), HTTP: config.HTTP{ProtoHeader: "x-proto", CFHeader: "x-cf", RPCHost: "rpc.x"}}
	}
	w := worker("2026-01-01", everyBinding)
	to := func(name string, typ config.BindingType) config.Binding {
		return config.Binding{Name: name, Type: typ, Service: config.Designator{Name: "node"}}
	}
	w.Bindings = []config.Binding{
		{Name: "TEXT", Type: config.BindText, Text: "text"}, {Name: "JSON", Type: config.BindJSON, Text: `{"a":"json"}`}, {Name: "DATA", Type: config.BindData, Data: []byte{4, 5}},
		{Name: "KEY", Type: config.BindKey, Key: &config.Key{Format: config.KeyRaw, Data: make([]byte, 32), Algorithm: `{"name":"HMAC","hash":"SHA-256"}`, Usages: []string{"sign", "verify"}}},
		to("SVC", config.BindService), to("KV", config.BindKV), to("R2", config.BindR2), to("QUEUE", config.BindQueue), to("AE", config.BindAnalytics),
		{Name: "WRAPPED", Type: config.BindWrapped, Module: "selvage:hello", Inner: []config.Binding{{Name: "who", Type: config.BindText, Text: "you"}}},
		{Name: "DO", Type: config.BindObjects, Class: "Counter"},
	}
	w.Outbound, w.Cache = config.Designator{Name: "out"}, config.Designator{Name: "node"}
	w.Namespaces = []config.Namespace{{Class: "Counter", UniqueKey: strings.Repeat("ab", 16), SQL: true}}
	w.Storage = "disk"
	w.Tails = []config.Designator{{Name: "tail", Props: `{"p":"m"}`}}
	tail := worker("2026-01-01", `export default { async tail(events, env, ctx) { await env.OUT.fetch("http://tail/" + ctx.props.p, {method: "POST", body: JSON.stringify(events)}) } }`)
	tail.Bindings = []config.Binding{to("OUT", config.BindService)}
	os.Mkdir(filepath.Join(dir, "disk"), 0o700)
	serve(t, &config.Config{
		Services: []config.Service{{Name: "m", Worker: w}, {Name: "tail", Worker: tail}, {Name: "node", External: ext()}, {Name: "out", External: ext()},
			{Name: "disk", Disk: &config.Disk{Path: filepath.Join(dir, "disk"), Writable: true}}, {Name: "internet", Network: &config.Network{}}},
		Sockets: []config.Socket{{Name: "a", Address: "unix:" + filepath.Join(dir, "a"), Service: config.Designator{Name: "m"}}},
		Modules: []config.Extension{{Name: "selvage:hello", Internal: true, Source: `export default env => ({ hi() { return "hi " + env.who } })`}},
	})
	got, _ := get(t, filepath.Join(dir, "a"), "http://h/")
	want := "text,json,4.5,32,false,GET /x {\"a\":1},GET /k?urlencoded=true ,function,function,function,hi you,17,GET https://out.example/p"
	if !strings.HasPrefix(got, want) {
		t.Errorf("the script saw\n%s\nwant\n%s", got, want)
	}
	if objects, _ := filepath.Glob(filepath.Join(dir, "disk", strings.Repeat("ab", 16), "*.sqlite")); len(objects) == 0 {
		t.Error("no object was stored in its directory")
	}
	for i := 0; !strings.Contains(node.seen(), "POST /m"); i++ {
		if i > 1000 {
			t.Fatalf("no trace came; the node saw %s", node.seen())
		}
		time.Sleep(5 * time.Millisecond)
	}
	if !strings.Contains(node.seen(), "PUT /c") {
		t.Errorf("the cache was not asked; the node saw %s", node.seen())
	}
}

type fakeNode struct {
	log chan string
	all []string
}

func (f *fakeNode) seen() string {
	for {
		select {
		case s := <-f.log:
			f.all = append(f.all, s)
			continue
		default:
		}
		return strings.Join(f.all, "; ")
	}
}

func listen(t *testing.T, path string) *fakeNode {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeNode{log: make(chan string, 100)}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		f.log <- r.Method + " " + r.RequestURI
		w.Header().Set("x-seen", r.Method+" "+r.Header.Get("x-proto")+"://"+r.Host+r.RequestURI)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, r.Header.Get("x-cf"))
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return f
}
