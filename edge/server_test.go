package edge_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"selvage/edge"
)

// eachProtocol runs a test over plain h1, h1 over TLS and h2.
func eachProtocol(t *testing.T, f *front, test func(t *testing.T, c *http.Client, base string)) {
	t.Run("h1", func(t *testing.T) { test(t, f.client(t, false), "http://example.com") })
	t.Run("h1 tls", func(t *testing.T) { test(t, f.client(t, false), "https://example.com") })
	t.Run("h2", func(t *testing.T) { test(t, f.client(t, true), "https://example.com") })
}

func TestRequestAndResponsePassThrough(t *testing.T) {
	f := behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Saw", fmt.Sprintf("%s %s host=%s len=%d body=%d", r.Method, r.RequestURI, r.Host, r.ContentLength, len(body)))
		w.Header()["Set-Cookie"] = []string{"a=1", "b=2"}
		w.Header().Set("Server", "secret/1.0")
		w.Header().Set("Alt-Svc", `h3=":443"`)
		for _, name := range []string{"CF-Connecting-IP", "X-Forwarded-For", "X-Forwarded-Proto", "CF-Visitor", "CDN-Loop", "Te", "Connection", "X-Named", "CF-Worker", "User-Agent"} {
			if v, ok := r.Header[http.CanonicalHeaderKey(name)]; ok {
				w.Header().Set("Saw-"+name, strings.Join(v, "|"))
			}
		}
		for name := range r.Header {
			if strings.Contains(name, "_") {
				w.Header().Add("Saw-Underscore", name)
			}
		}
		w.Header().Set("Saw-Ray", r.Header.Get("CF-Ray"))
		w.WriteHeader(http.StatusTeapot)
		w.Write(body)
	}))
	eachProtocol(t, f, func(t *testing.T, c *http.Client, base string) {
		sent := bytes.Repeat([]byte("x"), 100_000)
		req, _ := http.NewRequest("POST", base+"/a%2Fb//c?q=%20&x=a+b", bytes.NewReader(sent))
		req.Header.Set("X-Forwarded-For", "10.9.9.9")
		req.Header.Set("CF-Connecting-IP", "1.1.1.1")
		req.Header.Set("CF-Worker", "evil")
		for _, name := range []string{"CF_Connecting_IP", "X_Forwarded_For", "X-Forwarded_Proto", "CDN_Loop", "True_Client_IP", "X_Mine"} {
			req.Header[name] = []string{"6.6.6.6"}
		}
		if strings.HasPrefix(base, "http:") {
			req.Header.Set("Connection", "X-Named")
			req.Header.Set("X-Named", "1")
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		got, err := io.ReadAll(res.Body)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("body of %d bytes, %v, want the %d that were sent", len(got), err, len(sent))
		}
		scheme, _, _ := strings.Cut(base, ":")
		want := map[string]string{
			"X-Saw":                 "POST /a%2Fb//c?q=%20&x=a+b host=example.com len=100000 body=100000",
			"Saw-Cf-Connecting-Ip":  "127.0.0.1",
			"Saw-X-Forwarded-For":   "10.9.9.9, 127.0.0.1",
			"Saw-X-Forwarded-Proto": scheme,
			"Saw-Cf-Visitor":        `{"scheme":"` + scheme + `"}`,
			"Saw-Cdn-Loop":          "selvage",
			"Saw-Cf-Worker":         "",
			"Saw-X-Named":           "",
			"Saw-Te":                "",
			"Saw-Underscore":        "X_mine",
			"Saw-Ray":               res.Header.Get("CF-Ray"),
			"Server":                "selvage",
			"Alt-Svc":               "",
		}
		for name, v := range want {
			if got := res.Header.Get(name); got != v {
				t.Errorf("%s = %q, want %q", name, got, v)
			}
		}
		if res.StatusCode != http.StatusTeapot || len(res.Header["Set-Cookie"]) != 2 {
			t.Errorf("status %d, cookies %v", res.StatusCode, res.Header["Set-Cookie"])
		}
		if ray := res.Header.Get("CF-Ray"); len(ray) != len("0123456789abcdef-LOCAL") || !strings.HasSuffix(ray, "-LOCAL") {
			t.Errorf("CF-Ray = %q", ray)
		}
	})
}

func TestStatusesWithoutBody(t *testing.T) {
	f := behind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(304)
		default:
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "hello")
		}
	}))
	eachProtocol(t, f, func(t *testing.T, c *http.Client, base string) {
		for _, tt := range []struct {
			method, path, length, body string
			status                     int
		}{
			{"GET", "/204", "", "", 204},
			{"GET", "/304", "", "", 304},
			{"HEAD", "/", "5", "", 200},
			{"GET", "/", "5", "hello", 200},
		} {
			req, _ := http.NewRequest(tt.method, base+tt.path, nil)
			res, err := c.Do(req)
			if err != nil {
				t.Fatalf("%s %s: %v", tt.method, tt.path, err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != tt.status || string(body) != tt.body || res.Header.Get("Content-Length") != tt.length {
				t.Errorf("%s %s = %d %q length %q, want %d %q %q", tt.method, tt.path, res.StatusCode, body, res.Header.Get("Content-Length"), tt.status, tt.body, tt.length)
			}
		}
	})
}

func TestTrailersGoBothWays(t *testing.T) {
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "data")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "got "+r.Trailer.Get("X-Client-Sum"))
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}))
	origin.EnableHTTP2 = true
	origin.StartTLS()
	t.Cleanup(origin.Close)
	for _, h2 := range []bool{false, true} {
		target := targetOf(t, origin.URL)
		target.HTTP2 = h2
		f := start(t, edge.ServerOptions{Handler: proxyTo(t, edge.OriginOptions{}, target)})
		eachProtocol(t, f, func(t *testing.T, c *http.Client, base string) {
			req, _ := http.NewRequest("POST", base+"/", io.NopCloser(strings.NewReader("abc")))
			req.Trailer = http.Header{"X-Client-Sum": {"42"}}
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || string(body) != "data" || res.Trailer.Get("X-Sum") != "got 42" || res.Trailer.Get("Grpc-Status") != "0" {
				t.Errorf("origin h2=%v: body %q, %v, trailers %v", h2, body, err, res.Trailer)
			}
		})
	}
}

func TestTrailersFollowShortBodies(t *testing.T) {
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, r.URL.Query().Get("body"))
		w.Header().Set("X-Sum", "42")
	}))
	origin.EnableHTTP2 = true
	origin.StartTLS()
	t.Cleanup(origin.Close)
	for _, h2 := range []bool{false, true} {
		target := targetOf(t, origin.URL)
		target.HTTP2 = h2
		f := start(t, edge.ServerOptions{Handler: proxyTo(t, edge.OriginOptions{}, target)})
		eachProtocol(t, f, func(t *testing.T, c *http.Client, base string) {
			for _, want := range []string{"hi", ""} {
				res, err := c.Get(base + "/?body=" + want)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || string(body) != want || res.Trailer.Get("X-Sum") != "42" {
					t.Errorf("origin h2=%v: body %q, %v, trailers %v; want %q with X-Sum", h2, body, err, res.Trailer, want)
				}
			}
		})
	}
}

func TestNoPhaseNoResponse(t *testing.T) {
	f := start(t, edge.ServerOptions{Handler: func(_ context.Context, ex *edge.Exchange) error {
		if ex.Request.Path == "/panic" {
			panic("oops")
		}
		return nil
	}})
	for _, path := range []string{"/", "/panic"} {
		res, err := f.client(t, false).Get("http://example.com" + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusInternalServerError {
			t.Errorf("%s: status %d", path, res.StatusCode)
		}
	}
}

// fileBody is a body on disk, as the cache has them.
type fileBody struct {
	io.ReadCloser
	file *os.File
}

func (b fileBody) File() *os.File { return b.file }

func TestBodiesFromFilesAndMemory(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 40<<10)
	path := write(t, t.TempDir(), "body", content)
	f := start(t, edge.ServerOptions{Handler: func(_ context.Context, ex *edge.Exchange) error {
		length := int64(len(content))
		switch ex.Request.Path {
		case "/memory":
			ex.Respond(200, edge.Header{}, []byte(content))
			return nil
		case "/longer":
			length += 10 // the file is shorter than it was said to be
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		ex.Response = edge.Response{Status: 200, Length: length, Body: fileBody{file, file}}
		return nil
	}})
	eachProtocol(t, f, func(t *testing.T, c *http.Client, base string) {
		for _, path := range []string{"/file", "/memory", "/file", "/longer"} {
			res, err := c.Get(base + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if path == "/longer" {
				if err == nil {
					t.Errorf("%s: %d bytes looked whole", path, len(body))
				}
				continue
			}
			if err != nil || string(body) != content {
				t.Errorf("%s: %d bytes, %v", path, len(body), err)
			}
		}
	})
}

func TestConnectionsAreKeptAfterBodies(t *testing.T) {
	target := origin(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	f := start(t, edge.ServerOptions{Handler: proxyTo(t, edge.OriginOptions{}, target), Limits: brief})
	const post, get = "POST / HTTP/1.1\r\nHost: a.test\r\n", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
	got := say(t, f.plain, post+"Content-Length: 3\r\n\r\nabc"+post+"Content-Length: 3\r\n\r\ndef"+get)
	if strings.Count(got, "HTTP/1.1 200 OK") != 3 || !strings.Contains(got, "abc") || !strings.Contains(got, "def") || strings.Contains(got, "Connection: close") {
		t.Errorf("answers %q", got)
	}
	got = say(t, f.plain, post+"Transfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n"+get)
	if strings.Count(got, "HTTP/1.1 200 OK") != 1 || !strings.Contains(got, "Connection: close") {
		t.Errorf("answers after chunks %q", got)
	}
}
