package node_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
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

	"github.com/rogpeppe/go-internal/testscript"

	"selvage/control/cli"
	"selvage/engine/isolate"
)

// TestScripts runs the stories in testdata/script against the real program.
//
// Beside testscript's own commands there are: up, down, crash, takeover (a node on $WORK/data), api
// (a request to its API), get (a request to a site behind it), origin (a server to stand behind).
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			data := filepath.Join(e.WorkDir, "data")
			e.Setenv("PATH", filepath.Dir(program)+string(os.PathListSeparator)+os.Getenv("PATH"))
			e.Setenv("SELVAGE_DATA", data)
			e.Setenv("PORTS", strings.Join(freePorts, " "))
			runtime, err := isolate.FindRuntime(os.Environ()) // scripts run far from the program that make engines puts beside it
			if err != nil {
				return err
			}
			e.Setenv("SELVAGE_WORKERD", runtime)
			e.Defer(func() {
				if n, err := cli.ReadNodeFile(data); err == nil {
					syscall.Kill(n.PID, syscall.SIGKILL)
				}
				removeRunDir(data)
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"up": scriptUp, "down": scriptDown, "crash": scriptCrash, "takeover": scriptTakeover,
			"api": scriptAPI, "get": scriptGet, "origin": scriptOrigin,
		},
	})
}

// running holds the node of each script, by its data directory.
var running sync.Map

func nodeOf(ts *testscript.TestScript) *process {
	p, ok := running.Load(ts.Getenv("SELVAGE_DATA"))
	if !ok {
		ts.Fatalf("no node is up")
	}
	return p.(*process)
}

// scriptUp starts a node with free ports and more arguments, and waits until it is ready.
func scriptUp(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("up cannot be negated: use ! exec selvage up")
	}
	startNode(ts, append(slices.Clone(freePorts), args...))
}

// scriptTakeover replaces the node by a new process, and waits until that is ready.
func scriptTakeover(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("takeover cannot be negated: use ! exec selvage up --takeover")
	}
	startNode(ts, append([]string{"--takeover"}, args...))
}

func startNode(ts *testscript.TestScript, args []string) {
	p := &process{dir: ts.Getenv("SELVAGE_DATA"), work: ts.MkAbs("."), log: &logBuffer{}, ended: make(chan error, 1)}
	for _, name := range []string{"SELVAGE_HTTP", "SELVAGE_CACHE_DISK", "SELVAGE_WORKERD"} {
		if v := ts.Getenv(name); v != "" {
			p.env = append(p.env, name+"="+v)
		}
	}
	old, _ := cli.ReadNodeFile(p.dir)
	ts.Check(p.begin(args))
	ts.Defer(func() {
		if strings.Contains(p.log.String(), "DATA RACE") {
			ts.Fatalf("the race detector found:\n%s", p.log)
		}
	})
	running.Store(p.dir, p)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if n, err := cli.ReadNodeFile(p.dir); err == nil && n.PID != old.PID {
			p.NodeFile = n
			break
		}
		if len(p.ended) > 0 || time.Now().After(deadline) {
			ts.Fatalf("the node did not become ready:\n%s", p.log)
		}
	}
	token, err := p.Token()
	ts.Check(err)
	ts.Setenv("API", p.API)
	ts.Setenv("ADMIN", p.Admin)
	ts.Setenv("ACCOUNT", p.AccountID)
	ts.Setenv("TOKEN", token)
	ts.Setenv("PID", strconv.Itoa(p.PID))
	host, port, _ := net.SplitHostPort(p.DNS)
	ts.Setenv("DIG", fmt.Sprintf("dig @%s -p %s", host, port))
}

// scriptDown ends the node with SIGTERM; its log becomes stderr. It fails unless the node ends with 0.
func scriptDown(ts *testscript.TestScript, neg bool, _ []string) {
	p := nodeOf(ts)
	syscall.Kill(p.PID, syscall.SIGTERM)
	select {
	case err := <-p.ended:
		fmt.Fprint(ts.Stderr(), p.log)
		if (err != nil) != neg {
			ts.Fatalf("the node ended with %v:\n%s", err, p.log)
		}
	case <-time.After(40 * time.Second):
		ts.Fatalf("the node did not end:\n%s", p.log)
	}
}

// scriptCrash ends the node with SIGKILL.
func scriptCrash(ts *testscript.TestScript, _ bool, _ []string) {
	p := nodeOf(ts)
	syscall.Kill(p.PID, syscall.SIGKILL)
	<-p.ended
}

// scriptAPI makes a request: api METHOD PATH [BODY]. Negated, it expects a status from 400 on.
func scriptAPI(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: api METHOD PATH [BODY]")
	}
	req, err := http.NewRequest(args[0], ts.Getenv("API")+args[1], strings.NewReader(strings.Join(args[2:], " ")))
	ts.Check(err)
	req.Header.Set("Authorization", "Bearer "+ts.Getenv("TOKEN"))
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%d\n%s", res.StatusCode, body)
	if (res.StatusCode >= 400) != neg {
		ts.Fatalf("%s %s: status %d: %s", args[0], args[1], res.StatusCode, body)
	}
}

// scriptGet fetches a URL through the node, whatever its host, trusting the node's CA. Status, fields
// and body become stdout.
func scriptGet(ts *testscript.TestScript, neg bool, args []string) {
	p := nodeOf(ts)
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(p.CAFile)
	ts.Check(err)
	roots.AppendCertsFromPEM(ca)
	u, err := url.Parse(args[0])
	ts.Check(err)
	node, _ := url.Parse(map[string]string{"http": p.HTTP, "https": p.HTTPS}[u.Scheme])
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", node.Host)
		},
	}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(&http.Request{Method: "GET", URL: u, Host: u.Host, Header: http.Header{}})
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%d\n", res.StatusCode)
	for name, values := range res.Header {
		fmt.Fprintf(ts.Stdout(), "%s: %s\n", strings.ToLower(name), strings.Join(values, ", "))
	}
	fmt.Fprintf(ts.Stdout(), "\n%s\n", body)
	if (res.StatusCode >= 400) != neg {
		ts.Fatalf("GET %s: status %d: %s", args[0], res.StatusCode, body)
	}
}

// scriptOrigin starts a server that counts how often it was asked, at port $ORIGIN.
func scriptOrigin(ts *testscript.TestScript, _ bool, _ []string) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprintf(w, "asked %d times", asked.Add(1))
	}))
	ts.Defer(s.Close)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	ts.Setenv("ORIGIN", port)
}
