package node_test

import (
	"encoding/json"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// stranger speaks the handover protocol by hand.
type stranger struct {
	t    *testing.T
	conn *net.UnixConn
}

func meet(t *testing.T, p *process) *stranger {
	t.Helper()
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(p.dir, "handover.sock"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &stranger{t, conn}
}

func (s *stranger) say(text string) {
	s.t.Helper()
	if _, err := s.conn.Write([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// hear returns step and reason of the next message and closes the descriptors that came with it.
func (s *stranger) hear() (step, reason string, descriptors int) {
	s.t.Helper()
	data, rights := make([]byte, 64<<10), make([]byte, 1024)
	n, rn, _, _, err := s.conn.ReadMsgUnix(data, rights)
	if err != nil {
		s.t.Fatal(err)
	}
	messages, _ := unix.ParseSocketControlMessage(rights[:rn])
	for _, m := range messages {
		fds, _ := unix.ParseUnixRights(&m)
		descriptors += len(fds)
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	var m struct{ Step, Reason string }
	if err := json.Unmarshal(data[:n], &m); err != nil {
		s.t.Fatal(err)
	}
	return m.Step, m.Reason, descriptors
}

func TestTakeoverThatFailsLeavesTheNodeAsItWas(t *testing.T) {
	origin := httptest.NewServer(nil)
	defer origin.Close()
	p := up(t, t.TempDir())
	zone := p.addSite("site.test", origin)

	t.Run("a protocol of another time is refused before anything moves", func(t *testing.T) {
		s := meet(t, p)
		s.say(`{"protocol":99,"step":"hello","pid":1,"version":"from the future"}`)
		if step, reason, fds := s.hear(); step != "failed" || fds != 0 || !strings.Contains(reason, "speaks handover protocol 99") {
			t.Errorf("the node said %q %q with %d descriptors", step, reason, fds)
		}
	})
	t.Run("what is no message is refused", func(t *testing.T) {
		s := meet(t, p)
		s.say("GET / HTTP/1.1\r\n\r\n")
		if step, _, fds := s.hear(); step != "failed" || fds != 0 {
			t.Errorf("the node said %q with %d descriptors", step, fds)
		}
	})
	t.Run("a successor that dies with the store released", func(t *testing.T) {
		s := meet(t, p)
		s.say(`{"protocol":1,"step":"hello","pid":1}`)
		if step, reason, fds := s.hear(); step != "sockets" || fds != 10 {
			t.Fatalf("the node said %q %q with %d descriptors, want sockets with 10", step, reason, fds)
		}
		s.say(`{"protocol":1,"step":"prepared","pid":1}`)
		if step, reason, _ := s.hear(); step != "released" {
			t.Fatalf("the node said %q %q, want released", step, reason)
		}
		written := make(chan error, 1)
		go func() {
			written <- p.call("POST", "/zones/"+zone+"/dns_records", `{"name":"late.site.test","type":"TXT","content":"\"1\"","ttl":60}`, nil)
		}()
		if answer, _, err := new(dns.Client).Exchange(new(dns.Msg).SetQuestion("site.test.", dns.TypeA), p.DNS); err != nil || len(answer.Answer) != 1 {
			t.Errorf("DNS while the store changes hands: %v %v", answer, err)
		}
		select {
		case err := <-written:
			t.Errorf("a write was answered while nobody had the store: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
		s.conn.Close()
		if err := <-written; err != nil {
			t.Errorf("a write that waited failed: %v", err)
		}
		if answer, _, err := new(dns.Client).Exchange(new(dns.Msg).SetQuestion("late.site.test.", dns.TypeTXT), p.DNS); err != nil || len(answer.Answer) != 1 {
			t.Errorf("DNS after the takeover that failed: %v %v", answer, err)
		}
		if err := p.call("POST", "/zones/"+zone+"/purge_cache", `{"purge_everything":true}`, nil); err != nil {
			t.Errorf("purge after the takeover that failed: %v", err)
		}
	})
	if err := p.stop(syscall.SIGTERM); err != nil {
		t.Errorf("the node ended with %v:\n%s", err, p.log)
	}
}
