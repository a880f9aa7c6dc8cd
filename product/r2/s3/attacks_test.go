package s3_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestAlteredRequests changes one thing of a request after it was signed. Nothing of what it asks for happens.
func TestAlteredRequests(t *testing.T) {
	f := newFront(t)
	f.put("bucket/secret", "secret")
	f.addBucket(account, "other")
	set := func(name, v string) func(r *http.Request) { return func(r *http.Request) { r.Header.Set(name, v) } }
	for name, a := range map[string]ask{
		"replayed after 16 minutes":    {at: time.Now().Add(-16 * time.Minute)},
		"signed for 16 minutes later":  {at: time.Now().Add(16 * time.Minute)},
		"date moved":                   {at: time.Now().Add(-16 * time.Minute), tamper: set("X-Amz-Date", time.Now().UTC().Format("20060102T150405Z"))},
		"a signed field altered":       {header: headers("X-Amz-Meta-A", "1"), tamper: set("X-Amz-Meta-A", "2")},
		"a signed field left out":      {header: headers("X-Amz-Meta-A", "1"), tamper: func(r *http.Request) { r.Header.Del("X-Amz-Meta-A") }},
		"a signed field twice":         {header: headers("X-Amz-Meta-A", "1"), tamper: func(r *http.Request) { r.Header.Add("X-Amz-Meta-A", "2") }},
		"metadata added":               {tamper: set("X-Amz-Meta-A", "1")},
		"metadata added in lower case": {tamper: func(r *http.Request) { r.Header["x-amz-meta-a"] = []string{"1"} }},
		"a source to copy added":       {tamper: set("X-Amz-Copy-Source", "/bucket/secret")},
		"a session added":              {tamper: set("X-Amz-Security-Token", "x")},
		"a class added":                {tamper: set("X-Amz-Storage-Class", "STANDARD_IA")},
		"another method":               {tamper: func(r *http.Request) { r.Method = "POST" }},
		"another key":                  {tamper: func(r *http.Request) { r.URL.Opaque = "/bucket/target2" }},
		"another bucket":               {tamper: func(r *http.Request) { r.URL.Opaque = "/other/target" }},
		"dots in the path":             {tamper: func(r *http.Request) { r.URL.Opaque = "/bucket/../bucket/target" }},
		"a second slash":               {tamper: func(r *http.Request) { r.URL.Opaque = "/bucket//target" }},
		"a query added":                {tamper: func(r *http.Request) { r.URL.RawQuery = "x-id=PutObject" }},
		"an upload added":              {tamper: func(r *http.Request) { r.URL.RawQuery = "uploads" }},
		"a signature in the query":     {tamper: func(r *http.Request) { r.URL.RawQuery = "X-Amz-Signature=" + strings.Repeat("0", 64) }},
		"another host":                 {tamper: func(r *http.Request) { r.Host = "other.localhost" }},
		"another access key":           {tamper: func(r *http.Request) { replaceAuth(r, keyID, strings.Repeat("b", 32)) }},
		"another region":               {tamper: func(r *http.Request) { replaceAuth(r, "/auto/", "/weur/") }},
		"another body":                 {hash: hexSum("not what is sent")},
		"a body that is not signed":    {tamper: set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")},
		"a body in chunks":             {tamper: set("X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")},
		"fewer fields signed":          {header: headers("X-Amz-Meta-A", "1"), tamper: func(r *http.Request) { replaceAuth(r, ";x-amz-meta-a", "") }},
		"a signature of nothing":       {tamper: func(r *http.Request) { r.Header.Set("Authorization", r.Header.Get("Authorization")[:200]) }},
		"in capitals":                  {tamper: func(r *http.Request) { replaceAuth(r, "Signature=", "Signature=A") }},
	} {
		a.method, a.path = "PUT", "bucket/target"
		if a.body = "content"; strings.HasPrefix(name, "a source") {
			a.body = ""
		}
		if got := f.send(a); got.StatusCode < 400 || got.StatusCode >= 500 {
			t.Errorf("%s = %d %s", name, got.StatusCode, got.body)
		}
	}
	f.send(ask{path: "bucket?list-type=2"}).want(t, 200, "<KeyCount>1</KeyCount>", "<Key>secret</Key>")
	f.send(ask{path: "bucket?uploads"}).want(t, 200, "<IsTruncated>false</IsTruncated>")
	f.send(ask{path: "other?list-type=2"}).want(t, 200, "<KeyCount>0</KeyCount>")
}

func replaceAuth(r *http.Request, old, now string) {
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, now, 1))
}

// TestAlteredPresignedURLs does it with URLs.
func TestAlteredPresignedURLs(t *testing.T) {
	f := newFront(t)
	f.put("bucket/a", "a")
	now := time.Now()
	get, put := f.presign("GET", "bucket/a", now, nil), f.presign("PUT", "bucket/b", now, nil)
	old := f.presign("GET", "bucket/a", now.Add(-2*time.Minute), url.Values{"X-Amz-Expires": {"60"}})
	for name, got := range map[string]*answer{
		"a longer life":            f.fetch("GET", strings.Replace(old, "X-Amz-Expires=60", "X-Amz-Expires=600", 1), ""),
		"two lives":                f.fetch("GET", old+"&X-Amz-Expires=600", ""),
		"two lives in front":       f.fetch("GET", strings.Replace(old, "?", "?X-Amz-Expires=600&", 1), ""),
		"a negative life":          f.fetch("GET", f.presign("GET", "bucket/a", now, url.Values{"X-Amz-Expires": {"-1"}}), ""),
		"to delete":                f.fetch("DELETE", get, ""),
		"to read what was put":     f.fetch("GET", put, ""),
		"another part":             f.fetch("GET", get+"&acl", ""),
		"as an upload":             f.fetch("PUT", put+"&uploadId=x&partNumber=1", "x"),
		"a signature more":         f.fetch("GET", get+"&x-amz-signature=x", ""),
		"nothing signed":           f.fetch("GET", strings.Replace(get, "SignedHeaders=host", "SignedHeaders=", 1), ""),
		"a copy by a field":        f.send(ask{tamper: func(r *http.Request) { f.become(r, "PUT", put, "X-Amz-Copy-Source", "/bucket/a") }}),
		"a session by a field":     f.send(ask{tamper: func(r *http.Request) { f.become(r, "GET", get, "X-Amz-Security-Token", "x") }}),
		"an Authorization as well": f.send(ask{tamper: func(r *http.Request) { f.become(r, "GET", get, "Authorization", "AWS4-HMAC-SHA256 x") }}),
	} {
		if got.StatusCode < 400 || got.StatusCode >= 500 {
			t.Errorf("%s = %d %s", name, got.StatusCode, got.body)
		}
	}
	f.send(ask{path: "bucket?list-type=2"}).want(t, 200, "<KeyCount>1</KeyCount>")
}

// become makes r a request for a URL, with a field.
func (f *front) become(r *http.Request, method, address, name, value string) {
	n, err := http.NewRequest(method, address, http.NoBody)
	if err != nil {
		f.t.Fatal(err)
	}
	*r = *n
	r.URL.Opaque = n.URL.EscapedPath()
	r.Header.Set(name, value)
}

// TestKeysAreNoPaths puts keys that look like paths: each is a key of its own and of its bucket.
func TestKeysAreNoPaths(t *testing.T) {
	f := newFront(t)
	f.addBucket(account, "other")
	f.put("other/key", "of the other bucket")
	keys := map[string]string{ // as they are sent, and what they are
		"../other/key": "../other/key", "%2e%2e/other/key": "../other/key", "/key": "/key", "//key": "//key", "a//b": "a//b", "a/./b": "a/./b", "a/../b": "a/../b",
		".": ".", "..": "..", "%2F": "/", "a%2Fb": "a/b", "a%252Fb": "a%2Fb", "a%5Cb": `a\b`, "%00": "\x00", "a%00b": "a\x00b", "%7F": "\x7f", "+": "+", "%20": " ", "a;b": "a;b",
		"%3Facl": "?acl", "%23x": "#x", "%C2%85": "\u0085", "%E2%80%AE": "\u202e", "%EF%BF%BE": "\ufffe", "bucket": "bucket", "bucket/bucket": "bucket/bucket", "a=b&c": "a=b&c",
	}
	for sent, key := range keys {
		f.send(ask{method: "PUT", path: "bucket/" + sent, body: key}).want(t, 200)
	}
	for sent, key := range keys {
		f.send(ask{path: "bucket/" + sent}).want(t, 200)
		if got := f.send(ask{path: "bucket/" + encode(key)}); got.StatusCode != 200 || got.body != key {
			t.Errorf("%q, put as %q, is %d %q", key, sent, got.StatusCode, got.body)
		}
	}
	f.send(ask{path: "other/key"}).want(t, 200, "of the other bucket")
	f.send(ask{path: "other?list-type=2"}).want(t, 200, "<KeyCount>1</KeyCount>")
	list := f.send(ask{path: "bucket?list-type=2&encoding-type=url"}).want(t, 200)
	for _, key := range keys {
		if !strings.Contains(list.body, "<Key>"+encode(key)+"</Key>") {
			t.Errorf("the list lacks %q", key)
		}
	}
	for _, c := range []struct{ path, code string }{{"bucket%2F..%2Fother/key", "NoSuchBucket"}, {"../other/key", "NoSuchBucket"}, {"%2e%2e/other/key", "NoSuchBucket"}, {"/other/key", "NoSuchBucket"}} {
		if got := f.send(ask{path: c.path}); got.StatusCode < 400 || got.StatusCode >= 500 || strings.Contains(got.body, "of the other") {
			t.Errorf("%s = %d %s", c.path, got.StatusCode, got.body)
		}
	}
}

// TestAlteredChunks sends bodies in signed chunks, with one thing changed on their way. Nothing of them is kept.
func TestAlteredChunks(t *testing.T) {
	f := newFront(t)
	put := func(name string, trailers bool, alter func(body string) string, decoded int) *answer {
		chunks := []string{strings.Repeat("a", 70_000), strings.Repeat("b", 70_000), strings.Repeat("c", 10)}
		kind := "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
		h := headers("X-Amz-Decoded-Content-Length", fmt.Sprint(140_010+decoded), "Content-Encoding", "aws-chunked")
		if trailers {
			kind += "-TRAILER"
			h.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
		}
		return f.send(ask{method: "PUT", path: "bucket/" + name, header: h, hash: kind, tamper: func(r *http.Request) {
			body := alter(signedBody(r, chunks, trailers, sumOf("Crc32", strings.Join(chunks, ""))))
			r.Body, r.ContentLength, r.GetBody = io.NopCloser(strings.NewReader(body)), int64(len(body)), nil
		}})
	}
	same := func(body string) string { return body }
	put("plain", false, same, 0).want(t, 200)
	put("trailer", true, same, 0).want(t, 200)
	parted := func(body string) (first, second, rest string) {
		at := strings.Index(body, "bbbbbbbbbb\r\n") + 12
		begin := strings.Index(body, "aaaaaaaaaa\r\n") + 12
		return body[:begin], body[begin:at], body[at:]
	}
	for name, c := range map[string]struct {
		trailers bool
		alter    func(string) string
		decoded  int
	}{
		"swapped":                 {false, func(b string) string { first, second, rest := parted(b); return second + first + rest }, 0},
		"altered":                 {false, func(b string) string { return strings.Replace(b, "aaa", "aab", 1) }, 0},
		"cut":                     {false, func(b string) string { return b[:100_000] }, 0},
		"without its end":         {false, func(b string) string { return b[:strings.LastIndex(b, "0;chunk")] }, 0},
		"one left out":            {false, func(b string) string { _, second, rest := parted(b); return second + rest }, -70_000},
		"one twice":               {false, func(b string) string { first, second, rest := parted(b); return first + first + second + rest }, 70_000},
		"less than said":          {false, same, 1},
		"more than said":          {false, same, -1},
		"nothing said":            {false, same, -140_010},
		"trailer altered":         {true, func(b string) string { return strings.Replace(b, "crc32:", "crc32:A", 1) }, 0},
		"trailer left out":        {true, func(b string) string { return b[:strings.Index(b, "x-amz-checksum")] + "\r\n" }, 0},
		"trailer unsigned":        {true, func(b string) string { return b[:strings.Index(b, "x-amz-trailer-signature")] + "\r\n" }, 0},
		"trailer of another kind": {true, func(b string) string { return strings.Replace(b, "x-amz-checksum-crc32:", "x-amz-checksum-sha1:", 1) }, 0},
	} {
		if got := put("bad", c.trailers, c.alter, c.decoded); got.StatusCode < 400 || got.StatusCode >= 500 {
			t.Errorf("%s = %d %s", name, got.StatusCode, got.body)
		}
		f.send(ask{method: "HEAD", path: "bucket/bad"}).want(t, 404)
	}
}

// signedBody is a body in chunks that are signed after the request.
func signedBody(r *http.Request, chunks []string, trailers bool, crc string) string {
	stamp, auth := r.Header.Get("X-Amz-Date"), r.Header.Get("Authorization")
	previous := auth[strings.LastIndex(auth, "=")+1:]
	next := func(kind, rest string) string {
		toSign := "AWS4-HMAC-SHA256-" + kind + "\n" + stamp + "\n" + stamp[:8] + "/auto/s3/aws4_request\n" + previous + "\n" + rest
		previous = hex.EncodeToString(mac(signingKey(secret, "auto", stamp), toSign))
		return previous
	}
	var body strings.Builder
	for _, c := range append(chunks, "") {
		fmt.Fprintf(&body, "%x;chunk-signature=%s\r\n%s", len(c), next("PAYLOAD", hexSum("")+"\n"+hexSum(c)), c)
		if c != "" {
			body.WriteString("\r\n")
		}
	}
	if trailers {
		line := "x-amz-checksum-crc32:" + crc
		fmt.Fprintf(&body, "%s\r\nx-amz-trailer-signature:%s\r\n", line, next("TRAILER", hexSum(line+"\n")))
	}
	return body.String() + "\r\n"
}
