package clients

import (
	"strings"
	"testing"
	"time"
)

// TestWranglerQueues has two versions of wrangler do to one node what people do with queues.
func TestWranglerQueues(t *testing.T) {
	n := startNode(t)
	for i, w := range wranglers {
		t.Run(w.name, func(t *testing.T) {
			testQueues(t, newProject(t, n, w.folder, "queues", []string{"new", "old"}[i]))
		})
	}
}

func testQueues(t *testing.T, p *project) {
	work, dead := p.name+"-work", p.name+"-dead"
	p.refused(t, []string{"does not exist"}, "deploy")
	p.wrangler(t, "queues", "create", work, "--delivery-delay-secs", "2", "--message-retention-period-secs", "3600")
	p.wrangler(t, "queues", "create", dead)
	p.refused(t, []string{"11009"}, "queues", "create", dead)
	p.refused(t, []string{"lower-case"}, "queues", "create", "Not_A_Queue")
	p.says(t, []string{work, dead}, "queues", "list")
	p.wrangler(t, "queues", "update", work, "--delivery-delay-secs", "0")

	p.wrangler(t, "deploy")
	p.says(t, []string{"Number of Producers: 1", "worker:" + p.name, "Number of Consumers: 1"}, "queues", "info", work)
	p.wrangler(t, "deploy") // the consumer is there already, and changed
	if got := p.get(t, "/one-dies").body; got != `[["work",[[{"n":1},1],[{"n":2,"does":"retry","until":9},1],[{"n":3,"does":"ack"},1]]],["work",[[{"n":2,"does":"retry","until":9},2]]],["work",[[{"n":2,"does":"retry","until":9},3]]],["dead",[[{"n":2,"does":"retry","until":9},1]]]]` {
		t.Errorf("delivered %s", got)
	}

	p.wrangler(t, "queues", "pause-delivery", work)
	p.n.call(t, "POST", p.queue(t, work)+"/messages", map[string]any{"body": "held"})
	p.wrangler(t, "queues", "purge", work, "--force")
	p.wrangler(t, "queues", "resume-delivery", work)
	if m := p.n.call(t, "GET", p.queue(t, work)+"/metrics", nil); m["backlog_count"] != 0.0 {
		t.Errorf("after a purge: %v", m)
	}
	p.refused(t, []string{"11004"}, "queues", "consumer", "http", "add", work)
	p.wrangler(t, "queues", "consumer", "worker", "remove", work, p.name)
	p.wrangler(t, "queues", "consumer", "add", work, p.name, "--batch-size", "7", "--batch-timeout", "3", "--message-retries", "4", "--dead-letter-queue", dead, "--max-concurrency", "2", "--retry-delay-secs", "9")
	p.wrangler(t, "queues", "consumer", "remove", work, p.name)
	p.wrangler(t, "queues", "consumer", "http", "add", work, "--batch-size", "2", "--visibility-timeout-secs", "20")
	p.says(t, []string{"HTTP Pull Consumer"}, "queues", "info", work)
	p.pull(t, p.queue(t, work))
	p.wrangler(t, "queues", "consumer", "http", "remove", work)
	p.refused(t, []string{"not offered"}, "queues", "subscription", "list", work)
	p.wrangler(t, "delete", "--force")
	p.wranglerWith(t, "y\n", "queues", "delete", work)
	p.wranglerWith(t, "y\n", "queues", "delete", dead)
	if out := p.wrangler(t, "queues", "list"); strings.Contains(out, work) {
		t.Errorf("the deleted queue is still listed:\n%s", out)
	}
}

// says runs wrangler and expects texts in what it prints.
func (p *project) says(t *testing.T, want []string, args ...string) {
	t.Helper()
	out := p.wrangler(t, args...)
	for _, text := range want {
		if !strings.Contains(out, text) {
			t.Errorf("wrangler %s does not show %q:\n%s", strings.Join(args, " "), text, out)
		}
	}
}

// queue returns the path of a queue in the API.
func (p *project) queue(t *testing.T, name string) string {
	t.Helper()
	_, answer := p.n.try(t, "GET", "/accounts/"+p.n.AccountID+"/queues?name="+name, nil)
	list, _ := answer["result"].([]any)
	if len(list) != 1 {
		t.Fatalf("the queue %s is not there: %v", name, answer)
	}
	return "/accounts/" + p.n.AccountID + "/queues/" + list[0].(map[string]any)["queue_id"].(string)
}

// pull sends, pulls, gives back and acknowledges over HTTP.
func (p *project) pull(t *testing.T, queue string) {
	t.Helper()
	p.n.call(t, "POST", queue+"/messages/batch", map[string]any{"messages": []map[string]any{
		{"body": "plain", "content_type": "text"}, {"body": map[string]any{"a": 1}},
	}})
	got := p.n.call(t, "POST", queue+"/messages/pull", map[string]any{"visibility_timeout_ms": 10000, "batch_size": 5})
	messages, _ := got["messages"].([]any)
	if len(messages) != 2 {
		t.Fatalf("pulled %v", got)
	}
	first, second := messages[0].(map[string]any), messages[1].(map[string]any)
	if first["body"] != "plain" || second["body"] != "eyJhIjoxfQ==" || first["attempts"] != 1.0 {
		t.Errorf("pulled %v", messages)
	}
	done := p.n.call(t, "POST", queue+"/messages/ack", map[string]any{
		"acks": []any{map[string]any{"lease_id": first["lease_id"]}}, "retries": []any{map[string]any{"lease_id": second["lease_id"]}},
	})
	if done["ackCount"] != 1.0 || done["retryCount"] != 1.0 {
		t.Errorf("acknowledged %v", done)
	}
	within(t, 10*time.Second, "the message that was given back", func() bool {
		got := p.n.call(t, "POST", queue+"/messages/pull", map[string]any{})
		messages, _ := got["messages"].([]any)
		return len(messages) == 1 && messages[0].(map[string]any)["attempts"] == 2.0
	})
}
