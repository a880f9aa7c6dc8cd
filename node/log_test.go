package node_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
)

// TestOriginsCannotFillTheLog: what an origin sends that nobody asked for, net/http reports to the
// global logger each time.
func TestOriginsCannotFillTheLog(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmore")
		c.Read(make([]byte, 1)) // the next request, if this connection is used again, or its end
	}))
	defer origin.Close()
	p := up(t, t.TempDir())
	p.addSite("chatty.test", origin)
	for range 20 {
		req, _ := http.NewRequest("GET", p.HTTP, nil)
		req.Host = "chatty.test"
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		// What it holds is not looked at: an origin that answers what nobody asked misleads its own site.
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	if err := p.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if log := p.log.String(); strings.Contains(log, "Unsolicited") {
		t.Errorf("the log holds what the origin sent:\n%s", log)
	}
}
