package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"selvage/control/cli"
	"selvage/product"
	"selvage/product/workers/tail"
	"selvage/spec"
)

const account = "0123456789abcdef0123456789abcdef"

// api is the part of the API that the commands talk to: fixed answers, and tails of a real Hub.
type api struct {
	url string
	hub *tail.Hub

	mu   sync.Mutex // guards seen
	seen []string
}

func newAPI(t *testing.T, answers map[string]string) *api {
	t.Helper()
	a := &api{hub: tail.New(tail.Options{})}
	mux := http.NewServeMux()
	for _, r := range a.hub.Routes() {
		mux.HandleFunc(r.Method+" /client/v4"+r.Path, func(w http.ResponseWriter, req *http.Request) { a.product(r, w, req) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		key := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/client/v4")
		a.note(key + " " + body.String())
		answer, ok := answers[strings.ReplaceAll(key, account, "A")]
		if !ok {
			w.WriteHeader(404)
			fmt.Fprint(w, `{"success":false,"errors":[{"code":7003,"message":"No such thing."}],"result":null}`)
			return
		}
		fmt.Fprintf(w, `{"success":true,"errors":[],"messages":[],"result":%s}`, answer)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	t.Cleanup(a.hub.Close)
	a.url = srv.URL + "/client/v4"
	return a
}

func (a *api) note(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = append(a.seen, strings.TrimSpace(what))
}

// product answers as control/api does.
func (a *api) product(r product.Route, w http.ResponseWriter, req *http.Request) {
	a.note(r.Method + " " + r.Path)
	c := &product.Call{Header: req.Header, Query: req.URL.Query(), Body: req.Body, Origin: "http://" + req.Host, Account: &spec.Account{ID: account},
		Params: map[string]string{"script_name": req.PathValue("script_name"), "tail_id": req.PathValue("tail_id")}}
	reply, err := r.Handle(req.Context(), c)
	if err != nil {
		w.WriteHeader(400)
		_ = json.NewEncoder(w).Encode(map[string]any{"success": false, "errors": []any{map[string]any{"code": 1001, "message": err.Error()}}})
		return
	}
	if reply.Upgrade == nil {
		_ = json.NewEncoder(w).Encode(map[string]any{"success": true, "result": reply.Result})
		return
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")
	_ = reply.Header.Write(buf)
	fmt.Fprintf(buf, "\r\n")
	_ = buf.Flush()
	reply.Upgrade(req.Context(), conn, buf.Reader)
}

// run runs the command line and returns what it printed.
func (a *api) run(ctx context.Context, args ...string) (code int, out, errs string) {
	root := cli.Root("test", "/nonexistent")
	var stdout, stderr bytes.Buffer
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	root.SetArgs(append(args, "--api", a.url, "--token", "to'ken", "--account", account))
	code = cli.Run(ctx, root, &stderr)
	return code, stdout.String(), stderr.String()
}

const script = "/accounts/A/workers/scripts"

func workersAPI(t *testing.T) *api {
	return newAPI(t, map[string]string{
		"GET " + script:                                               `[{"id":"shop","modified_on":"2026-11-26T10:00:00Z"},{"id":"idle","modified_on":"2026-11-25T10:00:00Z"}]`,
		"GET " + script + "/shop/deployments":                         `{"deployments":[{"versions":[{"version_id":"aaaaaaaa-1","percentage":90},{"version_id":"bbbbbbbb-2","percentage":10}]},{"versions":[]}]}`,
		"GET " + script + "/idle/deployments":                         `{"deployments":[]}`,
		"GET " + script + "/shop/subdomain":                           `{"enabled":true,"previews_enabled":false}`,
		"GET " + script + "/idle/subdomain":                           `{"enabled":false}`,
		"GET /accounts/A/workers/subdomain":                           `{"subdomain":"me","domain":"workers.test"}`,
		"GET /accounts/A/workers/domains":                             `[{"hostname":"shop.example","service":"shop"}]`,
		"GET /zones":                                                  `[{"id":"z1","name":"example"}]`,
		"GET /zones/z1/workers/routes":                                `[{"pattern":"example/api/*","script":"shop"},{"pattern":"example/off","script":""}]`,
		"GET /accounts/A/selvage/workers/usage":                       `[{"unit":"A/shop/aaaaaaaa-1","scripts":["shop"],"version_id":"aaaaaaaa-1","children":1,"running":2,"requests":1234,"cpu":1500000000,"rss":52428800,"kills":3,"since":"2026-11-26T10:00:00Z"},{"unit":"A/idle/x","scripts":["idle"],"version_id":"cccccccc-3","children":0,"running":0,"requests":0,"cpu":0,"rss":0,"kills":0,"since":"0001-01-01T00:00:00Z"}]`,
		"POST /accounts/A/selvage/workers/scripts/shop/kill":          `{"units":["A/shop/aaaaaaaa-1"]}`,
		"POST /accounts/A/selvage/workers/scripts/shop/schedules/run": `{"outcome":"ok"}`,
		"POST /accounts/A/selvage/workers/scripts/idle/schedules/run": `{"outcome":"exception","error":"boom"}`,
	})
}

func TestWorkerCommands(t *testing.T) {
	a := workersAPI(t)
	for _, tt := range []struct {
		args string
		code int
		want []string // in stdout, or in stderr if the code says so
	}{
		{"worker list", 0, []string{"NAME  VERSIONS", "idle  not deployed", "nowhere", "asleep", "shop  aaaaaaaa 90%, bbbbbbbb 10%", "example/api/* shop.example shop.me.workers.test", "awake"}},
		{"worker list --json", 0, []string{`"awake": true`, `"version_id": "aaaaaaaa-1"`, `"answers_at": []`}},
		{"worker usage", 0, []string{"shop  aaaaaaaa", "1234", "1.5s", "50.0 MiB", "idle  cccccccc", "asleep"}},
		{"worker usage shop", 0, []string{"shop"}},
		{"worker usage none", 0, []string{"No Worker none has been asked yet"}},
		{"worker usage shop --json", 0, []string{`"requests": 1234`}},
		{"worker kill shop", 0, []string{"processes of shop are gone"}},
		{"worker kill none", 1, []string{"No such thing. (code 7003)"}},
		{"worker cron shop", 0, []string{"has run"}},
		{"worker cron shop *_*_*_*_*", 0, []string{"has run"}},
		{"worker cron idle", 1, []string{"ended with exception boom"}},
		{"worker cron", 2, []string{"worker cron takes NAME [CRON]"}},
		{"worker logs shop --status nice", 2, []string{"--status is ok, error or canceled"}},
		{"worker logs shop --sampling-rate 2", 2, []string{"--sampling-rate is more than 0"}},
		{"worker", 0, []string{"logs", "usage", "kill"}},
	} {
		args := strings.Fields(tt.args)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "_", " ")
		}
		code, out, errs := a.run(t.Context(), args...)
		text := out
		if tt.code != 0 {
			text = errs
		}
		if code != tt.code {
			t.Errorf("%s: code %d, want %d: %s", tt.args, code, tt.code, errs)
		}
		for _, part := range tt.want {
			if !strings.Contains(text, part) {
				t.Errorf("%s printed\n%s\nwithout %q", tt.args, text, part)
			}
		}
	}
	seen := strings.Join(a.seen, "\n")
	for _, want := range []string{`schedules/run {"cron":""}`, `schedules/run {"cron":"* * * * *"}`} {
		if !strings.Contains(seen, want) {
			t.Errorf("the API did not see %q", want)
		}
	}
}

func TestWorkerLogs(t *testing.T) {
	const items = `[{"outcome":"ok","eventTimestamp":1,"logs":[{"message":["a\u001b[2Jb",{"n":1}],"level":"warn","timestamp":1}],"event":{"request":{"method":"GET","url":"https://x/\u202e"},"response":{"status":204}}},
		{"outcome":"exception","eventTimestamp":1,"exceptions":[{"name":"TypeError","message":"boom","stack":"    at f (a.ts:1:2)","timestamp":1}],"event":{"cron":"* * * * *","scheduledTime":1}},
		{"outcome":"exceededCpu","eventTimestamp":1,"event":{"scheduledTime":"2026-01-01T00:00:00Z"}},
		{"outcome":"ok","eventTimestamp":1,"entrypoint":"E","event":{"rpcMethod":"add"}},
		{"outcome":"ok","eventTimestamp":1,"event":{"queue":"q","batchSize":2}}]`
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{nil, []string{`ok  GET https://x/\u202e  204`, `warn   a\u001b[2Jb {"n":1}`, "exception  cron * * * * *", "    TypeError: boom\n        at f (a.ts:1:2)\n", "exceeded CPU limit  alarm", "ok  E.add()", "ok  queue q, 2 messages"}},
		{[]string{"--json"}, []string{`"cron":"* * * * *"`, "\n"}},
		{[]string{"--status", "error", "--method", "GET", "--ip", "self", "--header", "a:b", "--search", "x", "--version-id", "v", "--sampling-rate", "0.5"}, nil},
	} {
		a := workersAPI(t)
		changes := make(chan bool, 10)
		a.hub.OnChange(func(_, _ string, watched bool) { changes <- watched })
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if watched := <-changes; !watched {
				t.Error("told of an end first")
			}
			if err := a.hub.Accept(account, "shop", "", json.RawMessage(items)); err != nil {
				t.Error(err)
			}
			time.Sleep(300 * time.Millisecond) // nothing tells that the command has printed
			cancel()
		}()
		code, out, errs := a.run(ctx, append([]string{"worker", "logs", "shop"}, tt.args...)...)
		if code != 0 {
			t.Errorf("%v: code %d: %s", tt.args, code, errs)
		}
		for _, part := range tt.want {
			if !strings.Contains(out, part) {
				t.Errorf("%v printed\n%s\nwithout %q", tt.args, out, part)
			}
		}
		if watched := <-changes; watched {
			t.Error("the tail is still there")
		}
	}
}

func TestDev(t *testing.T) {
	a := workersAPI(t)
	code, out, errs := a.run(t.Context(), "dev")
	if code != 0 || strings.Contains(out, "#") {
		t.Fatalf("code %d: %s%s", code, out, errs)
	}
	// Whatever the token holds, the shell gets it as it is.
	sh := exec.Command("sh", "-c", `eval "$1"; echo "$CLOUDFLARE_API_BASE_URL $CLOUDFLARE_API_TOKEN $CLOUDFLARE_ACCOUNT_ID $WRANGLER_SEND_METRICS ${CLOUDFLARE_EMAIL-none}"`, "sh", out)
	sh.Env = []string{"CLOUDFLARE_EMAIL=me@example.com"}
	got, err := sh.CombinedOutput()
	if want := a.url + " to'ken " + account + " false none\n"; err != nil || string(got) != want {
		t.Errorf("the shell has %s %v, want %s", got, err, want)
	}
	code, out, _ = a.run(t.Context(), "dev", "--json")
	var env map[string]string
	if err := json.Unmarshal([]byte(out), &env); code != 0 || err != nil || env["CLOUDFLARE_API_TOKEN"] != "to'ken" {
		t.Errorf("code %d %v: %s", code, err, out)
	}
}
