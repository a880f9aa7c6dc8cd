package node

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestRelayPassesOnAsItCame relays requests whose address and fields may be signed, and bodies that come and
// go piece by piece.
func TestRelayPassesOnAsItCame(t *testing.T) {
	dir := t.TempDir()
	l, err := listenUnix(dir, "unix", relaySocket)
	if err != nil {
		t.Fatal(err)
	}
	// The successor tells what reached it, and then repeats each piece of the body.
	successor := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		c.EnableFullDuplex()
		fmt.Fprintf(w, "%s %s host=%s to=%s field=%q length=%d\n", r.Method, r.RequestURI, r.Host, r.Header.Get(relayedTo), r.Header.Get("X-Amz-Meta-A"), r.ContentLength)
		c.Flush()
		for buf := make([]byte, 100); ; {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			c.Flush()
			if err != nil {
				return
			}
		}
	})}
	go successor.Serve(l)
	defer successor.Close()
	gone := func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
	old := httptest.NewServer(relay{newRelayTransport(dir), relayS3, gone}.handler())
	defer old.Close()

	for _, uri := range []string{"/bucket/key", "/bucket/a%2Fb//c%20d+e~%7e?x-id=PutObject&b=%20&a;b", "//twice", "/?", "/bucket/%E2%82%AC?uploads"} {
		conn, err := net.Dial("tcp", old.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: b.r2.test\r\n%s: forged\r\nX-Amz-Meta-A: a  b\r\nContent-Length: 8\r\n\r\nhalf", uri, relayedTo)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body := bufio.NewReader(res.Body)
		got, _ := body.ReadString('\n')
		if want := fmt.Sprintf("PUT %s host=b.r2.test to=s3 field=%q length=8\n", uri, "a  b"); got != want {
			t.Errorf("the successor got %q, want %q", got, want)
		}
		half := make([]byte, 4)
		if _, err := io.ReadFull(body, half); err != nil || string(half) != "half" {
			t.Errorf("%q came back before the rest was sent, %v", half, err)
		}
		fmt.Fprint(conn, "rest")
		if rest, err := io.ReadAll(body); err != nil || string(rest) != "rest" {
			t.Errorf("%q came back in the end, %v", rest, err)
		}
		if !res.Close {
			t.Errorf("%s: the client may keep a connection to a node that goes", uri)
		}
	}
}
