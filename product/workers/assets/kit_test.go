package assets_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"selvage/edge"
	"selvage/engine/blob"
	"selvage/foundation/clock"
	"selvage/product"
	"selvage/product/workers/assets"
	"selvage/spec"
)

// kit is a store with its blobs and a clock that stands.
type kit struct {
	t     testing.TB
	dir   string
	now   *time.Time
	blobs *blob.Store
	store *assets.Store
}

func newKit(t testing.TB) *kit {
	t.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	k := &kit{t: t, dir: t.TempDir(), now: &now}
	return k.again()
}

// again opens the same folders once more, as the next process does.
func (k *kit) again() *kit {
	k.t.Helper()
	next := *k
	var err error
	if next.blobs, err = blob.Open(k.dir + "/blobs"); err != nil {
		k.t.Fatal(err)
	}
	next.store, err = assets.Open(assets.Options{
		Dir: k.dir + "/assets", Blobs: next.blobs, MaxFiles: 1000, Clock: clock.Fixed(func() time.Time { return *k.now }),
	})
	if err != nil {
		k.t.Fatal(err)
	}
	return &next
}

const (
	alice  = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	mallet = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// call runs the route of that path, such as ".../assets/upload", and returns the result as JSON.
func (k *kit) call(account, suffix string, c product.Call) (map[string]any, error) {
	k.t.Helper()
	if c.Params == nil {
		c.Params = map[string]string{}
	}
	c.Params["account_id"] = account
	c.Account = &spec.Account{ID: account}
	for _, r := range k.store.Routes() {
		if !strings.HasSuffix(r.Path, suffix) {
			continue
		}
		reply, err := r.Handle(context.Background(), &c)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(reply.Result)
		if err != nil {
			k.t.Fatal(err)
		}
		var result map[string]any
		if err := json.Unmarshal(text, &result); err != nil {
			k.t.Fatal(err)
		}
		return result, nil
	}
	k.t.Fatalf("no route %s", suffix)
	return nil, nil
}

// session starts an upload session and returns its token and buckets.
func (k *kit) session(account, script, body string) (token string, buckets [][]string, err error) {
	k.t.Helper()
	result, err := k.call(account, "assets-upload-session", product.Call{Params: map[string]string{"script_name": script}, Body: strings.NewReader(body)})
	if err != nil {
		return "", nil, err
	}
	list, ok := result["buckets"].([]any)
	if !ok {
		k.t.Fatalf("buckets = %v, want a list", result["buckets"])
	}
	for _, b := range list {
		var bucket []string
		for _, hash := range b.([]any) {
			bucket = append(bucket, hash.(string))
		}
		buckets = append(buckets, bucket)
	}
	return result["jwt"].(string), buckets, nil
}

// sendOne uploads a file as wrangler does when the token asks for single uploads. It returns the
// token that completes, if this was the last file.
func (k *kit) sendOne(account, token, hash, kind, content string) (string, error) {
	k.t.Helper()
	result, err := k.call(account, "/upload/{hash}", product.Call{
		Params: map[string]string{"hash": hash}, Body: strings.NewReader(content), Query: url.Values{},
		Header: http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {kind}},
	})
	if err != nil {
		return "", err
	}
	done, _ := result["jwt"].(string)
	return done, nil
}

// site uploads files, whose content is their path, and returns what answers for them.
func (k *kit) site(files []string, config string, v spec.WorkerVersion) *assets.Site {
	k.t.Helper()
	kept, err := assets.Configure(json.RawMessage(config), v.Main != "")
	if err != nil {
		k.t.Fatal(err)
	}
	return k.siteOf(files, kept, v)
}

func (k *kit) siteOf(files []string, kept *spec.WorkerAssets, v spec.WorkerVersion) *assets.Site {
	k.t.Helper()
	m := assets.Manifest{Files: map[string]*assets.File{}}
	for _, path := range files {
		digest, err := k.blobs.PutBytes(context.Background(), []byte(path))
		if err != nil {
			k.t.Fatal(err)
		}
		m.Files[path] = &assets.File{Hash: digest[:32], Size: int64(len(path)), Digest: digest, Type: typeOf(path)}
	}
	text, err := json.Marshal(m)
	if err != nil {
		k.t.Fatal(err)
	}
	if kept.Manifest, err = k.blobs.PutBytes(context.Background(), text); err != nil {
		k.t.Fatal(err)
	}
	v.Assets = kept
	return k.store.Site(alice, &v)
}

func typeOf(path string) string {
	switch {
	case strings.HasSuffix(path, ".html"):
		return "text/html; charset=utf-8"
	case strings.HasSuffix(path, ".css"):
		return "text/css; charset=utf-8"
	case strings.HasSuffix(path, ".txt"):
		return "text/plain; charset=utf-8"
	}
	return ""
}

// exchange is a request to https://example.com.
func exchange(method, target string, header map[string]string) *edge.Exchange {
	ex := &edge.Exchange{}
	path, query, _ := strings.Cut(target, "?")
	ex.Request = edge.Request{Method: method, Scheme: "https", Host: "example.com", Path: path, Query: query}
	for name, value := range header {
		ex.Request.Header.Add(name, value)
	}
	return ex
}
