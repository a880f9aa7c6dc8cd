package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// script is what tests upload beside a main module called index.js.
type script struct {
	source string
	meta   string // more fields of the metadata
	date   string // compatibility date; a usual one if empty
	parts  []scriptPart
}

type scriptPart struct{ name, media, content string }

// form returns the script as clients send it.
func (s script) form(t testing.TB) (body *bytes.Buffer, contentType string) {
	t.Helper()
	if s.date == "" {
		s.date = "2026-11-01"
	}
	meta := fmt.Sprintf(`{"compatibility_date":%q`, s.date)
	if !strings.Contains(s.meta, "main_module") {
		meta += `,"main_module":"index.js"`
	}
	if s.meta != "" {
		meta += "," + s.meta
	}
	parts := []scriptPart{{"metadata", "application/json", meta + "}"}}
	if s.source != "" {
		parts = append(parts, scriptPart{"index.js", "application/javascript+module", s.source})
	}
	body = &bytes.Buffer{}
	w := multipart.NewWriter(body)
	for _, p := range append(parts, s.parts...) {
		header := textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf("form-data; name=%q; filename=%q", p.name, p.name)}, "Content-Type": {p.media}}
		f, err := w.CreatePart(header)
		if err == nil {
			_, err = io.WriteString(f, p.content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return body, w.FormDataContentType()
}

// envelope is an answer of the API.
type envelope struct {
	Success  bool              `json:"success"`
	Errors   []envelopeMessage `json:"errors"`
	Messages []envelopeMessage `json:"messages"`
	Result   json.RawMessage   `json:"result"`
}

type envelopeMessage struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// send uploads a script for an account: with PUT it is deployed, with POST .../versions it is not.
func (p *process) send(method, account, path string, s script) (e envelope, err error) {
	body, contentType := s.form(p.t)
	req, err := http.NewRequest(method, p.API+"/accounts/"+account+"/workers/scripts/"+path, body)
	if err != nil {
		return e, err
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	req.Header.Set("Content-Type", contentType)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return e, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err == nil && !e.Success {
		err = fmt.Errorf("%s %s: status %d: %s", method, path, res.StatusCode, text)
	}
	return e, err
}

// deploy deploys a script of the node's own account and lets it answer on the subdomain.
func (p *process) deploy(name string, s script) *site {
	p.t.Helper()
	if _, err := p.send("PUT", p.AccountID, name, s); err != nil {
		p.t.Fatalf("%v\n%s", err, p.log)
	}
	return siteOf(p.t, p, name)
}

// answer is what a site answered.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request and reads the answer.
func (s *site) do(method, path string, body io.Reader, fields ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.node.Load().HTTP+path, body)
	if err != nil {
		return answer{}, err
	}
	req.Host = s.host
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	res, err := s.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, string(data)}, err
}

// get asks for what has to be answered somehow.
func (s *site) get(path string, fields ...string) answer {
	s.t.Helper()
	a, err := s.do("GET", path, nil, fields...)
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	return a
}

// expect asks for what has to be answered with a status and a text in the body.
func (s *site) expect(path string, status int, text string, fields ...string) answer {
	s.t.Helper()
	a := s.get(path, fields...)
	if a.status != status || !strings.Contains(a.body, text) {
		s.t.Errorf("%s%s: %d %.600q; want %d and %q", s.host, path, a.status, a.body, status, text)
	}
	return a
}

// portOf returns the port of an address.
func portOf(t testing.TB, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(addr, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return port
}
