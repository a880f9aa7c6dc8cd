package s3

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// The examples of docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html,
// sigv4-query-string-auth.html and sigv4-streaming.html.
const (
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	exampleScope  = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"
)

var exampleTime = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)

func example(method, host, uri string, header map[string]string, signature string) *http.Request {
	u, err := url.ParseRequestURI(uri)
	if err != nil {
		panic(err)
	}
	r := &http.Request{Method: method, Host: host, URL: u, RequestURI: uri, Header: http.Header{}}
	signed := []string{"host"}
	for name, v := range header {
		r.Header.Set(name, v)
		signed = append(signed, strings.ToLower(name))
	}
	slices.Sort(signed)
	r.Header.Set("X-Amz-Date", "20130524T000000Z")
	r.Header.Set("Authorization", algorithm+" Credential="+exampleScope+",SignedHeaders="+strings.Join(append(signed, "x-amz-date"), ";")+",Signature="+signature)
	return r
}

func nobody(string) bool { return false }

func verified(r *http.Request) (*signature, error) {
	t, refusal := readTarget(r, nobody)
	if refusal != nil {
		return nil, refusal
	}
	s, refusal := readSignature(r, t.query, exampleTime)
	if refusal != nil {
		return nil, refusal
	}
	if refusal := s.verify(r, t, new(keyCache), exampleSecret); refusal != nil {
		return nil, refusal
	}
	return s, nil
}

func TestVerifiesExamplesOfAWS(t *testing.T) {
	const host = "examplebucket.s3.amazonaws.com"
	empty := map[string]string{headerSHA256: emptySHA256}
	for name, r := range map[string]*http.Request{
		"get object":   example("GET", host, "/test.txt", map[string]string{headerSHA256: emptySHA256, "Range": "bytes=0-9"}, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
		"lifecycle":    example("GET", host, "/?lifecycle", empty, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
		"list objects": example("GET", host, "/?max-keys=2&prefix=J", empty, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
		"presigned": {Method: "GET", Host: host, Header: http.Header{}, URL: &url.URL{}, RequestURI: "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + url.QueryEscape(exampleScope) +
			"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"},
	} {
		if _, err := verified(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		r.Method = "DELETE"
		if _, err := verified(r); err == nil {
			t.Errorf("%s: another method passes", name)
		}
	}
}

// chunked is the example of a body in signed chunks.
func chunked(t testing.TB) (*signature, string) {
	r := example("PUT", "s3.amazonaws.com", "/examplebucket/chunkObject.txt", map[string]string{
		headerSHA256: signedChunks, "Content-Encoding": "aws-chunked", "Content-Length": "66824", "X-Amz-Decoded-Content-Length": "66560", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY",
	}, "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9")
	r.ContentLength = 66824
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "x-amz-decoded-content-length;x-amz-storage-class;x-amz-date", "x-amz-date;x-amz-decoded-content-length;x-amz-storage-class", 1))
	s, err := verified(r)
	if err != nil {
		t.Fatal(err)
	}
	return s, "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n" + strings.Repeat("a", 65536) +
		"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" + strings.Repeat("a", 1024) +
		"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
}

func TestReadsChunksOfTheExample(t *testing.T) {
	s, body := chunked(t)
	got, err := io.ReadAll(newChunkReader(strings.NewReader(body), s))
	if err != nil || string(got) != strings.Repeat("a", 66560) {
		t.Fatalf("read %d bytes, %v", len(got), err)
	}
	for name, altered := range map[string]string{
		"content":        strings.Replace(body, "aaa", "aba", 1),
		"signature":      strings.Replace(body, "ad80", "ad81", 1),
		"last signature": strings.Replace(body, "b6c6", "b6c7", 1),
		"chunk left out": body[:strings.Index(body, "\r\n400;")+2] + body[strings.LastIndex(body, "0;chunk"):],
		"end left out":   body[:strings.LastIndex(body, "0;chunk")],
		"cut short":      body[:1000],
		"no signature":   strings.Replace(body, ";chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497", "", 1),
		"more behind":    body + "x",
		"no size":        strings.Replace(body, "10000;", "zz;", 1),
		"huge size":      strings.Replace(body, "10000;", "ffffffffffffffff;", 1),
		"trailer":        strings.TrimSuffix(body, "\r\n") + "x-amz-checksum-crc32:AAAAAA==\r\n\r\n",
	} {
		if _, err := io.ReadAll(newChunkReader(strings.NewReader(altered), s)); err == nil {
			t.Errorf("%s: is taken", name)
		}
	}
}

func TestReadsTrailers(t *testing.T) {
	s := &signature{payload: unsignedTrailer}
	for body, want := range map[string]string{
		"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n": "AAAAAA==",
		"5\r\nhello\r\n0\r\nX-Amz-Checksum-Crc32: AAAAAA== \r\n":   "AAAAAA==",
		"5\r\nhello\r\n0\r\n\r\n":                                  "",
	} {
		c := newChunkReader(strings.NewReader(body), s)
		got, err := io.ReadAll(c)
		if err != nil || string(got) != "hello" || c.trailer["x-amz-checksum-crc32"] != want {
			t.Errorf("%q: %q, %v, %v", body, got, c.trailer, err)
		}
	}
	for _, body := range []string{"", "5", "5\r\nhell", "5\r\nhello", "5\r\nhello\r\n", "5\r\nhelloo\r\n0\r\n\r\n", "-1\r\n", "5\r\nhello\r\n0\r\n" + strings.Repeat("a:b\r\n", 2000), strings.Repeat("0", 100<<10)} {
		if _, err := io.ReadAll(newChunkReader(strings.NewReader(body), s)); err == nil {
			t.Errorf("%.40q is taken", body)
		}
	}
}

func FuzzChunks(f *testing.F) {
	s, body := chunked(f)
	f.Add(body, true)
	f.Add("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", false)
	f.Fuzz(func(t *testing.T, in string, signed bool) {
		sign := &signature{payload: unsignedTrailer}
		if signed {
			sign = s
		}
		got, err := io.ReadAll(newChunkReader(strings.NewReader(in), sign))
		if len(got) > len(in) {
			t.Fatalf("%d bytes made of %d", len(got), len(in))
		}
		if err == nil && signed && string(got) != strings.Repeat("a", 66560) {
			t.Fatalf("a signature holds for other content: %d bytes", len(got))
		}
		var e *Error
		if err != nil && !errors.As(err, &e) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("error %v", err)
		}
	})
}

func FuzzCanonical(f *testing.F) {
	f.Add("GET", "/bucket/a%20b?x=1&y=%2F&x=0", "Credential=a/20130524/auto/s3/aws4_request,SignedHeaders=host,Signature=0")
	f.Add("PUT", "//?&&=&a=%zz", "Credential=////////")
	f.Fuzz(func(t *testing.T, method, uri, auth string) {
		r := &http.Request{Method: method, Host: "bucket.s3.localhost", RequestURI: uri, URL: &url.URL{Path: "/"}, Header: http.Header{}}
		r.Header.Set("X-Amz-Date", "20130524T000000Z")
		r.Header.Set(headerSHA256, unsignedPayload)
		r.Header["Authorization"] = []string{algorithm + " " + auth}
		target, refusal := readTarget(r, nobody)
		if refusal != nil {
			return
		}
		one := appendQuery(nil, target.rawQuery, false)
		if again := appendQuery(nil, string(one), false); !bytes.Equal(one, again) {
			t.Fatalf("canonical query of %q is %q, of that %q", target.rawQuery, one, again)
		}
		s, refusal := readSignature(r, target.query, exampleTime)
		if refusal != nil {
			return
		}
		if s.verify(r, target, new(keyCache), exampleSecret) == nil {
			t.Fatalf("a signature holds that nobody made: %q", auth)
		}
	})
}

func FuzzXML(f *testing.F) {
	f.Add([]byte("<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>a</ETag></Part></CompleteMultipartUpload>"))
	f.Add([]byte(`<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Filter><Prefix>p</Prefix></Filter><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>`))
	f.Add([]byte(`<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c completion
		_ = parseXML(data, "CompleteMultipartUpload", &c)
		var l lifecycleConfiguration
		if parseXML(data, "LifecycleConfiguration", &l) == nil {
			for i := range l.Rules {
				_, _ = l.Rules[i].rule()
			}
		}
		var cors corsConfiguration
		_ = parseXML(data, "CORSConfiguration", &cors)
	})
}

func BenchmarkVerify(b *testing.B) {
	r := example("GET", "examplebucket.s3.amazonaws.com", "/test.txt", map[string]string{headerSHA256: emptySHA256, "Range": "bytes=0-9"}, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
	target, _ := readTarget(r, nobody)
	keys := new(keyCache)
	b.ReportAllocs()
	for b.Loop() {
		s, refusal := readSignature(r, target.query, exampleTime)
		if refusal == nil {
			refusal = s.verify(r, target, keys, exampleSecret)
		}
		if refusal != nil {
			b.Fatal(refusal)
		}
	}
}

func BenchmarkChunks(b *testing.B) {
	s, body := chunked(b)
	b.SetBytes(66560)
	for b.Loop() {
		if _, err := io.Copy(io.Discard, newChunkReader(strings.NewReader(body), s)); err != nil {
			b.Fatal(err)
		}
	}
}

func TestReadsHosts(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	for _, c := range []struct{ host, uri, account, bucket, key string }{
		{"127.0.0.1:4430", "/bucket/a/b", "", "bucket", "a/b"},
		{"[::1]:4430", "/bucket/a", "", "bucket", "a"},
		{"localhost:4430", "/bucket/a", "", "bucket", "a"},
		{"bucket.localhost:4430", "/a/b", "", "bucket", "a/b"},
		{"s3.localhost", "/bucket/a", "", "bucket", "a"},
		{"bucket.s3.localhost", "/a", "", "bucket", "a"},
		{"bucket.s3.example.com", "/a%2Fb//c", "", "bucket", "a/b//c"},
		{"files.example.com", "/bucket/", "", "bucket", ""},
		{id + ".r2.cloudflarestorage.com", "/bucket/a", id, "bucket", "a"},
		{id + ".eu.r2.cloudflarestorage.com", "/bucket/a", id, "bucket", "a"},
		{"bucket." + id + ".r2.example.com", "/a", id, "bucket", "a"},
		{strings.Repeat("f", 32) + ".r2.example.com", "/a", "", strings.Repeat("f", 32), "a"},
		{"a.b.c.s3.example.com", "/bucket/a", "", "bucket", "a"},
		{"", "/", "", "", ""},
	} {
		r := &http.Request{Host: c.host, RequestURI: c.uri, URL: &url.URL{}}
		got, refusal := readTarget(r, func(a string) bool { return a == id })
		if refusal != nil || got.account != c.account || got.bucket != c.bucket || got.key != c.key {
			t.Errorf("%s%s: account %q, bucket %q, key %q, %v", c.host, c.uri, got.account, got.bucket, got.key, refusal)
		}
	}
}
