package node_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestTheVersionBeforeAnswers deploys a version that passes the check at its upload by chance and then
// does not start: the version before it answers, and the API says so.
func TestTheVersionBeforeAnswers(t *testing.T) {
	t.Parallel()
	p := up(t, t.TempDir())
	s := p.deploy("moody", says("the version before"))
	moody := script{source: `if (Math.random() < 0.8) throw new Error("not today"); export default { fetch() { return new Response("the new version") } };`}
	for range 200 {
		e, err := p.send("PUT", p.AccountID, "moody", moody)
		if !e.Success {
			if !strings.Contains(fmt.Sprint(e.Errors), "not today") {
				t.Fatalf("refused with %v, %v", e.Errors, err)
			}
			continue
		}
		if len(e.Messages) == 0 { // it started, by chance
			s.expect("/", 200, "the new version")
			if e, err := p.send("PUT", p.AccountID, "moody", says("the version before")); !e.Success {
				t.Fatal(err)
			}
			continue
		}
		if text := fmt.Sprint(e.Messages); !strings.Contains(text, "does not start") || !strings.Contains(text, "not today") {
			t.Errorf("the API says %s", text)
		}
		for range 20 {
			if a := s.get("/"); a.status != 200 || a.body != "the version before" && a.body != "the new version" {
				t.Fatalf("answered %d %q", a.status, a.body)
			}
		}
		return
	}
	t.Fatal("no version passed the check and then did not start")
}
