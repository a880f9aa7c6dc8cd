package clients

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// testTail has a real `wrangler tail` see a log line and an exception whose stack names the sources.
func testTail(t *testing.T, p *project) {
	p.wrangler(t, "deploy")
	var heard events
	cmd := p.command(t, "tail", "--format", "json")
	var complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &heard, &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	// wrangler says nothing when it has connected, so requests go on until it has seen one.
	within(t, 30*time.Second, "the first event in wrangler tail", func() bool {
		p.expect(t, "/hello", "tailed")
		return heard.find(t, "/hello") != nil
	})
	event := heard.find(t, "/hello")
	if event["outcome"] != "ok" || event["scriptName"] != p.name || !strings.Contains(text(event["logs"]), `"asked for",{"path":"/hello"}`) {
		t.Errorf("the event of a request: %s", text(event))
	}

	if got := p.get(t, "/fail"); got.status != 500 || !strings.Contains(got.body, "1101") {
		t.Errorf("a Worker that throws answers %d %q, want 500 with error 1101", got.status, got.body)
	}
	within(t, 15*time.Second, "the exception in wrangler tail", func() bool { return heard.find(t, "/fail") != nil })
	event = heard.find(t, "/fail")
	if event["outcome"] != "exception" {
		t.Errorf("the event of an exception: %s", text(event))
	}
	for _, want := range []string{`"name":"TypeError"`, `"message":"no /fail"`, "src/fail.ts:7:11", "src/index.ts:8:5"} {
		if !strings.Contains(text(event["exceptions"]), want) {
			t.Errorf("the exceptions lack %q: %s", want, text(event["exceptions"]))
		}
	}

	cmd.Process.Signal(os.Interrupt)
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("wrangler tail ended with %v: %s", err, &complaints)
		}
	case <-time.After(15 * time.Second):
		t.Errorf("wrangler tail did not end within 15 seconds of SIGINT")
		cmd.Process.Kill()
	}
}

// events are the JSON values that a program has written so far. Safe for concurrent use.
type events struct {
	mu   sync.Mutex // guards the field below
	data []byte
}

func (e *events) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.data = append(e.data, p...)
	return len(p), nil
}

// find returns the event of a request to a path, or nil.
func (e *events) find(t *testing.T, path string) map[string]any {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	d := json.NewDecoder(bytes.NewReader(e.data))
	for {
		var event map[string]any
		switch err := d.Decode(&event); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			t.Fatalf("wrangler tail printed no JSON: %v\n%s", err, e.data)
		}
		request, _ := event["event"].(map[string]any)
		request, _ = request["request"].(map[string]any)
		if url, _ := request["url"].(string); strings.HasSuffix(url, path) {
			return event
		}
	}
}

func text(v any) string {
	data, _ := json.Marshal(v)
	return string(data)
}
