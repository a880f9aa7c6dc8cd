package certs_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"selvage/foundation/clock"
	"selvage/product/certs"
	"selvage/product/producttest"
	"selvage/spec"
)

func TestAuthoritySurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	first := open(t, certs.Options{Dir: dir}, "one.test")
	root, err := os.ReadFile(first.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	second := open(t, certs.Options{Dir: dir}, "one.test")
	if again, err := os.ReadFile(second.CAFile()); err != nil || !bytes.Equal(root, again) {
		t.Errorf("the root changed with a restart: %v", err)
	}
	for name, mode := range map[string]os.FileMode{"local-ca.key.pem": 0o600, "origin-ca.key.pem": 0o600, "ca.pem": 0o644, "origin-ca.pem": 0o644} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want mode %v", name, info, err, mode)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "ca.pem")); bytes.Contains(text, []byte("PRIVATE KEY")) {
		t.Error("the exported root holds the key")
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*.pem.*"))
	if len(left) != 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

// Two processes that start at once, as in a takeover, end up with one authority.
func TestAuthorityIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	made := make([]*certs.Certs, 8)
	for i := range made {
		wg.Go(func() { made[i] = must(certs.New(certs.Options{Dir: dir, State: newMemory(spec.NewSnapshot())})) })
	}
	wg.Wait()
	snap := producttest.Snapshot(1, "one.test")
	roots := open(t, certs.Options{Dir: dir}, "one.test").roots(t)
	for _, c := range made {
		must(c.Prepare(t.Context(), snap)).Commit()
		cert := must(c.Certificate(hello("one.test")))
		if err := verifyLeaf(cert.Leaf, roots, "one.test"); err != nil {
			t.Error(err)
		}
	}
}

func TestDamagedAuthority(t *testing.T) {
	whole := func(dir string) []byte { return must(os.ReadFile(filepath.Join(dir, "local-ca.key.pem"))) }
	tests := []struct {
		name   string
		damage func(dir string) error
		says   string // empty: it starts
	}{
		{"empty", func(d string) error { return os.WriteFile(filepath.Join(d, "local-ca.key.pem"), nil, 0o600) }, "restore it from a backup"},
		{"torn", func(d string) error {
			return os.WriteFile(filepath.Join(d, "local-ca.key.pem"), whole(d)[:300], 0o600)
		}, "restore it from a backup"},
		{"another's key", func(d string) error {
			cert, _ := pem.Decode(whole(d))
			_, key := leaf{hosts: []string{"x.test"}}.make()
			return os.WriteFile(filepath.Join(d, "local-ca.key.pem"), append(pem.EncodeToMemory(cert), key...), 0o600)
		}, "restore it from a backup"},
		{"no authority", func(d string) error {
			chain, key := leaf{hosts: []string{"x.test"}}.make()
			return os.WriteFile(filepath.Join(d, "local-ca.key.pem"), []byte(chain+key), 0o600)
		}, "does not hold an authority"},
		{"root not exported", func(d string) error { return os.Remove(filepath.Join(d, "ca.pem")) }, ""},
		{"a stale export", func(d string) error { return os.WriteFile(filepath.Join(d, "ca.pem"), []byte("old"), 0o644) }, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			h := open(t, certs.Options{Dir: dir}, "one.test")
			before := must(os.ReadFile(h.CAFile()))
			if err := test.damage(dir); err != nil {
				t.Fatal(err)
			}
			_, err := certs.New(certs.Options{Dir: dir, State: h.state})
			if test.says == "" {
				if after := must(os.ReadFile(h.CAFile())); err != nil || !bytes.Equal(before, after) {
					t.Errorf("New = %v, and the root is exported: %t", err, bytes.Equal(before, after))
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "local-ca.key.pem") {
				t.Errorf("New = %v, want the file's name and %q", err, test.says)
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		dir := t.TempDir()
		h := open(t, certs.Options{Dir: dir}, "one.test")
		later := clock.Fixed(func() time.Time { return time.Now().Add(11 * 365 * 24 * time.Hour) })
		if _, err := certs.New(certs.Options{Dir: dir, State: h.state, Clock: later}); err == nil || !strings.Contains(err.Error(), "expired on") {
			t.Errorf("New = %v", err)
		}
	})
}

func TestBadACMEOptions(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "empty.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for says, a := range map[string]certs.ACME{
		"not an https URL": {Directory: "http://ca.test/dir", Agree: true},
		"agreement":        {Directory: "https://ca.test/dir"},
		"MAC key":          {Directory: "https://ca.test/dir", Agree: true, EABKeyID: "x"},
		"no certificate":   {Directory: "https://ca.test/dir", Agree: true, CAFile: filepath.Join(dir, "empty.pem")},
		"no such file":     {Directory: "https://ca.test/dir", Agree: true, CAFile: filepath.Join(dir, "none.pem")},
	} {
		if _, err := certs.New(certs.Options{Dir: t.TempDir(), State: newMemory(spec.NewSnapshot()), ACME: a}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want %q", a, err, says)
		}
	}
}

// TestStrangeACMEServers orders from servers that are not what they should be: nothing is blamed on
// the zone, and handshakes go on.
func TestStrangeACMEServers(t *testing.T) {
	release := make(chan struct{})
	servers := map[string]http.HandlerFunc{
		"garbage": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>hello</html>") },
		"huge": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for range 64 {
				w.Write(bytes.Repeat([]byte(" "), 1<<16))
			}
		},
		"half a directory": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"newNonce":"https://127.0.0.1:1/nonce"}`)
		},
		"error": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusServiceUnavailable) },
	}
	for name, handler := range servers {
		t.Run(name, func(t *testing.T) {
			r, _ := strange(t, handler)
			eventually(t, "the failure can be read", func() bool {
				packs := r.zone(t, "one.test").Packs
				return len(packs) == 1 && packs[0].Failures == 0 && strings.Contains(packs[0].LastError, "cannot be reached or talks nonsense")
			})
			if got := r.names(t, hello("one.test")); len(got) != 2 {
				t.Errorf("one.test gets %v", got)
			}
			if got := call(t, r, "GET", "/zones/{zone_id}/ssl/certificate_packs?status=all", "one.test", ""); !strings.Contains(got, "talks nonsense") {
				t.Errorf("packs: %s", got)
			}
		})
	}
	t.Run("silent", func(t *testing.T) {
		asked := make(chan struct{}, 100)
		r, stop := strange(t, func(_ http.ResponseWriter, q *http.Request) {
			asked <- struct{}{}
			select {
			case <-q.Context().Done():
			case <-release:
			}
		})
		<-asked
		if got := r.names(t, hello("one.test")); len(got) != 2 {
			t.Errorf("while the server is silent one.test gets %v", got)
		}
		began := time.Now()
		stop()
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("stopping took %v", d)
		}
		close(release)
	})
}

// strange runs a Certs with a server that is not one. stop waits for Run to return.
func strange(t *testing.T, handler http.HandlerFunc) (house, func()) {
	t.Helper()
	srv := httptest.NewTLSServer(handler)
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	ca := filepath.Join(dir, "server.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	h := open(t, certs.Options{ACME: certs.ACME{Directory: srv.URL + "/dir", Agree: true, CAFile: ca}}, "one.test")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(stop)
	return h, stop
}

func TestLeftChallengesAreSwept(t *testing.T) {
	h := open(t, certs.Options{ACME: certs.ACME{Directory: "https://127.0.0.1:1/dir", Agree: true}}, "one.test")
	z := h.zone(t, "one.test").Zone
	record := func(id, comment string, age time.Duration) *spec.Record {
		return &spec.Record{ID: id, ZoneID: z.ID, Name: "_acme-challenge.one.test", Type: "TXT", Content: `"x"`, TTL: 60, Comment: comment, CreatedOn: time.Now().Add(-age)}
	}
	const mark = "ACME challenge, set and removed by the node"
	h.put(t, record("old", mark, 2*time.Hour), record("new", mark, time.Minute), record("theirs", "", 2*time.Hour))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	ids := func() string {
		var ids []string
		for _, r := range h.zone(t, "one.test").Records {
			if r.Type == "TXT" {
				ids = append(ids, r.ID)
			}
		}
		return strings.Join(ids, " ")
	}
	eventually(t, "the old record is gone", func() bool { return ids() == "new theirs" })
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestForeignTools has curl and openssl judge what the local CA issues.
func TestForeignTools(t *testing.T) {
	dir := t.TempDir()
	h := open(t, certs.Options{Dir: dir}, "one.test")
	ln := listen(t)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello over TLS") }), TLSConfig: h.TLS().Clone()}
	go srv.ServeTLS(ln, "", "")
	t.Cleanup(func() { srv.Close() })
	connect := fmt.Sprintf("www.one.test:443:127.0.0.1:%d", portOf(ln))
	for _, args := range [][]string{{"--http1.1"}, {"--http2"}, {"--tls-max", "1.2"}} {
		out, err := exec.Command("curl", append(args, "-sS", "--max-time", "10", "--cacert", h.CAFile(), "--connect-to", connect, "https://www.one.test/")...).CombinedOutput()
		if err != nil || string(out) != "hello over TLS" {
			t.Errorf("curl %v: %v\n%s", args, err, out)
		}
	}
	if out, err := exec.Command("curl", "-sS", "--max-time", "10", "--cacert", filepath.Join(dir, "origin-ca.pem"), "--connect-to", connect, "https://www.one.test/").CombinedOutput(); err == nil {
		t.Errorf("curl trusts the edge by the origin CA's root: %s", out)
	}
	leafFile := filepath.Join(dir, "leaf.pem")
	cert := must(h.Certificate(hello("one.test")))
	if err := os.WriteFile(leafFile, []byte(pemOf("CERTIFICATE", cert.Certificate[0])), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "one.test", "-CAfile", h.CAFile(), leafFile).CombinedOutput()
	if err != nil {
		t.Errorf("openssl verify: %v\n%s", err, out)
	}
}
