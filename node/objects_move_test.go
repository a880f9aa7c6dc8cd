package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestObjectsMoveWithDeploys deploys 20 times while clients count. No request fails, and no instance
// meets another one of its ID.
func TestObjectsMoveWithDeploys(t *testing.T) {
	t.Parallel()
	const deploys = 20
	p := up(t, t.TempDir())
	s := deployObjects(t, p)
	c := count(s)
	for i := range deploys {
		version := fmt.Sprint("deploy ", i)
		c.more(10)
		if err := p.upload("objects", objectsSource(t, version), objectsBindings); err != nil {
			t.Fatal(err)
		}
		if got := s.want("/rows/get/a").Version; got != version {
			t.Errorf("after its deploy was acknowledged, %q answers instead of %q", got, version)
		}
	}
	c.check()
	if c.fails > 0 {
		t.Errorf("%d of %d requests failed, the last with %v", c.fails, c.fails+int(c.acked.Load()), c.last)
	}
	t.Logf("%d increments during %d deploys", c.acked.Load(), deploys)
}

// TestObjectsMoveWithTakeovers replaces the node three times while clients count and a WebSocket is
// open, which would be so for hours.
func TestObjectsMoveWithTakeovers(t *testing.T) {
	t.Parallel()
	p := up(t, t.TempDir())
	s := deployObjects(t, p)
	ws := s.dial("/rows/ws/a")
	c := count(s)
	for range 3 {
		c.more(20)
		next := launch(t, p.dir, "--takeover")
		next.awaitReady(s.node.Load().PID)
		s.node.Store(next)
		began := time.Now()
		c.more(20)
		t.Logf("counting went on %v after the new process was ready", time.Since(began))
	}
	c.check()
	if c.fails > 0 {
		t.Errorf("%d of %d requests failed, the last with %v", c.fails, c.fails+int(c.acked.Load()), c.last)
	}
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusServiceRestart {
		t.Errorf("the WebSocket ended with %v", err)
	}
	syscall.Kill(s.node.Load().PID, syscall.SIGTERM)
}

// dial opens a WebSocket to an object.
func (s *site) dial(path string) *websocket.Conn {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	base, err := url.Parse(s.node.Load().HTTP)
	if err != nil {
		s.t.Fatal(err)
	}
	base.Scheme = "ws"
	c, _, err := websocket.Dial(ctx, base.String()+path, &websocket.DialOptions{Host: s.host, HTTPClient: &http.Client{Transport: &http.Transport{}}})
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", path, err, s.node.Load().log)
	}
	s.t.Cleanup(func() { c.CloseNow() })
	return c
}

// socketAnswer is what the tests' objects say over WebSockets.
type socketAnswer struct {
	Message, Life, Born, Version string
	Sockets                      int
}

// say sends a message and returns the answer.
func (s *site) say(c *websocket.Conn, message string) socketAnswer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	var a socketAnswer
	err := c.Write(ctx, websocket.MessageText, []byte(message))
	if err == nil {
		var data []byte
		if _, data, err = c.Read(ctx); err == nil {
			err = json.Unmarshal(data, &a)
		}
	}
	if err != nil || a.Message != message {
		s.t.Fatalf("answer to %q: %+v %v", message, a, err)
	}
	return a
}

// TestHibernation leaves WebSockets alone until the runtime evicts their object: messages wake another
// instance, which knows its sockets. A deploy ends them with a code that says so.
func TestHibernation(t *testing.T) {
	t.Parallel()
	p := up(t, t.TempDir())
	s := deployObjects(t, p)
	first, second := s.dial("/rows/ws/a"), s.dial("/rows/ws/a")
	before := s.say(first, "hello")
	if before.Sockets != 2 || before.Born != before.Life {
		t.Errorf("the first answer is %+v", before)
	}
	var after socketAnswer
	for deadline := time.Now().Add(40 * time.Second); ; {
		time.Sleep(11 * time.Second) // the runtime evicts after 10 s without events
		if after = s.say(second, "still there?"); after.Life != before.Life {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the object was never evicted")
		}
	}
	if after.Sockets != 2 || after.Born != before.Life {
		t.Errorf("after eviction the answer is %+v", after)
	}
	if err := p.upload("objects", objectsSource(t, "second"), objectsBindings); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*websocket.Conn{first, second} {
		if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusServiceRestart {
			t.Errorf("the deploy ended the WebSocket with %v", err)
		}
	}
	if closed := s.want("/rows/get/a").Closed; closed == nil || closed.Code != int(websocket.StatusServiceRestart) || closed.Version != "first" {
		t.Errorf("the object saw the end of its sockets as %+v", closed)
	}
	if a := s.say(s.dial("/rows/ws/a"), "again"); a.Version != "second" {
		t.Errorf("after the deploy, %+v answers", a)
	}
}

// TestAlarms sets alarms and lets them fire by themselves: after the node was killed and started again,
// and, overdue, after a child was killed.
func TestAlarms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := up(t, dir)
	s := deployObjects(t, p)
	s.want("/rows/alarmIn/killed?arg=1500")
	s.want("/pairs/alarmIn/killed?arg=1500")
	p.stop(syscall.SIGKILL)
	p = up(t, dir)
	s.node.Store(p)
	s.rings(t, "/rows/get/killed", "/pairs/get/killed") // nothing is asked of the objects meanwhile

	s.want("/rows/alarmIn/child?arg=700")
	for _, pid := range objectChildren(t, p) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	s.rings(t, "/rows/get/child")

	s.want("/pairs/alarmIn/stopped?arg=1200")
	if err := p.stop(syscall.SIGTERM); err != nil {
		t.Errorf("the node ended with %v", err)
	}
	p = up(t, dir)
	s.node.Store(p)
	s.rings(t, "/pairs/get/stopped")
}

// rings waits without asking, and then makes sure that the alarms fired before anybody asked.
func (s *site) rings(t *testing.T, paths ...string) {
	t.Helper()
	time.Sleep(4 * time.Second)
	asked := time.Now().UnixMilli()
	for _, path := range paths {
		if a := s.want(path); len(a.Fired) == 0 || a.Fired[0].At >= asked-500 || a.Name != path[strings.LastIndexByte(path, '/')+1:] {
			t.Errorf("%s: alarms fired: %+v; asked at %d", path, a, asked)
		}
	}
}
