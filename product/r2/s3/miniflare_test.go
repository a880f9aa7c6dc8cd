package s3_test

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestAsR2 holds what miniflare's simulator of R2's S3 endpoint, which was written by probing R2, is
// held to: codes and sentences of refusals, and R2's quirks.
// Source: cloudflare/workers-sdk packages/miniflare/test/plugins/r2/s3.spec.ts.
func TestRefusesSignaturesAsR2(t *testing.T) {
	f := newFront(t)
	f.put("bucket/key.txt", "x")
	now := time.Now().UTC().Format("20060102T150405Z")
	day := now[:8]
	raw := func(h http.Header) *answer {
		return f.send(ask{path: "bucket/key.txt", tamper: func(r *http.Request) { r.Header = h }})
	}
	auth := func(credential, signed string) string {
		return fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s, SignedHeaders=%s, Signature=%064d", credential, signed, 0)
	}
	full := keyID + "/" + day + "/auto/s3/aws4_request"
	with := func(authorization string) *answer {
		return raw(headers("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD", "X-Amz-Date", now, "Authorization", authorization))
	}
	raw(http.Header{}).want(t, 400, "<Code>InvalidArgument</Code><Message>Authorization</Message>")
	f.send(ask{path: "bucket/key.txt?AWSAccessKeyId=" + keyID + "&Signature=x&Expires=1", tamper: func(r *http.Request) { r.Header = http.Header{} }}).want(t, 400, "<Code>InvalidRequest</Code>", "Please use AWS4-HMAC-SHA256.")
	f.send(ask{path: "bucket/key.txt", secret: "wrong"}).want(t, 403, "<Code>SignatureDoesNotMatch</Code>", "The request signature we calculated does not match the signature you provided. Check your secret access key and signing method.", "<StringToSign>", "<CanonicalRequest>", "<SignatureProvided>")
	f.send(ask{path: "bucket/key.txt", id: strings.Repeat("B", 32)}).want(t, 401, "<Code>Unauthorized</Code>")
	f.send(ask{path: "bucket/missing.txt"}).want(t, 404, "<Code>NoSuchKey</Code>")
	raw(headers("Authorization", "AWS4-HMAC-SHA256 garbage")).want(t, 400, "Missing x-amz-content-sha256")
	f.send(ask{path: "bucket/key.txt", at: time.Now().Add(-time.Hour)}).want(t, 403, "<Code>RequestTimeTooSkewed</Code>")
	f.send(ask{path: "bucket/key.txt", at: time.Now().Add(time.Hour)}).want(t, 403, "<Code>RequestTimeTooSkewed</Code>")
	raw(headers("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD", "Authorization", auth(full, "host;x-amz-date"))).want(t, 400, "<Message>No date provided in x-amz-date nor date header</Message>")
	old := time.Now().UTC().Format(http.TimeFormat)
	raw(headers("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD", "Authorization", auth(full, "host"), "Date", old)).want(t, 400, "<Message>Date provided in &apos;date&apos; header ("+old+") didn&apos;t parse successfully</Message>")
	raw(headers("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD", "Authorization", auth(full, "host"), "X-Amz-Date", "2026-06-12T00:00:00Z")).want(t, 400, "<Message>Date provided in &apos;x-amz-date&apos; header (2026-06-12T00:00:00Z) didn&apos;t parse successfully</Message>")
	with("Basic dXNlcjpwYXNz").want(t, 400, "<Code>InvalidRequest</Code><Message>Please use AWS4-HMAC-SHA256</Message>")
	with(auth(keyID+"/"+day+"/auto", "host")).want(t, 400, "<Message>Credential sigv4 header should have at least 5 slash-separated parts, not 3</Message>")
	with(auth(keyID+"/"+day+"/auto/sqs/aws4_request", "host")).want(t, 400, "<Message>Credential service should be s3, not sqs</Message>")
	with(auth(keyID+"/"+day+"/auto/s3/wat", "host")).want(t, 400, "<Message>Credential termination string should be aws4_request, not wat</Message>")
	with(auth(keyID+"/19990101/auto/s3/aws4_request", "host")).want(t, 400, "<Message>Credential signed date 19990101 does not match "+day+" from &apos;x-amz-date&apos; header</Message>")
	with(auth(full, "x-amz-date")).want(t, 401, "<Code>Unauthorized</Code>")
	f.send(ask{path: "bucket/key.txt", region: "mars-1"}).want(t, 400, "<Code>InvalidRegionName</Code>")
	for _, region := range []string{"us-east-1", "auto", "weur"} {
		f.send(ask{path: "bucket/key.txt", region: region}).want(t, 200)
	}
	f.send(ask{path: "bucket/key.txt", header: headers("X-Amz-Security-Token", "bogus")}).want(t, 400, "<Message>X-Amz-Security-Token</Message>")
	f.send(ask{path: "bucket/hash.txt", method: "PUT", body: "actual body", hash: hexSum("a different body")}).want(t, 400, "<Code>XAmzContentSHA256Mismatch</Code>")
	f.send(ask{path: "bucket/hash.txt"}).want(t, 404)
	f.send(ask{path: "bucket/hash.txt", method: "PUT", body: "any body at all", hash: "UNSIGNED-PAYLOAD"}).want(t, 200)
	f.send(ask{path: "bucket/hash.txt", method: "PUT", body: "x", hash: "nonsense"}).want(t, 400, "<Code>InvalidArgument</Code>")
	// A header that was added to what was signed changes nothing: it is refused.
	f.send(ask{path: "bucket/stolen", method: "PUT", tamper: func(r *http.Request) { r.Header.Set("X-Amz-Copy-Source", "/bucket/key.txt") }}).want(t, 403, "<Code>AccessDenied</Code>", "x-amz-copy-source")
}

func TestReadsAndWritesAsR2(t *testing.T) {
	f := newFront(t)
	f.send(ask{path: "not-a-bucket/key.txt"}).want(t, 404, "<Code>NoSuchBucket</Code>")
	f.send(ask{path: "not-a-bucket/key.txt", secret: "wrong"}).want(t, 403, "<Code>SignatureDoesNotMatch</Code>")
	if a := f.send(ask{method: "HEAD", path: "not-a-bucket/key.txt"}).want(t, 404); a.body != "" {
		t.Errorf("HEAD has a body: %q", a.body)
	}
	a := f.put("bucket/put.txt", "0123456789", "Content-Type", "text/markdown", "Cache-Control", "max-age=60", "X-Amz-Meta-Hello", "world")
	sum := md5.Sum([]byte("0123456789"))
	if got, want := a.Header.Get("Etag"), `"`+hex.EncodeToString(sum[:])+`"`; got != want {
		t.Errorf("ETag = %s, want %s", got, want)
	}
	a = f.send(ask{path: "bucket/put.txt"}).want(t, 200, "0123456789")
	for name, want := range map[string]string{"Content-Type": "text/markdown", "Cache-Control": "max-age=60", "X-Amz-Meta-Hello": "world", "Accept-Ranges": "bytes", "Content-Length": "10"} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	for _, key := range []string{"späcial dir/key with spaces+(parens)&'quote.txt", "literal 100%/a%2Bb.txt", "//two slashes//", "../..", "a?b#c", "\u202e\U0001F600"} {
		path := "bucket/" + strings.ReplaceAll(encode(key), "%2F", "/")
		f.put(path, key)
		if a := f.send(ask{path: path}).want(t, 200); a.body != key {
			t.Errorf("Get(%q) = %q", key, a.body)
		}
	}
	f.send(ask{method: "POST", path: "bucket/posted.txt", body: "posted"}).want(t, 200)
	f.send(ask{method: "POST", path: "bucket/posted.txt", body: "body wins", header: headers("X-Amz-Copy-Source", "bucket/put.txt")}).want(t, 200)
	f.send(ask{path: "bucket/posted.txt"}).want(t, 200, "body wins")
	if a := f.send(ask{method: "HEAD", path: "bucket/put.txt"}).want(t, 200); a.ContentLength != 10 {
		t.Errorf("HEAD says %d bytes", a.ContentLength)
	}
	for range 2 {
		f.send(ask{method: "DELETE", path: "bucket/posted.txt"}).want(t, 204)
	}
	f.send(ask{path: "bucket/posted.txt"}).want(t, 404)
}

func TestConditionsAndRangesAsR2(t *testing.T) {
	f := newFront(t)
	etag := f.put("bucket/range.txt", "0123456789").Header.Get("Etag")
	get := func(pairs ...string) *answer { return f.send(ask{path: "bucket/range.txt", header: headers(pairs...)}) }
	get("If-None-Match", etag).want(t, 304)
	get("If-Match", `"0123456789abcdef0123456789abcdef"`).want(t, 412, "<Code>PreconditionFailed</Code>")
	get("If-Match", etag).want(t, 200)
	get("If-Modified-Since", time.Now().UTC().Format(http.TimeFormat)).want(t, 304)
	get("If-Unmodified-Since", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)).want(t, 412)
	get("If-Unmodified-Since", get().Header.Get("Last-Modified")).want(t, 200)
	for _, c := range []struct{ value, want string }{{"*", ""}, {etag, ""}} {
		f.send(ask{method: "PUT", path: "bucket/range.txt", body: "y", header: headers("If-None-Match", c.value)}).want(t, 412, "<Code>PreconditionFailed</Code>")
	}
	f.send(ask{method: "PUT", path: "bucket/absent.txt", body: "y", header: headers("If-Match", etag)}).want(t, 412)
	f.send(ask{method: "PUT", path: "bucket/absent.txt", body: "y", header: headers("If-None-Match", "*")}).want(t, 200)
	for _, c := range []struct{ ask, body, range_ string }{
		{"bytes=2-4", "234", "bytes 2-4/10"}, {"bytes=-3", "789", "bytes 7-9/10"}, {"bytes=5-", "56789", "bytes 5-9/10"},
		{"bytes=5-99999999999999999999", "56789", "bytes 5-9/10"}, {"bytes=-99", "0123456789", "bytes 0-9/10"}, {"bytes=0-9223372036854775807", "0123456789", "bytes 0-9/10"},
	} {
		a := get("Range", c.ask).want(t, 206)
		if got := a.Header.Get("Content-Range"); got != c.range_ || a.body != c.body {
			t.Errorf("%s: %q, %s", c.ask, a.body, got)
		}
	}
	get("Range", "bytes=99999-").want(t, 416, "<Code>InvalidRange</Code>")
	get("Range", "bytes=-0").want(t, 416, "<Code>InvalidRange</Code>")
	get("Range", "bytes=zzz").want(t, 400, "&apos;bytes=-suffix&apos;.&apos;</Message>")
	get("Range", "bytes=5-2").want(t, 400, "<Message>range must be positive.</Message>")
	a := f.send(ask{method: "HEAD", path: "bucket/range.txt", header: headers("Range", "bytes=0-4")}).want(t, 206)
	if a.Header.Get("Content-Range") != "bytes 0-4/10" || a.ContentLength != 5 {
		t.Errorf("HEAD of a range: %v", a.Header)
	}
}

func TestHeadersAsR2(t *testing.T) {
	f := newFront(t)
	sum := func(s string) string { m := md5.Sum([]byte(s)); return base64.StdEncoding.EncodeToString(m[:]) }
	put := func(pairs ...string) *answer {
		return f.send(ask{method: "PUT", path: "bucket/x.txt", body: "data", header: headers(pairs...)})
	}
	put("Content-Md5", sum("data")).want(t, 200)
	put("Content-Md5", sum("other")).want(t, 400, "<Code>BadDigest</Code>")
	put("Content-Md5", "not-base64!!!").want(t, 400, "<Code>InvalidDigest</Code>")
	put("Content-Md5", "").want(t, 400, "<Code>InvalidDigest</Code>")
	put("X-Amz-Storage-Class", "STANDARD").want(t, 200)
	put("X-Amz-Storage-Class", "STANDARD_IA").want(t, 200)
	if got := f.send(ask{method: "HEAD", path: "bucket/x.txt"}).Header.Get("X-Amz-Storage-Class"); got != "STANDARD_IA" {
		t.Errorf("storage class %q", got)
	}
	put("X-Amz-Storage-Class", "GLACIER").want(t, 400, "<Code>InvalidStorageClass</Code>")
	put("X-Amz-Tagging", "a=b").want(t, 501, "Header &apos;x-amz-tagging&apos; with value &apos;a=b&apos; not implemented")
	f.send(ask{path: "bucket/x.txt", header: headers("X-Amz-Tagging", "a=b")}).want(t, 200)
	put("X-Amz-Mfa", "device 123456").want(t, 200)
	f.send(ask{method: "DELETE", path: "bucket/x.txt", header: headers("X-Amz-Mfa", "device 123456")}).want(t, 501)
	put("X-Amz-Acl", "public-read").want(t, 200)
	put("X-Amz-Acl", "lol-no").want(t, 501)
	put("X-Amz-Server-Side-Encryption", "AES256").want(t, 200)
	put("X-Amz-Server-Side-Encryption", "aws:kms").want(t, 501)
	put("X-Amz-Foobar", "whatever").want(t, 200)
	put("X-Amz-Expected-Bucket-Owner", "me").want(t, 501)
}

func TestCustomerKeys(t *testing.T) {
	f := newFront(t)
	key := strings.Repeat("\x07", 32)
	m := md5.Sum([]byte(key))
	const prefix = "X-Amz-Server-Side-Encryption-Customer-"
	set := func(algorithm, key, sum string) []string {
		var pairs []string
		for name, v := range map[string]string{"Algorithm": algorithm, "Key": key, "Key-Md5": sum} {
			if v != "" {
				pairs = append(pairs, prefix+name, v)
			}
		}
		return pairs
	}
	k, s := base64.StdEncoding.EncodeToString([]byte(key)), base64.StdEncoding.EncodeToString(m[:])
	f.put("bucket/plain.txt", "x")
	get := func(path string, pairs ...string) *answer { return f.send(ask{path: path, header: headers(pairs...)}) }
	get("bucket/plain.txt", set("AES256", "", "")...).want(t, 400, "must provide an appropriate secret key.")
	get("bucket/plain.txt", set("AES256", k, "")...).want(t, 400, "must provide the client calculated MD5 of the secret key.")
	get("bucket/plain.txt", set("", k, s)...).want(t, 400, "must provide a valid encryption algorithm.")
	get("bucket/plain.txt", set("AES128", k, s)...).want(t, 400, "<Code>InvalidEncryptionAlgorithmError</Code><Message>The encryption request that you specified is not valid. The valid value is AES256.</Message>")
	get("bucket/plain.txt", set("AES256", k, s)...).want(t, 400, "<Code>InvalidRequest</Code>", "The encryption parameters are not applicable to this object.")
	both := headers(append(set("AES256", k, s), "X-Amz-Server-Side-Encryption", "AES256")...)
	f.send(ask{method: "PUT", path: "bucket/both.txt", body: "x", header: both}).want(t, 400, "<Code>InvalidArgument</Code>")
	a := f.put("bucket/sealed.txt", noise(100_000), set("AES256", k, s)...)
	if a.Header.Get(prefix+"Key-Md5") != s || a.Header.Get(prefix+"Key") != "" {
		t.Errorf("answer to a put with a key: %v", a.Header)
	}
	get("bucket/sealed.txt").want(t, 400, "<Code>InvalidRequest</Code>")
	other := strings.Repeat("\x08", 32)
	m = md5.Sum([]byte(other))
	get("bucket/sealed.txt", set("AES256", base64.StdEncoding.EncodeToString([]byte(other)), base64.StdEncoding.EncodeToString(m[:]))...).want(t, 403, "<Code>AccessDenied</Code>")
	if a := get("bucket/sealed.txt", set("AES256", k, s)...).want(t, 200); a.body != noise(100_000) {
		t.Errorf("sealed object reads as %d other bytes", len(a.body))
	}
	f.send(ask{method: "HEAD", path: "bucket/sealed.txt"}).want(t, 400)
}

var (
	keysIn     = regexp.MustCompile(`<Key>([^<]*)</Key>`)
	prefixesIn = regexp.MustCompile(`<CommonPrefixes><Prefix>([^<]*)</Prefix>`)
)

func found(re *regexp.Regexp, s string) string {
	var all []string
	for _, m := range re.FindAllStringSubmatch(s, -1) {
		all = append(all, m[1])
	}
	return strings.Join(all, " ")
}

func TestListsAsR2(t *testing.T) {
	f := newFront(t)
	for _, k := range []string{"ls/a.txt", "ls/b.txt", "ls/sub/c.txt", "nm/a.txt", "nm/sub/c.txt", "nm/z.txt"} {
		f.put("bucket/"+k, "xxx")
	}
	list := func(query string) *answer { return f.send(ask{path: "bucket?" + query}) }
	check := func(a *answer, keys, prefixes string) {
		t.Helper()
		a.want(t, 200)
		if k, p := found(keysIn, a.body), found(prefixesIn, a.body); k != keys || p != prefixes {
			t.Errorf("keys %q, prefixes %q; want %q, %q: %s", k, p, keys, prefixes, a.body)
		}
	}
	a := list("list-type=2&prefix=ls/")
	check(a, "ls/a.txt ls/b.txt ls/sub/c.txt", "")
	a.want(t, 200, "<KeyCount>3</KeyCount>", "<IsTruncated>false</IsTruncated>", "<StorageClass>STANDARD</StorageClass>", "<Size>3</Size>", "<Name>bucket</Name>")
	check(list("list-type=2&prefix=ls/&delimiter=/"), "ls/a.txt ls/b.txt", "ls/sub/")
	a = list("list-type=2&prefix=ls/&max-keys=2")
	check(a, "ls/a.txt ls/b.txt", "")
	token := regexp.MustCompile(`<NextContinuationToken>([^<]*)<`).FindStringSubmatch(a.body)[1]
	a = list("list-type=2&prefix=ls/&max-keys=2&continuation-token=" + token)
	check(a, "ls/sub/c.txt", "")
	a.want(t, 200, "<IsTruncated>false</IsTruncated>")
	check(list("list-type=2&prefix=ls/&start-after=ls/b.txt"), "ls/sub/c.txt", "")
	check(list("prefix=ls/&marker=ls/a.txt"), "ls/b.txt ls/sub/c.txt", "")
	a = list("prefix=nm/&delimiter=/&max-keys=2").want(t, 200, "<NextMarker>nm/sub/</NextMarker>", "<IsTruncated>true</IsTruncated>")
	check(a, "nm/a.txt", "nm/sub/")
	check(list("prefix=nm/&delimiter=/&marker=nm/sub/"), "nm/z.txt", "")
	list("list-type=2&prefix=ls/sub&encoding-type=url").want(t, 200, "<Key>ls%2Fsub%2Fc.txt</Key>", "<Prefix>ls%2Fsub</Prefix>", "<EncodingType>url</EncodingType>")
	zero := list("prefix=ls/&max-keys=0").want(t, 200, "<IsTruncated>true</IsTruncated>", "<MaxKeys>0</MaxKeys>")
	if strings.Contains(zero.body, "<Contents>") {
		t.Errorf("max-keys=0 lists: %s", zero.body)
	}
	list("prefix=ls/&max-keys=1.5").want(t, 200, "<MaxKeys>1</MaxKeys>")
	for _, bad := range []string{"", "Infinity", "abc", "-1", "NaN"} {
		list("max-keys="+bad).want(t, 400, "<Code>InvalidMaxKeys</Code><Message>MaxKeys params must be positive integer &lt;= 1000.</Message>")
	}
	list("encoding-type=weird").want(t, 501, "Unrecognized encoding-type &quot;weird&quot; not implemented")
	list("foobar=1").want(t, 501, "<Message>ListObjectsV1 search parameter foobar not implemented</Message>")
	list("list-type=2&foobar=1").want(t, 501, "<Message>ListObjectsV2 search parameter foobar not implemented</Message>")
	list("list-type=3").want(t, 501, "<Message>ListObjectsV3 not implemented</Message>")
	list("continuation-token=x").want(t, 400, "<Message>continuation-token not supported in ListObjects</Message>")
}

func TestDeletesManyAsR2(t *testing.T) {
	f := newFront(t)
	f.put("bucket/a", "x")
	f.put("bucket/b", "x")
	del := func(body string) *answer { return f.send(ask{method: "POST", path: "bucket?delete", body: body}) }
	a := del("<Delete><Quiet>true</Quiet><Object><Key>a</Key></Object><Object><Key>b</Key></Object><Object><Key>missing</Key></Object></Delete>").want(t, 200, "<DeleteResult")
	if got := found(keysIn, a.body); got != "a b missing" {
		t.Errorf("deleted %q", got)
	}
	f.send(ask{path: "bucket/a"}).want(t, 404)
	var many strings.Builder
	for i := range 1001 {
		fmt.Fprintf(&many, "<Object><Key>k%d</Key></Object>", i)
	}
	for _, bad := range []string{
		"<Delete><Quiet>TRUE</Quiet><Object><Key>x</Key></Object></Delete>", "<NotDelete/>", "<Delete></Delete>", "", "<Delete>", "<Delete><Object><NotKey>x</NotKey></Object></Delete>",
		"<Delete>" + many.String() + "</Delete>", `<!DOCTYPE x [<!ENTITY a "b">]><Delete><Object><Key>&a;</Key></Object></Delete>`,
	} {
		del(bad).want(t, 400, "<Code>MalformedXML</Code>")
	}
}

func TestCopiesAsR2(t *testing.T) {
	f := newFront(t)
	f.addBucket(account, "other-bucket")
	f.put("bucket/copy/src.txt", "copy me", "Content-Type", "text/csv", "X-Amz-Meta-Original", "yes")
	f.put("other-bucket/cross.txt", "from the other bucket")
	cp := func(to, from string, pairs ...string) *answer {
		return f.send(ask{method: "PUT", path: to, header: headers(append(pairs, "X-Amz-Copy-Source", from)...)})
	}
	cp("bucket/copy/dst.txt", "/bucket/copy/src.txt").want(t, 200, "<CopyObjectResult", "<ETag>", "<LastModified>")
	a := f.send(ask{path: "bucket/copy/dst.txt"}).want(t, 200, "copy me")
	if a.Header.Get("Content-Type") != "text/csv" || a.Header.Get("X-Amz-Meta-Original") != "yes" {
		t.Errorf("copy has %v", a.Header)
	}
	cp("bucket/copy/dst.txt", "/bucket/copy/src.txt", "X-Amz-Metadata-Directive", "REPLACE", "Content-Type", "application/json", "X-Amz-Meta-New", "1").want(t, 200)
	a = f.send(ask{path: "bucket/copy/dst.txt"}).want(t, 200, "copy me")
	if a.Header.Get("Content-Type") != "application/json" || a.Header.Get("X-Amz-Meta-Original") != "" || a.Header.Get("X-Amz-Meta-New") != "1" {
		t.Errorf("copy with REPLACE has %v", a.Header)
	}
	cp("bucket/copy/dst.txt", "/bucket/copy/src.txt", "X-Amz-Metadata-Directive", "MERGE", "X-Amz-Meta-New", "1").want(t, 200)
	a = f.send(ask{path: "bucket/copy/dst.txt"}).want(t, 200, "copy me")
	if a.Header.Get("Content-Type") != "text/csv" || a.Header.Get("X-Amz-Meta-Original") != "yes" || a.Header.Get("X-Amz-Meta-New") != "1" {
		t.Errorf("copy with MERGE has %v", a.Header)
	}
	cp("bucket/cross-copied.txt", "other-bucket/cross.txt").want(t, 200)
	f.send(ask{path: "bucket/cross-copied.txt"}).want(t, 200, "from the other bucket")
	cp("bucket/x", "/bucket/copy/nope.txt").want(t, 404, "<Code>NoSuchKey</Code>")
	cp("bucket/x", "/no-such-bucket/x.txt").want(t, 404, "<Code>NoSuchBucket</Code>")
	cp("bucket/x", "/bucket/copy/src.txt", "X-Amz-Copy-Source-If-Match", `"0123456789abcdef0123456789abcdef"`).want(t, 412, "<Code>PreconditionFailed</Code>")
	cp("bucket/x", "/bucket/copy/src.txt", "Cf-Copy-Destination-If-Match", `"0123456789abcdef0123456789abcdef"`).want(t, 412)
	cp("bucket/x", "/bucket/copy/src.txt", "X-Amz-Metadata-Directive", "WAT").want(t, 400, "metadata directive WAT.")
	cp("bucket/x", "no-slash").want(t, 400, "copy source bucket name")
	f.put("bucket/copy/sp%20ace.txt", "spaced")
	cp("bucket/copy/dst-encoded.txt", "/bucket/copy/sp%20ace.txt").want(t, 200)
	cp("bucket/copy/sp%20ace.txt", "/bucket/copy/sp%20ace.txt").want(t, 200, "<CopyObjectResult")
	f.send(ask{path: "bucket/copy/sp%20ace.txt"}).want(t, 200, "spaced")
}
