package s3_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"selvage/engine/state"
	"selvage/engine/volume"
	"selvage/foundation/fault"
	"selvage/product/r2/s3"
	"selvage/product/r2/store"
	"selvage/spec"
)

const (
	account = "0123456789abcdef0123456789abcdef"
	keyID   = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	secret  = "5ebe2294ecd0e0f08eab7690d2a6ee69f0d7b5b8d1ba53b7d5f9d6f6e57ae9f1"
)

// front is a server over a store of its own, and the buckets of its accounts.
type front struct {
	t       testing.TB
	objects *store.Store
	url     string
	host    string

	mu    sync.Mutex // guards the fields below
	snap  *spec.Snapshot
	creds map[string]*s3.Credential
}

// newFront serves one account with the bucket "bucket", which everything is allowed in with keyID.
func newFront(t testing.TB) *front {
	t.Helper()
	dir := t.TempDir()
	db := state.NewShared(filepath.Join(dir, "data"), state.Options{Name: "data", BallastBytes: 1 << 20})
	if err := db.Open(); err != nil {
		t.Fatal(err)
	}
	v, err := volume.OpenLocal(filepath.Join(dir, "volume"), volume.LocalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f := &front{t: t, objects: store.New(store.Options{DB: db, Prefix: "r/", Volume: v}), snap: spec.NewSnapshot(), creds: map[string]*s3.Credential{}}
	f.addAccount(account)
	f.addBucket(account, "bucket")
	f.creds[keyID] = all(secret, account)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.host = l.Addr().String()
	f.url = "http://" + f.host
	server := s3.New(s3.Options{Objects: f.objects, Buckets: f, Lookup: f.lookup})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		db.Close("The test is over.")
	})
	return f
}

// all is a credential that may do everything in some accounts.
func all(secret string, accounts ...string) *s3.Credential {
	return &s3.Credential{Secret: secret, Accounts: accounts, Allows: func(_ s3.Right, id, _ string) bool { return slices.Contains(accounts, id) }}
}

func (f *front) change(changes ...spec.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snap = f.snap.With(f.snap.Version+1, changes)
}

func put(n spec.Noun) spec.Change { return spec.Change{Key: n.Key(), Noun: n} }

func (f *front) addAccount(id string) {
	f.change(put(&spec.Account{ID: id, Name: "Test", CreatedOn: time.Unix(int64(len(f.snap.Accounts)), 0)}))
}

func (f *front) addBucket(accountID, name string) *spec.Bucket {
	b := &spec.Bucket{ID: spec.NewID(), AccountID: accountID, Name: name, StorageClass: spec.ClassStandard, CreatedOn: time.Now()}
	f.change(put(b))
	return b
}

// Snapshot returns what there is.
func (f *front) Snapshot() *spec.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.snap
}

// Create makes a bucket.
func (f *front) Create(_ context.Context, _ spec.Actor, b *spec.Bucket) error {
	if err := b.Validate(); err != nil {
		return err
	}
	if f.Snapshot().StorageOf(b.AccountID).Buckets[b.Name] != nil {
		return fault.New(fault.Conflict, "The bucket you tried to create already exists, and you own it.").WithCode(10004)
	}
	f.change(put(b))
	return nil
}

// Delete removes an empty bucket.
func (f *front) Delete(_ context.Context, _ spec.Actor, b *spec.Bucket) error {
	if u, err := f.objects.Usage(store.Bucket{Account: b.AccountID, ID: b.ID}); err != nil || u.Objects > 0 {
		if err == nil {
			err = fault.New(fault.Conflict, "Not empty.").WithCode(10008)
		}
		return err
	}
	f.change(spec.Change{Key: b.Key()})
	return nil
}

// Edit changes a bucket.
func (f *front) Edit(_ context.Context, _ spec.Actor, b *spec.Bucket, change func(b *spec.Bucket)) error {
	next := *b
	change(&next)
	if err := next.Validate(); err != nil {
		return err
	}
	f.change(put(&next))
	return nil
}

func (f *front) lookup(id, session string, _ netip.Addr) (*s3.Credential, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if session != "" {
		return nil, &s3.Error{Status: 400, Code: "InvalidArgument", Message: "X-Amz-Security-Token"}
	}
	if c := f.creds[id]; c != nil {
		return c, nil
	}
	return nil, fault.New(fault.Unauthenticated, "Unknown.")
}

// ask is a request to send, with what can be wrong with it.
type ask struct {
	method, path string // path with its query
	header       http.Header
	body         string
	host         string
	hash         string // instead of that of body
	id, secret   string
	region       string
	at           time.Time
	tamper       func(r *http.Request) // after signing
}

// answer is what came.
type answer struct {
	*http.Response
	body string
}

// send signs and sends a request.
func (f *front) send(a ask) *answer {
	f.t.Helper()
	r := f.request(a)
	client := &http.Client{Transport: http.DefaultTransport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(r)
	if err != nil {
		f.t.Fatalf("%s %s: %v", a.method, a.path, err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatalf("%s %s: %v", a.method, a.path, err)
	}
	return &answer{res, string(data)}
}

func (f *front) request(a ask) *http.Request {
	f.t.Helper()
	if a.method == "" {
		a.method = http.MethodGet
	}
	r, err := http.NewRequest(a.method, f.url+"/", strings.NewReader(a.body))
	if err != nil {
		f.t.Fatal(err)
	}
	path, query, _ := strings.Cut(a.path, "?")
	r.URL.Opaque, r.URL.RawQuery = "/"+path, query
	r.Host = f.host
	if a.host != "" {
		r.Host = a.host
	}
	if a.header != nil {
		r.Header = a.header.Clone()
	}
	sign(r, "/"+path, query, a)
	if a.tamper != nil {
		a.tamper(r)
	}
	return r
}

// sign is a signer of the tests' own, written from the specification: it shares nothing with the server.
func sign(r *http.Request, path, query string, a ask) {
	id, key, region, at := a.id, a.secret, a.region, a.at
	if id == "" {
		id = keyID
	}
	if key == "" {
		key = secret
	}
	if region == "" {
		region = "auto"
	}
	if at.IsZero() {
		at = time.Now()
	}
	hash := a.hash
	if hash == "" {
		hash = hexSum(a.body)
	}
	stamp := at.UTC().Format("20060102T150405Z")
	r.Header.Set("X-Amz-Date", stamp)
	r.Header.Set("X-Amz-Content-Sha256", hash)
	names := []string{"host"}
	for name := range r.Header {
		names = append(names, strings.ToLower(name))
	}
	slices.Sort(names)
	canonical := r.Method + "\n" + path + "\n" + sortedQuery(query) + "\n"
	for _, name := range names {
		v := strings.Join(r.Header.Values(name), ",")
		if name == "host" {
			v = r.Host
		}
		canonical += name + ":" + strings.TrimSpace(v) + "\n"
	}
	canonical += "\n" + strings.Join(names, ";") + "\n" + hash
	scope := stamp[:8] + "/" + region + "/s3/aws4_request"
	signature := signatureFor(key, region, stamp, canonical)
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s", id, scope, strings.Join(names, ";"), signature))
}

// signature is that of a canonical request; scope is DAY/REGION/s3/aws4_request.
func signature(key, stamp, scope, canonical string) string {
	return signatureFor(key, strings.Split(scope, "/")[1], stamp, canonical)
}

func signatureFor(key, region, stamp, canonical string) string {
	toSign := "AWS4-HMAC-SHA256\n" + stamp + "\n" + stamp[:8] + "/" + region + "/s3/aws4_request\n" + hexSum(canonical)
	return hex.EncodeToString(mac(signingKey(key, region, stamp), toSign))
}

func signingKey(key, region, stamp string) []byte {
	return mac(mac(mac(mac([]byte("AWS4"+key), stamp[:8]), region), "s3"), "aws4_request")
}

func mac(key []byte, s string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(s))
	return m.Sum(nil)
}

func sortedQuery(q string) string {
	if q == "" {
		return ""
	}
	var parts []string
	for _, p := range strings.Split(q, "&") {
		name, value, _ := strings.Cut(p, "=")
		n, _ := url.QueryUnescape(name)
		v, _ := url.QueryUnescape(value)
		parts = append(parts, encode(n)+"="+encode(v))
	}
	slices.Sort(parts)
	return strings.Join(parts, "&")
}

// encode is the encoding of RFC 3986.
func encode(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func hexSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// want checks a status and, if it is a refusal, code and text of the message.
func (a *answer) want(t testing.TB, status int, parts ...string) *answer {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("%s %s: status %d, want %d: %.400s", a.Request.Method, a.Request.URL.Opaque, a.StatusCode, status, a.body)
	}
	for _, p := range parts {
		if !strings.Contains(a.body, p) {
			t.Errorf("%s %s: body has no %q: %.400s", a.Request.Method, a.Request.URL.Opaque, p, a.body)
		}
	}
	return a
}

// put stores an object and checks that.
func (f *front) put(path, body string, header ...string) *answer {
	f.t.Helper()
	return f.send(ask{method: "PUT", path: path, body: body, header: headers(header...)}).want(f.t, 200)
}

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func noise(n int) string { return string(bytes.Repeat([]byte("selvage "), n/8+1)[:n]) }
