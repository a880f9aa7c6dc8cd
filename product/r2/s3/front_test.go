package s3_test

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"selvage/product/r2/s3"
)

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// kinds are S3's checksums.
var kinds = map[string]func() hash.Hash{
	"Crc32": func() hash.Hash { return crc32.NewIEEE() }, "Crc32c": func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
	"Sha1": sha1.New, "Sha256": sha256.New, "Crc64nvme": func() hash.Hash { return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)) },
}

func sumOf(kind, body string) string {
	h := kinds[kind]()
	io.WriteString(h, body)
	return b64(h.Sum(nil))
}

func TestChecksums(t *testing.T) {
	f := newFront(t)
	for kind := range kinds {
		for _, body := range []string{"", "hello", noise(200_000)} {
			name := "X-Amz-Checksum-" + kind
			good := sumOf(kind, body)
			a := f.put("bucket/sum", body, name, good)
			if got := a.Header.Get(name); got != good {
				t.Errorf("put of %d bytes answers %s %q, want %q", len(body), name, got, good)
			}
			a = f.send(ask{path: "bucket/sum", header: headers("X-Amz-Checksum-Mode", "ENABLED")}).want(t, 200)
			if got := a.Header.Get(name); got != good || a.Header.Get("X-Amz-Checksum-Type") != "FULL_OBJECT" {
				t.Errorf("get answers %s %q, want %q", name, got, good)
			}
			a = f.send(ask{method: "HEAD", path: "bucket/sum"}).want(t, 200)
			if got := a.Header.Get(name); got != "" {
				t.Errorf("HEAD answers %s though nobody asked", name)
			}
			f.send(ask{method: "PUT", path: "bucket/bad", body: body + "x", header: headers(name, good)}).want(t, 400, "<Code>BadDigest</Code>")
			f.send(ask{method: "PUT", path: "bucket/bad", body: body, header: headers(name, "AAA")}).want(t, 400, "<Code>BadDigest</Code>")
			trailer := fmt.Sprintf("%x\r\n%s\r\n0\r\n", len(body), body)
			if body == "" {
				trailer = "0\r\n"
			}
			chunks := func(sum string) ask {
				return ask{method: "PUT", path: "bucket/trailed", body: trailer + strings.ToLower(name) + ":" + sum + "\r\n\r\n", hash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
					header: headers("X-Amz-Trailer", strings.ToLower(name), "X-Amz-Decoded-Content-Length", fmt.Sprint(len(body)), "Content-Encoding", "aws-chunked")}
			}
			f.send(chunks(sumOf(kind, body+"x"))).want(t, 400, "<Code>BadDigest</Code>")
			f.send(chunks("")).want(t, 400, "<Code>InvalidRequest</Code>")
			a = f.send(chunks(good)).want(t, 200)
			if got := a.Header.Get(name); got != good {
				t.Errorf("put with a trailer answers %q, want %q", got, good)
			}
			a = f.send(ask{path: "bucket/trailed"}).want(t, 200)
			if a.body != body || a.Header.Get("Content-Encoding") != "" {
				t.Errorf("put in chunks of %d bytes reads as %d, encoded %q", len(body), len(a.body), a.Header.Get("Content-Encoding"))
			}
			f.send(ask{method: "DELETE", path: "bucket/trailed"}).want(t, 204)
		}
	}
	f.send(ask{path: "bucket/bad"}).want(t, 404)
	f.send(ask{method: "PUT", path: "bucket/bad", header: headers("X-Amz-Checksum-Crc32", "AAAAAA==", "X-Amz-Checksum-Sha1", sumOf("Sha1", ""))}).want(t, 400)
}

func TestChecksumsOfUploads(t *testing.T) {
	f := newFront(t)
	const path = "bucket/up"
	one, two := noise(5<<20), "the end"
	for kind, composite := range map[string]bool{"Crc32c": true, "Sha256": true, "Crc64nvme": false} {
		id := f.begin(path, "X-Amz-Checksum-Algorithm", strings.ToUpper(kind))
		var b strings.Builder
		joined := kinds[kind]()
		for i, body := range []string{one, two} {
			sum := sumOf(kind, body)
			a := f.send(ask{method: "PUT", path: fmt.Sprintf("%s?uploadId=%s&partNumber=%d", path, id, i+1), body: body, header: headers("X-Amz-Checksum-"+kind, sum)}).want(t, 200)
			fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag><Checksum%s>%s</Checksum%[3]s></Part>", i+1, a.Header.Get("Etag"), strings.ToUpper(kind), sum)
			raw, _ := base64.StdEncoding.DecodeString(sum)
			joined.Write(raw)
		}
		want, kindOf := b64(joined.Sum(nil))+"-2", "COMPOSITE"
		if !composite {
			want, kindOf = sumOf(kind, one+two), "FULL_OBJECT"
		}
		f.send(ask{path: path + "?uploadId=" + id + "&max-parts=1"}).want(t, 200, "<IsTruncated>true</IsTruncated>", "<NextPartNumberMarker>1</NextPartNumberMarker>", "<ChecksumType>"+kindOf)
		f.send(ask{path: path + "?uploadId=" + id + "&part-number-marker=1"}).want(t, 200, "<IsTruncated>false</IsTruncated>", "<PartNumber>2</PartNumber>", "<Size>7</Size>")
		f.send(ask{path: "bucket?uploads"}).want(t, 200, "<UploadId>"+id+"</UploadId>", "<Key>up</Key>")
		complete := ask{method: "POST", path: path + "?uploadId=" + id, body: "<CompleteMultipartUpload>" + b.String() + "</CompleteMultipartUpload>", header: headers("X-Amz-Checksum-"+kind, sumOf(kind, "other"))}
		f.send(complete).want(t, 400, "<Code>BadDigest</Code>")
		complete.header.Set("X-Amz-Checksum-"+kind, want)
		f.send(complete).want(t, 200, want, kindOf)
		a := f.send(ask{path: path, header: headers("X-Amz-Checksum-Mode", "ENABLED")}).want(t, 200)
		if got := a.Header.Get("X-Amz-Checksum-" + kind); got != want || a.body != one+two {
			t.Errorf("%s: %q, want %q; %d bytes", kind, got, want, len(a.body))
		}
		a = f.send(ask{path: path + "?partNumber=2"}).want(t, 206)
		if a.body != two || a.Header.Get("X-Amz-Mp-Parts-Count") != "2" || a.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", len(one), len(one)+6, len(one)+7) {
			t.Errorf("part 2: %q, %v", a.body, a.Header)
		}
		f.send(ask{path: path + "?partNumber=3"}).want(t, 416, "<Code>InvalidPartNumber</Code>")
	}
}

func TestMetadata(t *testing.T) {
	f := newFront(t)
	f.put("bucket/m", "x", "X-Amz-Meta-Plain", "a", "X-Amz-Meta-Word", "=?UTF-8?B?w6TDtsO8?=", "X-Amz-Meta-Raw", "ä€", "Expires", "Thu, 01 Dec 2033 16:00:00 GMT", "Content-Encoding", "br", "Content-Language", "de", "Content-Disposition", "attachment")
	a := f.send(ask{path: "bucket/m"}).want(t, 200)
	for name, want := range map[string]string{
		"X-Amz-Meta-Plain": "a", "X-Amz-Meta-Word": "=?UTF-8?b?w6TDtsO8?=", "X-Amz-Meta-Raw": "=?UTF-8?b?w6Tigqw=?=",
		"Expires": "Thu, 01 Dec 2033 16:00:00 GMT", "Content-Language": "de", "Content-Disposition": "attachment",
	} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	f.send(ask{method: "PUT", path: "bucket/m", header: headers("X-Amz-Meta-Big", strings.Repeat("x", 8192))}).want(t, 400, "<Code>MetadataTooLarge</Code>")
	f.send(ask{method: "PUT", path: "bucket/m", header: headers("X-Amz-Meta-Big", strings.Repeat("x", 8000))}).want(t, 200)
	f.send(ask{method: "PUT", path: "bucket/m", header: headers("X-Amz-Meta-Bad", "\xff")}).want(t, 400)
}

func TestKeysOfEveryPlane(t *testing.T) {
	f := newFront(t)
	var key strings.Builder
	for plane := range rune(17) {
		key.WriteRune(plane<<16 | 0xa1)
	}
	full := key.String()
	full += strings.Repeat("k", 1024-len(full))
	f.put("bucket/"+encode(full), "planes")
	f.send(ask{path: "bucket/" + encode(full)}).want(t, 200, "planes")
	f.send(ask{path: "bucket?list-type=2"}).want(t, 200, "<Key>"+full+"</Key>")
	f.send(ask{method: "PUT", path: "bucket/" + encode(full) + "k", body: "x"}).want(t, 400, "<Code>InvalidObjectName</Code>")
	f.send(ask{method: "PUT", path: "bucket/%FF%FE", body: "x"}).want(t, 400, "<Code>InvalidObjectName</Code>")
	f.put("bucket/%01%0A%22%3C%26", "control")
	f.send(ask{path: "bucket?list-type=2&encoding-type=url"}).want(t, 200, "<Key>%01%0A%22%3C%26</Key>")
	f.send(ask{path: "bucket/%zz"}).want(t, 400)
}

func TestCORS(t *testing.T) {
	f := newFront(t)
	f.put("bucket/x", "x")
	f.send(ask{path: "bucket?cors"}).want(t, 404, "<Code>NoSuchCORSConfiguration</Code>")
	const rules = `<CORSConfiguration><CORSRule><AllowedOrigin>https://*.example.com</AllowedOrigin><AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod>` +
		`<AllowedHeader>x-amz-*</AllowedHeader><AllowedHeader>authorization</AllowedHeader><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>60</MaxAgeSeconds></CORSRule></CORSConfiguration>`
	f.send(ask{method: "PUT", path: "bucket?cors", body: rules}).want(t, 200)
	f.send(ask{path: "bucket?cors"}).want(t, 200, "<AllowedOrigin>https://*.example.com</AllowedOrigin>", "<MaxAgeSeconds>60</MaxAgeSeconds>", "<ExposeHeader>ETag</ExposeHeader>")
	preflight := func(origin, method, wanted string) *answer {
		return f.send(ask{method: "OPTIONS", path: "bucket/x", tamper: func(r *http.Request) {
			r.Header = headers("Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", wanted)
		}})
	}
	a := preflight("https://a.example.com", "PUT", "Authorization, x-amz-date").want(t, 204)
	for name, want := range map[string]string{"Access-Control-Allow-Origin": "https://a.example.com", "Access-Control-Allow-Methods": "GET, PUT", "Access-Control-Allow-Headers": "authorization, x-amz-date", "Access-Control-Max-Age": "60"} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	preflight("https://evil.com", "PUT", "").want(t, 403, "<Code>AccessForbidden</Code>")
	preflight("https://a.example.com", "DELETE", "").want(t, 403)
	preflight("https://a.example.com", "PUT", "cookie").want(t, 403)
	for origin, want := range map[string]string{"https://a.example.com": "https://a.example.com", "https://evil.com": ""} {
		a := f.send(ask{path: "bucket/x", header: headers("Origin", origin)}).want(t, 200)
		if got := a.Header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("a page of %s may read: %q", origin, got)
		}
		f.send(ask{path: "bucket/none", header: headers("Origin", origin)}).want(t, 404)
	}
	f.send(ask{method: "PUT", path: "bucket?cors", body: "<CORSConfiguration><CORSRule><AllowedOrigin>nonsense</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"}).want(t, 400, "<Code>InvalidArgument</Code>")
	f.send(ask{method: "PUT", path: "bucket?cors", body: "<CORSConfiguration/>"}).want(t, 400, "<Code>MalformedXML</Code>")
	f.send(ask{method: "DELETE", path: "bucket?cors"}).want(t, 204)
	preflight("https://a.example.com", "PUT", "").want(t, 403)
}

func TestLifecycle(t *testing.T) {
	f := newFront(t)
	f.send(ask{path: "bucket?lifecycle"}).want(t, 404, "<Code>NoSuchLifecycleConfiguration</Code>")
	put := func(rule string) *answer {
		return f.send(ask{method: "PUT", path: "bucket?lifecycle", body: `<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` + rule + `</LifecycleConfiguration>`})
	}
	put("<Rule><ID>a</ID><Status>Enabled</Status><Filter><Prefix>logs/</Prefix></Filter><Expiration><Days>7</Days></Expiration><Transition><Days>1</Days><StorageClass>STANDARD_IA</StorageClass></Transition>"+
		"<AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>"+
		"<Rule><Status>Disabled</Status><Prefix/><Expiration><Date>2030-01-01T00:00:00.000Z</Date></Expiration></Rule>").want(t, 200)
	rules := f.Snapshot().StorageOf(account).Buckets["bucket"].Lifecycle
	if len(rules) != 2 || rules[0].Delete.Condition.Age() != 7*86400 || rules[0].Conditions.Prefix != "logs/" || rules[1].Enabled || rules[1].ID == "" {
		t.Errorf("rules: %+v", rules)
	}
	f.send(ask{path: "bucket?lifecycle"}).want(t, 200, "<ID>a</ID>", "<Prefix>logs/</Prefix>", "<Expiration><Days>7</Days></Expiration>", "<Transition><Days>1</Days><StorageClass>STANDARD_IA</StorageClass></Transition>",
		"<DaysAfterInitiation>2</DaysAfterInitiation>", "<Date>2030-01-01T00:00:00Z</Date>", "<Status>Disabled</Status>")
	for rule, status := range map[string]int{
		"":                                 400,
		"<Rule><Status>On</Status></Rule>": 400,
		"<Rule><Status>Enabled</Status><Filter/></Rule>":                                                                                              400,
		"<Rule><Status>Enabled</Status><Filter/><Expiration><Days>0</Days></Expiration></Rule>":                                                       400,
		"<Rule><Status>Enabled</Status><Filter/><Expiration><Date>2030-01-01T01:00:00Z</Date></Expiration></Rule>":                                    400,
		"<Rule><Status>Enabled</Status><Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter><Expiration><Days>1</Days></Expiration></Rule>":        501,
		"<Rule><Status>Enabled</Status><Filter/><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule>": 501,
		"<Rule><Status>Enabled</Status><Filter/><Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition></Rule>":                   400,
	} {
		put(rule).want(t, status)
	}
	f.send(ask{method: "DELETE", path: "bucket?lifecycle"}).want(t, 204)
	f.send(ask{path: "bucket?lifecycle"}).want(t, 404)
}

func TestNamesBucketsInHosts(t *testing.T) {
	f := newFront(t)
	f.put("bucket/a/b", "content")
	port := f.host[strings.LastIndex(f.host, ":"):]
	for _, c := range []struct{ host, path string }{
		{"bucket.localhost" + port, "a/b"}, {"bucket.s3.localhost" + port, "a/b"}, {account + ".r2.localhost" + port, "bucket/a/b"}, {"bucket." + account + ".r2.localhost" + port, "a/b"}, {"s3.localhost" + port, "bucket/a/b"},
	} {
		f.send(ask{host: c.host, path: c.path}).want(t, 200, "content")
	}
	f.send(ask{host: "bucket.localhost" + port, path: "?list-type=2"}).want(t, 200, "<Key>a/b</Key>")
	f.send(ask{host: "bucket.localhost" + port, path: "a/b", tamper: func(r *http.Request) { r.Host = "other.localhost" + port }}).want(t, 403, "<Code>SignatureDoesNotMatch</Code>")
}

func TestChoosesTheAccount(t *testing.T) {
	f := newFront(t)
	const second = "ffffffffffffffffffffffffffffffff"
	f.addAccount(second)
	f.addBucket(second, "only-here")
	f.addBucket(second, "bucket")
	f.creds["both"] = all(secret, second, account)
	send := func(host, method, path string) *answer {
		return f.send(ask{id: "both", host: host, method: method, path: path})
	}
	port := f.host[strings.LastIndex(f.host, ":"):]
	send("", "GET", "only-here?list-type=2").want(t, 200)
	send("", "GET", "bucket?list-type=2").want(t, 400, "<Code>InvalidRequest</Code>", "r2.")
	send(second+".r2.localhost"+port, "PUT", "bucket/x").want(t, 200)
	f.send(ask{path: "bucket/x"}).want(t, 404)
	send("", "GET", "").want(t, 200, "<ID>"+account+"</ID>")
	send(second+".r2.localhost"+port, "GET", "").want(t, 200, "<ID>"+second+"</ID>", "<Name>only-here</Name>")
	f.send(ask{host: second + ".r2.localhost" + port}).want(t, 403, "<Code>AccessDenied</Code>")
}

func TestRights(t *testing.T) {
	f := newFront(t)
	f.put("bucket/x", "x")
	with := func(rights ...s3.Right) {
		f.creds["some"] = &s3.Credential{Secret: secret, Accounts: []string{account}, Allows: func(r s3.Right, id, bucket string) bool {
			for _, have := range rights {
				if have == r {
					return id == account
				}
			}
			return false
		}}
	}
	asks := map[string]s3.Right{
		"GET bucket/x": s3.ReadObjects, "HEAD bucket/x": s3.ReadObjects, "GET bucket": s3.ReadObjects, "GET bucket?uploads": s3.ReadObjects, "PUT bucket/y": s3.WriteObjects,
		"DELETE bucket/y": s3.WriteObjects, "POST bucket?delete": s3.WriteObjects, "POST bucket/y?uploads": s3.WriteObjects, "PUT made": s3.WriteBuckets, "DELETE made": s3.WriteBuckets,
		"PUT bucket?cors": s3.WriteBuckets, "GET bucket?cors": s3.ReadBuckets, "GET bucket?lifecycle": s3.ReadBuckets, "PUT bucket?lifecycle": s3.WriteBuckets, "GET ": s3.ReadBuckets,
	}
	for line, right := range asks {
		method, path, _ := strings.Cut(line, " ")
		for _, have := range []s3.Right{s3.ReadObjects, s3.WriteObjects, s3.ReadBuckets, s3.WriteBuckets} {
			with(have)
			a := f.send(ask{id: "some", method: method, path: path})
			if denied := a.StatusCode == 403; denied == (have == right) {
				t.Errorf("%s with right %d: %d %s", line, have, a.StatusCode, a.body)
			}
		}
	}
	with(s3.WriteObjects)
	f.send(ask{id: "some", method: "PUT", path: "bucket/copy", header: headers("X-Amz-Copy-Source", "bucket/x")}).want(t, 403)
	f.send(ask{id: "some", method: "PUT", path: "not-there/x", header: headers("Cf-Create-Bucket-If-Missing", "true")}).want(t, 403)
}

func TestTemporaryCredentials(t *testing.T) {
	f := newFront(t)
	f.addBucket(account, "other-bucket")
	for _, k := range []string{"bucket/in/a", "bucket/one", "bucket/out", "other-bucket/in/a"} {
		f.put(k, "x")
	}
	c := all(secret, account)
	c.Only = &s3.Scope{Bucket: "bucket", Prefixes: []string{"in/"}, Objects: []string{"one"}}
	f.creds["temporary"] = c
	send := func(method, path, body string, pairs ...string) *answer {
		return f.send(ask{id: "temporary", method: method, path: path, body: body, header: headers(pairs...)})
	}
	send("GET", "bucket/in/a", "").want(t, 200)
	send("GET", "bucket/one", "").want(t, 200)
	send("PUT", "bucket/in/new", "x").want(t, 200)
	send("GET", "bucket?list-type=2&prefix=in/", "").want(t, 200, "<Key>in/a</Key>")
	send("GET", "bucket/out", "").want(t, 403, "<Code>AccessDenied</Code>")
	send("PUT", "bucket/out", "x").want(t, 403)
	send("GET", "bucket?list-type=2", "").want(t, 403)
	send("GET", "bucket?list-type=2&prefix=i", "").want(t, 403)
	send("GET", "bucket?uploads", "").want(t, 403)
	send("GET", "other-bucket/in/a", "").want(t, 403)
	send("PUT", "bucket/in/stolen", "", "X-Amz-Copy-Source", "bucket/out").want(t, 403)
	send("PUT", "bucket/in/stolen", "", "X-Amz-Copy-Source", "other-bucket/in/a").want(t, 403)
	send("POST", "bucket?delete", "<Delete><Object><Key>out</Key></Object><Object><Key>in/new</Key></Object></Delete>").want(t, 200, "<Error><Key>out</Key><Code>AccessDenied</Code>", "<Deleted><Key>in/new</Key></Deleted>")
	f.send(ask{path: "bucket/out"}).want(t, 200)
	c.Only = &s3.Scope{Bucket: "bucket", Operations: []string{"GetObject"}}
	send("GET", "bucket/out", "").want(t, 200)
	send("HEAD", "bucket/out", "").want(t, 403)
}

// TestHalfAPut sends a part of a body and goes away, or sends nothing more: nothing of it is left.
func TestHalfAPut(t *testing.T) {
	f := newFront(t)
	for _, size := range []int{1000, 1 << 20} {
		r := f.request(ask{method: "PUT", path: "bucket/half", body: strings.Repeat("x", size)})
		conn, err := net.Dial("tcp", f.host)
		if err != nil {
			t.Fatal(err)
		}
		var head bytes.Buffer
		fmt.Fprintf(&head, "PUT /bucket/half HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", f.host, size)
		r.Header.Write(&head)
		head.WriteString("\r\n" + strings.Repeat("x", size/2))
		conn.Write(head.Bytes())
		conn.(*net.TCPConn).CloseWrite()
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != 400 {
			t.Errorf("half a put: %v, %v", res, err)
		}
		conn.Close()
		f.send(ask{path: "bucket/half"}).want(t, 404)
	}
	f.send(ask{path: "bucket"}).want(t, 200, "<IsTruncated>false</IsTruncated>")
}

// TestContinues lets the client wait for the word before it sends its body, and refuses before.
func TestContinues(t *testing.T) {
	f := newFront(t)
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	defer client.CloseIdleConnections()
	for id, want := range map[string]int{keyID: 200, "unknown": 401} {
		r := f.request(ask{method: "PUT", path: "bucket/continued", body: noise(1 << 20), id: id, header: headers("Expect", "100-continue")})
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("put with Expect as %s: %d", id, res.StatusCode)
		}
	}
}

func TestKeepsConnections(t *testing.T) {
	f := newFront(t)
	conn, err := net.Dial("tcp", f.host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for i, a := range []ask{
		{method: "PUT", path: "bucket/k", body: "hello"}, {path: "bucket/k"}, {path: "bucket/none"}, {method: "HEAD", path: "bucket/none"}, {method: "PUT", path: "bucket/k", body: "refused", secret: "wrong"},
		{method: "DELETE", path: "bucket/k"}, {path: "bucket?list-type=2"},
	} {
		r := f.request(a)
		if err := r.Write(conn); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(in, r)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		io.Copy(io.Discard, res.Body)
	}
}

func TestRefusesHugeThings(t *testing.T) {
	f := newFront(t)
	f.send(ask{path: "bucket/x", header: headers("X-Amz-Meta-A", strings.Repeat("x", 100<<10))}).want(t, 431)
	f.send(ask{method: "POST", path: "bucket?delete", body: strings.Repeat(" ", 9<<20)}).want(t, 400, "<Code>MaxMessageLengthExceeded</Code>")
	f.send(ask{method: "PUT", path: "bucket?cors", body: "<CORSConfiguration>" + strings.Repeat("<a>", 40) + strings.Repeat("</a>", 40) + "</CORSConfiguration>"}).want(t, 400, "<Code>MalformedXML</Code>")
	r := f.request(ask{method: "PUT", path: "bucket/x", hash: "UNSIGNED-PAYLOAD"})
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), 6<<30
	conn, err := net.Dial("tcp", f.host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /bucket/x HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", f.host, int64(6)<<30)
	r.Header.Write(conn)
	io.WriteString(conn, "\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 400 {
		t.Errorf("a put of 6 GiB: %v, %v", res, err)
	}
}

// TestTenThousandParts makes an object of as many parts as there may be.
func TestTenThousandParts(t *testing.T) {
	f := newFront(t)
	id := f.begin("bucket/parts")
	var b strings.Builder
	for n := 1; n <= 10_000; n += 1999 { // the numbers are what counts, five of them big enough
		body := noise(5 << 20)
		fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", n, f.part("bucket/parts", id, n, body))
	}
	fmt.Fprintf(&b, "<Part><PartNumber>10000</PartNumber><ETag>%s</ETag></Part>", f.part("bucket/parts", id, 10_000, "end"))
	f.send(ask{method: "POST", path: "bucket/parts?uploadId=" + id, body: "<CompleteMultipartUpload>" + b.String() + "</CompleteMultipartUpload>"}).want(t, 200)
	var many strings.Builder
	for n := range 10_001 {
		fmt.Fprintf(&many, "<Part><PartNumber>%d</PartNumber><ETag>x</ETag></Part>", n+1)
	}
	f.send(ask{method: "POST", path: "bucket/parts?uploadId=" + id, body: "<CompleteMultipartUpload>" + many.String() + "</CompleteMultipartUpload>"}).want(t, 400, "<Code>MalformedXML</Code>")
}

// zeros is a body of n bytes that takes no room.
type zeros struct{ n int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.n)
	clear(p[:n])
	z.n -= n
	return int(n), nil
}

// TestMemoryOfALargeObject puts and gets an object that is far larger than what may be used for it.
func TestMemoryOfALargeObject(t *testing.T) {
	f := newFront(t)
	const size = 256 << 20
	r := f.request(ask{method: "PUT", path: "bucket/large", hash: "UNSIGNED-PAYLOAD"})
	r.Body, r.ContentLength = io.NopCloser(&zeros{size}), size
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	res, err := http.DefaultClient.Do(r)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("put: %v, %v", res, err)
	}
	res.Body.Close()
	res, err = http.DefaultClient.Do(f.request(ask{path: "bucket/large"}))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err != nil || n != size {
		t.Fatalf("got %d bytes, %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("%d MiB were allocated for an object of %d MiB", used>>20, size>>20)
	}
}

func BenchmarkPut4K(b *testing.B) {
	f := newFront(b)
	body := noise(4096)
	var i uint32
	b.ReportAllocs()
	for b.Loop() {
		i++
		var k [4]byte
		binary.BigEndian.PutUint32(k[:], i)
		f.put(fmt.Sprintf("bucket/%x", k), body)
	}
}

func BenchmarkGet4K(b *testing.B) {
	f := newFront(b)
	f.put("bucket/k", noise(4096))
	b.ReportAllocs()
	for b.Loop() {
		f.send(ask{path: "bucket/k"})
	}
}
