package node_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"selvage/product/hyperdrive/pgtest"
)

// s3Key is what a client of S3 signs with.
type s3Key struct{ id, secret, session string }

// keyOf returns the S3 credential that an API token is.
func keyOf(id, token string) s3Key {
	sum := sha256.Sum256([]byte(token))
	return s3Key{id: id, secret: hex.EncodeToString(sum[:])}
}

// s3Operation is one of S3's, on a bucket BUCKET and, if it has one, a key KEY.
type s3Operation struct {
	method, path, body string
	fields             []string
	writes             bool
}

// s3Operations are all that are served; UPLOAD is that of an upload to the bucket.
var s3Operations = []s3Operation{
	{"HEAD", "BUCKET", "", nil, false}, {"GET", "BUCKET?location", "", nil, false}, {"GET", "BUCKET?cors", "", nil, false},
	{"GET", "BUCKET?lifecycle", "", nil, false}, {"GET", "BUCKET?encryption", "", nil, false}, {"GET", "BUCKET?versioning", "", nil, false},
	{"GET", "BUCKET?acl", "", nil, false}, {"GET", "BUCKET?tagging", "", nil, false}, {"GET", "BUCKET?object-lock", "", nil, false},
	{"GET", "BUCKET?replication", "", nil, false}, {"GET", "BUCKET", "", nil, false}, {"GET", "BUCKET?list-type=2", "", nil, false},
	{"GET", "BUCKET?uploads", "", nil, false}, {"POST", "BUCKET", "", nil, false},
	{"GET", "BUCKET/KEY", "", nil, false}, {"HEAD", "BUCKET/KEY", "", nil, false}, {"GET", "BUCKET/KEY?uploadId=UPLOAD", "", nil, false},
	{"PUT", "BUCKET?cors", `<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>`, nil, true},
	{"DELETE", "BUCKET?cors", "", nil, true}, {"DELETE", "BUCKET?lifecycle", "", nil, true},
	{"PUT", "BUCKET?lifecycle", `<LifecycleConfiguration><Rule><ID>x</ID><Status>Enabled</Status><Filter/><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>`, nil, true},
	{"POST", "BUCKET?delete", `<Delete><Object><Key>KEY</Key></Object></Delete>`, nil, true}, {"DELETE", "BUCKET", "", nil, true},
	{"PUT", "BUCKET/KEY", "stolen", nil, true}, {"PUT", "BUCKET/KEY", "stolen", []string{"Cf-Create-Bucket-If-Missing", "true"}, true}, {"POST", "BUCKET/KEY", "stolen", nil, true},
	{"PUT", "BUCKET/KEY", "", []string{"X-Amz-Copy-Source", "/BUCKET/KEY"}, true}, {"DELETE", "BUCKET/KEY", "", nil, true},
	{"POST", "BUCKET/KEY?uploads", "", nil, true}, {"PUT", "BUCKET/KEY?uploadId=UPLOAD&partNumber=1", "stolen", nil, true},
	{"PUT", "BUCKET/KEY?uploadId=UPLOAD&partNumber=1", "", []string{"X-Amz-Copy-Source", "/BUCKET/KEY"}, true},
	{"POST", "BUCKET/KEY?uploadId=UPLOAD", `<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"x"</ETag></Part></CompleteMultipartUpload>`, nil, true},
	{"DELETE", "BUCKET/KEY?uploadId=UPLOAD", "", nil, true},
}

// s3 sends a signed request. The host may name an account.
func (p *process) s3(k s3Key, host, method, path, body string, fields ...string) reply {
	p.t.Helper()
	address, err := url.Parse(p.S3)
	must(p.t, err)
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.S3+"/"+path, strings.NewReader(body))
	must(p.t, err)
	req.Host = address.Host
	if host != "" {
		req.Host = host + ".r2." + address.Host
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	signS3(req, k, body)
	res, err := http.DefaultClient.Do(req)
	must(p.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(p.t, err)
	return reply{res.StatusCode, string(text)}
}

// signS3 signs as Signature Version 4 asks for, all fields.
func signS3(req *http.Request, k s3Key, body string) {
	stamp, hash := time.Now().UTC().Format("20060102T150405Z"), sha256.Sum256([]byte(body))
	req.Header.Set("X-Amz-Date", stamp)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(hash[:]))
	if k.session != "" {
		req.Header.Set("X-Amz-Security-Token", k.session)
	}
	signed := []string{"host"}
	for name := range req.Header {
		signed = append(signed, strings.ToLower(name))
	}
	slices.Sort(signed)
	query := strings.Split(req.URL.RawQuery, "&")
	for i, part := range query {
		if part != "" && !strings.Contains(part, "=") {
			query[i] += "="
		}
	}
	slices.Sort(query)
	canonical := req.Method + "\n" + req.URL.EscapedPath() + "\n" + strings.Join(query, "&") + "\n"
	for _, name := range signed {
		value := req.Header.Get(name)
		if name == "host" {
			value = req.Host
		}
		canonical += name + ":" + value + "\n"
	}
	canonical += "\n" + strings.Join(signed, ";") + "\n" + hex.EncodeToString(hash[:])
	scope := stamp[:8] + "/auto/s3/aws4_request"
	sum := sha256.Sum256([]byte(canonical))
	key := []byte("AWS4" + k.secret)
	for _, part := range strings.Split(scope, "/") {
		key = keyed(key, part)
	}
	signature := keyed(key, "AWS4-HMAC-SHA256\n"+stamp+"\n"+scope+"\n"+hex.EncodeToString(sum[:]))
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", k.id, scope, strings.Join(signed, ";"), signature))
}

func keyed(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// lend has the node make temporary credentials of a parent for a bucket.
func (a *tenant) lend(parent s3Key, bucket, permission, more string) s3Key {
	a.t.Helper()
	var made struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	must(a.t, a.call("POST", "/accounts/"+a.AccountID+"/r2/temp-access-credentials", fmt.Sprintf(`{"bucket":%q,"parentAccessKeyId":%q,"permission":%q,"ttlSeconds":600%s}`, bucket, parent.id, permission, more), &made))
	return s3Key{made.AccessKeyID, made.SecretAccessKey, made.SessionToken}
}

// signed makes temporary credentials as a client does by itself: a JWT that is signed with the parent's secret.
// claims are more than exp and iss.
func (parent s3Key) signed(claims map[string]any) s3Key {
	return parent.forged(parent.secret, `{"alg":"HS256","typ":"JWT"}`, claims)
}

func (parent s3Key) forged(secret, head string, claims map[string]any) s3Key {
	body := map[string]any{"iss": parent.id, "exp": time.Now().Add(time.Hour).Unix()}
	for name, v := range claims {
		body[name] = v
	}
	text, _ := json.Marshal(body)
	jwt := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + base64.RawURLEncoding.EncodeToString(text)
	jwt += "." + base64.RawURLEncoding.EncodeToString(keyed([]byte(secret), jwt))
	sum := sha256.Sum256([]byte(jwt))
	return s3Key{parent.id, hex.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString([]byte("jwt/" + jwt))}
}

// TestTenantsNeverMeetInS3 sends every operation of S3 on one tenant's bucket with whatever another can sign with, and
// with credentials of its own that are not for that bucket, that key, or for writing.
func TestTenantsNeverMeetInS3(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t)
	node := up(t, t.TempDir(), "--workers-allow", "127.0.0.1/32", "--access-log", "off")
	victim, thief := newTenant(t, node, "victim", pg), newTenant(t, node, "thief", pg)
	bucket, object := victim.params["bucket_name"], victim.params["object_key"]
	own, foreign := keyOf(victim.tokenID, victim.token), keyOf(thief.tokenID, thief.token)
	begun := node.s3(own, "", "POST", bucket+"/"+object+"?uploads", "")
	_, upload, _ := strings.Cut(begun.body, "<UploadId>")
	upload, _, _ = strings.Cut(upload, "<")
	if upload == "" {
		t.Fatalf("no upload: %d %s", begun.status, begun.body)
	}
	must(t, victim.call("POST", "/accounts/"+victim.AccountID+"/r2/buckets", `{"name":"second-bucket"}`, nil))
	limited := func(resources string, rights ...string) s3Key {
		return keyOf(victim.newToken(node, resources, rights...))
	}
	lent := thief.lend(foreign, thief.params["bucket_name"], "admin-read-write", "")
	claims := map[string]any{"sub": victim.AccountID, "bucket": bucket, "scope": "admin-read-write"}
	// What may do nothing there.
	nothing := map[string]s3Key{
		"another account's key":            foreign,
		"another's temporary credential":   lent,
		"a session of another's key":       {own.id, lent.secret, lent.session},
		"another's signed session":         foreign.signed(claims),
		"one signed by another":            own.forged(foreign.secret, `{"alg":"HS256"}`, claims),
		"one that is not signed":           own.forged("", `{"alg":"none"}`, claims),
		"another's bucket of its account":  foreign.signed(map[string]any{"sub": thief.AccountID, "bucket": bucket, "scope": "admin-read-write"}),
		"one of another's issuer":          foreign.signed(map[string]any{"sub": victim.AccountID, "iss": own.id, "bucket": bucket, "scope": "admin-read-write"}),
		"one that has expired":             own.signed(map[string]any{"sub": victim.AccountID, "bucket": bucket, "scope": "admin-read-write", "exp": time.Now().Add(-time.Second).Unix()}),
		"one of a permission that is none": own.signed(map[string]any{"sub": victim.AccountID, "bucket": bucket, "scope": "root"}),
		"one without a permission":         own.signed(map[string]any{"sub": victim.AccountID, "bucket": bucket}),
		"one of an operation that is none": own.signed(map[string]any{"sub": victim.AccountID, "bucket": bucket, "actions": []string{"Everything"}}),
		"one for the second bucket":        own.signed(map[string]any{"sub": victim.AccountID, "bucket": "second-bucket", "scope": "admin-read-write"}),
		"a token for the second bucket":    limited(victim.bucketResource("second-bucket"), "Workers R2 Storage Bucket Item Write"),
		"a loan of the second bucket":      victim.lend(own, "second-bucket", "admin-read-write", ""),
		"a token of other rights":          limited(victim.everything(), "Workers KV Storage Write", "D1 Write", "Queues Write"),
		"a token that is denied it":        keyOf(victim.tokenOf(node, policy{victim.everything(), []string{"Workers R2 Storage Write"}}, policy{victim.bucketResource(bucket), []string{"-Workers R2 Storage Read", "-Workers R2 Storage Bucket Item Read"}})),
		"nobody's key":                     {strings.Repeat("0", 32), own.secret, ""},
		"a key with another's secret":      {own.id, foreign.secret, ""},
	}
	// What may read there and not write.
	reads := map[string]s3Key{
		"a token that reads":          limited(victim.everything(), "Workers R2 Storage Read"),
		"a token that reads items":    limited(victim.bucketResource(bucket), "Workers R2 Storage Bucket Item Read"),
		"a loan that reads":           victim.lend(own, bucket, "admin-read-only", ""),
		"a loan that reads objects":   victim.lend(own, bucket, "object-read-only", ""),
		"a signed session that reads": own.signed(map[string]any{"sub": victim.AccountID, "bucket": bucket, "scope": "object-read-only"}),
		"a loan of one that reads":    victim.lend(limited(victim.everything(), "Workers R2 Storage Read"), bucket, "admin-read-write", ""),
		"a token denied to write":     keyOf(victim.tokenOf(node, policy{victim.everything(), []string{"Workers R2 Storage Write"}}, policy{victim.bucketResource(bucket), []string{"-Workers R2 Storage Write", "-Workers R2 Storage Bucket Item Write"}})),
	}
	// What may do everything there with other keys only.
	elsewhere := map[string]s3Key{
		"a loan of a prefix":            victim.lend(own, bucket, "object-read-write", `,"prefixes":["other/","victim-objecu"]`),
		"a loan of an object":           victim.lend(own, bucket, "object-read-write", `,"objects":["other","victim-object/"]`),
		"a signed session for a prefix": own.signed(map[string]any{"sub": victim.AccountID, "bucket": bucket, "scope": "object-read-write", "paths": map[string]any{"prefixPaths": []string{"other/"}}}),
	}
	before := victim.inventory()
	fill := func(s string) string {
		return strings.NewReplacer("BUCKET", bucket, "KEY", object, "UPLOAD", upload).Replace(s)
	}
	refused := func(who string, k s3Key, o s3Operation) {
		t.Helper()
		var fields []string
		for _, f := range o.fields {
			fields = append(fields, fill(f))
		}
		for _, host := range []string{"", victim.AccountID, thief.AccountID} {
			r := node.s3(k, host, o.method, fill(o.path), fill(o.body), fields...)
			many := strings.HasSuffix(o.path, "?delete") && r.status == 200 && strings.Contains(r.body, "<Code>AccessDenied</Code>") && !strings.Contains(r.body, "<Deleted>")
			if !many && (r.status < 400 || r.status >= 500) || stolen(victim, r) != "" {
				t.Errorf("%s at %q: %s %s = %d %.300s, want a refusal", who, host, o.method, fill(o.path), r.status, r.body)
			}
		}
	}
	for _, o := range s3Operations {
		for who, k := range nothing {
			if o.fields == nil || o.fields[0] != "Cf-Create-Bucket-If-Missing" { // that makes a bucket of one's own
				refused(who, k, o)
			}
		}
		for who, k := range reads {
			if o.writes {
				refused(who, k, o)
			}
		}
		for who, k := range elsewhere {
			if strings.Contains(o.path+o.body, "KEY") {
				refused(who, k, o)
			}
		}
	}
	// Others' objects cannot be copied from, and listings keep to what is lent.
	for who, k := range map[string]s3Key{"another account's key": foreign, "a loan": lent} {
		for _, source := range []string{"/" + bucket + "/" + object, "/" + thief.params["bucket_name"] + "/../" + bucket + "/" + object, "%2f" + bucket + "%2f" + object} {
			r := node.s3(k, "", "PUT", thief.params["bucket_name"]+"/copy", "", "X-Amz-Copy-Source", source)
			if r.status < 400 || r.status >= 500 {
				t.Errorf("%s copies from %s: %d %s", who, source, r.status, r.body)
			}
		}
	}
	for who, k := range elsewhere {
		for _, query := range []string{"", "?prefix=oth", "?list-type=2&prefix=", "?list-type=2&prefix=other&delimiter=/", "?uploads", "?uploads&prefix=victim"} {
			if r := node.s3(k, "", "GET", bucket+query, ""); r.status != 403 {
				t.Errorf("%s lists %q: %d %s", who, query, r.status, r.body)
			}
		}
	}
	if r := node.s3(foreign, victim.AccountID, "GET", "", ""); r.status < 400 {
		t.Errorf("another lists the buckets: %d %s", r.status, r.body)
	}
	if r := node.s3(own, "", "GET", bucket+"/"+object, ""); r.status != 200 || r.body != victim.words {
		t.Errorf("the owner reads %d %s", r.status, r.body)
	}
	if r := node.s3(own.signed(claims), "", "GET", bucket+"/"+object, ""); r.status != 200 || r.body != victim.words {
		t.Errorf("a session of the owner's reads %d %s", r.status, r.body)
	}
	if r := node.s3(own, "", "GET", bucket+"?uploads", ""); !strings.Contains(r.body, upload) {
		t.Errorf("the upload is gone: %d %s", r.status, r.body)
	}
	unchanged(t, victim, before)
}
