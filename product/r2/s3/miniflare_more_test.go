package s3_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

var uploadIn = regexp.MustCompile(`<UploadId>([^<]*)</UploadId>`)

// begin begins an upload and returns its ID.
func (f *front) begin(path string, pairs ...string) string {
	f.t.Helper()
	a := f.send(ask{method: "POST", path: path + "?uploads", header: headers(pairs...)}).want(f.t, 200, "<InitiateMultipartUploadResult", "<Bucket>bucket</Bucket>")
	return uploadIn.FindStringSubmatch(a.body)[1]
}

func (f *front) part(path, upload string, n int, body string) string {
	f.t.Helper()
	return f.send(ask{method: "PUT", path: fmt.Sprintf("%s?uploadId=%s&partNumber=%d", path, upload, n), body: body}).want(f.t, 200).Header.Get("Etag")
}

func completion(parts ...string) string {
	var b strings.Builder
	for i, etag := range parts {
		fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, etag)
	}
	return "<CompleteMultipartUpload>" + b.String() + "</CompleteMultipartUpload>"
}

func TestUploadsInPartsAsR2(t *testing.T) {
	f := newFront(t)
	const path = "bucket/mp/obj.bin"
	id := f.begin(path, "Content-Type", "application/x-thing", "X-Amz-Meta-Mp", "1")
	etag := f.part(path, id, 1, "part-one-data")
	complete := ask{method: "POST", path: path + "?uploadId=" + id, body: completion(etag)}
	a := f.send(complete).want(t, 200, "<Key>mp/obj.bin</Key>", "mp%2Fobj.bin</Location>")
	if !regexp.MustCompile(`<ETag>&quot;[0-9a-f]{32}-1&quot;</ETag>`).MatchString(a.body) {
		t.Errorf("completion says %s", a.body)
	}
	a = f.send(ask{path: path}).want(t, 200, "part-one-data")
	if a.Header.Get("Content-Type") != "application/x-thing" || a.Header.Get("X-Amz-Meta-Mp") != "1" {
		t.Errorf("object has %v", a.Header)
	}
	f.send(complete).want(t, 404, "<Code>NoSuchUpload</Code>")
}

func TestRefusesPartsAsR2(t *testing.T) {
	f := newFront(t)
	const path, some = "bucket/mp/err.bin", `"0123456789abcdef0123456789abcdef"`
	f.send(ask{method: "PUT", path: path + "?uploadId=bogus&partNumber=1", body: "x"}).want(t, 404, "<Code>NoSuchUpload</Code>")
	f.send(ask{method: "DELETE", path: path + "?uploadId=bogus"}).want(t, 404, "<Code>NoSuchUpload</Code>")
	f.send(ask{method: "POST", path: path + "?uploadId=bogus", body: completion(some)}).want(t, 404, "<Code>NoSuchUpload</Code>")
	id := f.begin(path)
	put := func(number string) *answer {
		return f.send(ask{method: "PUT", path: path + "?uploadId=" + id + "&partNumber=" + number, body: "x"})
	}
	for _, n := range []string{"0", "10001", "", "-1"} {
		put(n).want(t, 400, "<Code>InvalidArgument</Code>", "Part number must be an integer between 1 and 10000, inclusive.")
	}
	put("01").want(t, 200)
	put("1.0").want(t, 404, "<Code>RouteNotFound</Code>")
	f.part(path, id, 1, "data")
	complete := func(body string) *answer {
		return f.send(ask{method: "POST", path: path + "?uploadId=" + id, body: body})
	}
	one := func(number string) string {
		return "<CompleteMultipartUpload><Part><PartNumber>" + number + "</PartNumber><ETag>" + some + "</ETag></Part></CompleteMultipartUpload>"
	}
	complete(strings.ReplaceAll(completion(some, some), "<PartNumber>2<", "<PartNumber>1<")).want(t, 400, "<Code>InvalidPart</Code><Message>There was a problem with the multipart upload.</Message>")
	complete(completion(some)).want(t, 400, "<Code>InvalidPart</Code>")
	complete("<wat/>").want(t, 400, "<Code>MalformedXML</Code>")
	for _, n := range []string{"abc", "1.5"} {
		complete(one(n)).want(t, 400, "<Code>MalformedXML</Code>")
	}
	for _, n := range []string{"0", "10001"} {
		complete(one(n)).want(t, 400, "<Code>InvalidPart</Code>")
	}
	complete("<CompleteMultipartUpload></CompleteMultipartUpload>").want(t, 400, "<Code>MalformedXML</Code>")
	complete(completion(f.part(path, id, 1, "tiny1"), f.part(path, id, 2, "tiny2"))).want(t, 400, "<Code>EntityTooSmall</Code>")
	f.send(ask{method: "PUT", path: path + "?uploadId=" + id, body: "not-a-part"}).want(t, 200)
	f.send(ask{path: path}).want(t, 200, "not-a-part")
	f.send(ask{method: "DELETE", path: path + "?uploadId=" + id}).want(t, 204)
	put("1").want(t, 404, "<Code>NoSuchUpload</Code>")
}

func TestCopiesPartsAsR2(t *testing.T) {
	f := newFront(t)
	const path = "bucket/mp/copied.bin"
	f.put("bucket/mp/copy-src.txt", "0123456789")
	id := f.begin(path)
	cp := func(number int, r string) *answer {
		h := headers("X-Amz-Copy-Source", "/bucket/mp/copy-src.txt")
		if r != "" {
			h.Set("X-Amz-Copy-Source-Range", r)
		}
		return f.send(ask{method: "PUT", path: fmt.Sprintf("%s?uploadId=%s&partNumber=%d", path, id, number), header: h})
	}
	a := cp(1, "bytes=0-4").want(t, 200, "<CopyPartResult")
	etag := regexp.MustCompile(`<ETag>([^<]*)<`).FindStringSubmatch(a.body)[1]
	cp(2, "bytes=0-").want(t, 400, "<Message>Invalid x-amz-copy-source-range: bytes=0-</Message>")
	cp(2, "bytes=5-2").want(t, 400, "<Message>x-amz-copy-source-range must be positive.</Message>")
	f.send(ask{method: "POST", path: path + "?uploadId=" + id, body: completion(etag)}).want(t, 200)
	f.send(ask{path: path}).want(t, 200, "01234")
}

func TestRefusesWhatR2DoesNotHave(t *testing.T) {
	f := newFront(t)
	f.put("bucket/x.txt", "x")
	for _, c := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "bucket/x.txt?tagging", 501, "<Message>GetObjectTagging not implemented</Message>"},
		{"PUT", "bucket/x.txt?acl", 501, "<Message>PutObjectAcl not implemented</Message>"},
		{"GET", "bucket/x.txt?attributes", 501, "<Message>GetObjectAttributes not implemented</Message>"},
		{"GET", "bucket/x.txt?torrent", 501, "<Message>GetObjectTorrent not implemented</Message>"},
		{"PUT", "bucket/x.txt?retention", 501, "<Message>PutObjectRetention not implemented</Message>"},
		{"PUT", "bucket/x.txt?legal-hold", 501, "<Message>PutObjectLegalHold not implemented</Message>"},
		{"GET", "bucket?policy", 501, "<Message>GetBucketPolicy not implemented</Message>"},
		{"GET", "bucket?versions", 501, "<Message>ListObjectVersions not implemented</Message>"},
		{"GET", "bucket?intelligent-tiering", 501, "<Message>GetBucketIntelligentTieringConfiguration not implemented</Message>"},
		{"GET", "bucket?policyStatus", 501, "<Message>GetGetBucketPolicyStatus not implemented</Message>"},
		{"GET", "bucket?notification", 501, "GetBucketNotificationConfiguration"},
		{"GET", "bucket?location&foobar=1", 400, "<Message>Search param foobar is unsupported for bucket location</Message>"},
		{"PATCH", "bucket/x.txt", 404, "<Code>RouteNotFound</Code><Message>No route matches this url.</Message>"},
		{"POST", "", 404, "<Code>RouteNotFound</Code>"},
		{"PUT", "bucket?junk&tagging", 501, "<Message>PutBucketTagging not implemented</Message>"},
		{"PUT", "bucket?versioning", 501, "<Message>PutBucketVersioning not implemented</Message>"},
		{"PUT", "bucket?encryption", 501, "<Message>PutBucketEncryption not implemented</Message>"},
		{"PUT", "bucket?website", 501, "<Message>PutBucketWebsite not implemented</Message>"},
		{"PUT", "bucket?object-lock", 501, "<Message>PutObjectLockConfiguration not implemented</Message>"},
		{"DELETE", "bucket?policy", 501, "<Message>DeleteBucketPolicy not implemented</Message>"},
		{"DELETE", "bucket?versioning&junk", 400, "<Message>Unsupported search param(s) &quot;versioning&quot;, &quot;junk&quot; on a DELETE bucket route</Message>"},
		{"PUT", "bucket?junk", 400, "<Message>Unsupported search param(s) &quot;junk&quot; on a PUT bucket route</Message>"},
		{"GET", "bucket?tagging", 404, "<Code>NoSuchTagSet</Code>"},
		{"GET", "bucket?object-lock", 404, "<Code>ObjectLockConfigurationNotFoundError</Code>"},
		{"GET", "bucket?replication", 404, "<Code>ReplicationConfigurationNotFoundError</Code>"},
		{"GET", "?foobar=1", 501, "<Message>ListBuckets search parameter foobar not implemented</Message>"},
		{"DELETE", "bucket/x.txt?tagging", 204, ""}, // deletes the object
		{"GET", "bucket/x.txt", 404, "<Code>NoSuchKey</Code>"},
	} {
		f.send(ask{method: c.method, path: c.path}).want(t, c.status, c.want)
	}
	form := f.send(ask{method: "POST", path: "bucket", body: "x", tamper: func(r *http.Request) { r.Header.Del("Authorization") }})
	form.want(t, 501, "<Message>Presigned post requests are not yet implemented not implemented</Message>")
	if a := f.send(ask{method: "POST", path: "bucket"}).want(t, 200); a.body != "" {
		t.Errorf("POST of a bucket says %q", a.body)
	}
}

func TestBucketsAsR2(t *testing.T) {
	f := newFront(t)
	f.send(ask{method: "HEAD", path: "bucket"}).want(t, 200)
	f.send(ask{method: "HEAD", path: "nothing-here"}).want(t, 404)
	f.send(ask{path: "bucket?location"}).want(t, 200, ">auto</LocationConstraint>")
	f.send(ask{path: "bucket?encryption"}).want(t, 200, "<SSEAlgorithm>AES256</SSEAlgorithm>", "<BucketKeyEnabled>true</BucketKeyEnabled>")
	f.send(ask{path: "bucket?versioning"}).want(t, 200, "<VersioningConfiguration")
	f.send(ask{path: "bucket?acl"}).want(t, 200, "FULL_CONTROL", account)
	f.send(ask{method: "PUT", path: "new-bucket"}).want(t, 200)
	f.send(ask{method: "PUT", path: "new-bucket"}).want(t, 409, "<Code>BucketAlreadyOwnedByYou</Code>")
	f.send(ask{method: "PUT", path: "Bad_Name"}).want(t, 400, "<Code>InvalidBucketName</Code>")
	where := func(l string) string {
		return `<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>` + l + `</LocationConstraint></CreateBucketConfiguration>`
	}
	f.send(ask{method: "PUT", path: "in-weur", body: where("WEUR")}).want(t, 200)
	f.send(ask{path: "in-weur?location"}).want(t, 200, ">weur</LocationConstraint>")
	f.send(ask{method: "PUT", path: "in-mars", body: where("mars")}).want(t, 400, "<Code>InvalidRegionName</Code>")
	a := f.send(ask{}).want(t, 200, "<Name>bucket</Name>", "<Name>in-weur</Name>", "<Name>new-bucket</Name>", "<ID>"+account+"</ID>")
	if strings.Contains(a.body, "mars") {
		t.Errorf("buckets: %s", a.body)
	}
	a = f.send(ask{header: headers("Cf-Max-Keys", "2", "Cf-Prefix", "")}).want(t, 200, "<IsTruncated>true</IsTruncated>")
	rest := f.send(ask{path: "?continuation-token=" + a.Header.Get("Cf-Next-Continuation-Token")}).want(t, 200, "<Name>new-bucket</Name>")
	if strings.Contains(rest.body, "<Name>bucket<") {
		t.Errorf("second page: %s", rest.body)
	}
	f.put("new-bucket/x", "x")
	f.send(ask{method: "DELETE", path: "new-bucket"}).want(t, 409, "<Code>BucketNotEmpty</Code>")
	f.send(ask{method: "DELETE", path: "new-bucket/x"}).want(t, 204)
	f.send(ask{method: "DELETE", path: "new-bucket"}).want(t, 204)
	f.send(ask{method: "DELETE", path: "new-bucket"}).want(t, 404, "<Code>NoSuchBucket</Code>")
	f.put("made-on-put/x", "x", "Cf-Create-Bucket-If-Missing", "true")
	f.send(ask{path: "made-on-put/x"}).want(t, 200)
	f.send(ask{method: "PUT", path: "not-made/x"}).want(t, 404, "<Code>NoSuchBucket</Code>")
	f.send(ask{method: "POST", path: "made-too/x?uploads", header: headers("Cf-Create-Bucket-If-Missing", "true")}).want(t, 200)
}

// presign returns a URL that is signed in its query.
func (f *front) presign(method, path string, at time.Time, query url.Values) string {
	if query == nil {
		query = url.Values{}
	}
	stamp := at.UTC().Format("20060102T150405Z")
	scope := stamp[:8] + "/auto/s3/aws4_request"
	for name, v := range map[string]string{"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": keyID + "/" + scope, "X-Amz-Date": stamp, "X-Amz-SignedHeaders": "host"} {
		if !query.Has(name) {
			query.Set(name, v)
		}
	}
	if !query.Has("X-Amz-Expires") {
		query.Set("X-Amz-Expires", "60")
	}
	q := strings.ReplaceAll(query.Encode(), "+", "%20")
	canonical := method + "\n/" + path + "\n" + sortedQuery(q) + "\nhost:" + f.host + "\n\nhost\nUNSIGNED-PAYLOAD"
	return f.url + "/" + path + "?" + q + "&X-Amz-Signature=" + signature(secret, stamp, scope, canonical)
}

func (f *front) fetch(method, address, body string) *answer {
	f.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.send(ask{tamper: func(r *http.Request) {
		n, err := http.NewRequest(method, address, strings.NewReader(body))
		if err != nil {
			f.t.Fatal(err)
		}
		*r = *n
		r.URL.Opaque = u.EscapedPath()
	}})
}

func TestPresignedURLsAsR2(t *testing.T) {
	f := newFront(t)
	f.put("bucket/presigned.txt", "presigned content")
	now := time.Now()
	good := f.presign("GET", "bucket/presigned.txt", now, nil)
	f.fetch("GET", good, "").want(t, 200, "presigned content")
	f.fetch("PUT", good, "").want(t, 403, "<Code>SignatureDoesNotMatch</Code>")
	f.fetch("PUT", f.presign("PUT", "bucket/put.txt", now, nil), "uploaded").want(t, 200)
	f.send(ask{path: "bucket/put.txt"}).want(t, 200, "uploaded")
	with := func(name, value string) *answer {
		return f.fetch("GET", f.presign("GET", "bucket/presigned.txt", now, url.Values{name: {value}}), "")
	}
	with("X-Amz-Expires", "").want(t, 400, "<Message>X-Amz-Expires should be a number</Message>")
	with("X-Amz-Expires", "700000").want(t, 400, "X-Amz-Expires must be less than a week")
	with("X-Amz-Expires", "604800").want(t, 200)
	f.fetch("GET", f.presign("GET", "bucket/presigned.txt", now.Add(-time.Hour), nil), "").want(t, 403, "<Code>ExpiredRequest</Code>")
	f.fetch("GET", f.presign("GET", "bucket/presigned.txt", now.Add(time.Hour), nil), "").want(t, 403, "<Code>RequestTimeTooSkewed</Code>")
	f.fetch("GET", strings.Replace(good, "presigned.txt", "evil.txt", 1), "").want(t, 403, "<Code>SignatureDoesNotMatch</Code>", "<StringToSign>", "<CanonicalRequest>", "<SignatureProvided>")
	f.fetch("GET", good+"&response-content-type=text/html", "").want(t, 403, "<Code>SignatureDoesNotMatch</Code>")
	f.fetch("GET", f.url+"/bucket/presigned.txt?X-Amz-Credential="+keyID+"/20260611/auto/s3/aws4_request&X-Amz-Date=20260611T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host", "").
		want(t, 400, "Required search parameters X-Amz-Algorithm,  X-Amz-Signature missing")
	a := with("response-content-type", "text/html").want(t, 200)
	if got := a.Header.Get("Content-Type"); got != "text/html" {
		t.Errorf("response-content-type: %q", got)
	}
	// What SDKs move from headers into the query counts as headers do.
	f.fetch("PUT", f.presign("PUT", "bucket/meta.txt", now, url.Values{"x-amz-meta-a": {"b"}, "x-amz-checksum-crc32": {"AAAAAA=="}}), "content").want(t, 200)
	if got := f.send(ask{path: "bucket/meta.txt"}).Header.Get("X-Amz-Meta-A"); got != "b" {
		t.Errorf("metadata of a presigned put: %q", got)
	}
}
