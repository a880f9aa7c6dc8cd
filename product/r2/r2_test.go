package r2_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"selvage/edge"
	"selvage/product"
	"selvage/product/producttest"
	"selvage/spec"
)

func TestContract(t *testing.T) {
	producttest.Run(t, func(t *testing.T) product.Product { return newDesk(t).r2 })
}

func TestBuckets(t *testing.T) {
	d := newDesk(t)
	all := "/accounts/" + d.owner.AccountID + "/r2/buckets"
	for i := range 5 {
		d.make(d.owner.AccountID, fmt.Sprintf("bucket-%d", i))
	}
	made := d.ok("POST", all, `{"name":"eu-one","locationHint":"weur","storageClass":"InfrequentAccess"}`, "cf-r2-jurisdiction", "eu")
	if made.at("jurisdiction") != "eu" || made.at("location") != "weur" || made.at("storage_class") != "InfrequentAccess" {
		t.Errorf("created %s", made.Body)
	}
	if g := d.do("GET", all+"/eu-one", "", "cf-r2-jurisdiction", "default"); g.code() != 10006 {
		t.Errorf("an EU bucket in the default jurisdiction: %d %s", g.Status, g.Body)
	}
	for body, code := range map[string]int{
		`{"name":"bucket-1"}`: 10004, `{"name":"UPPER"}`: 10005, `{"name":"a"}`: 10005, `{"name":"ok-name","locationHint":"mars"}`: 10040, `{"name":"ok-name","storageClass":"Cold"}`: 10062,
	} {
		if g := d.do("POST", all, body); g.code() != code || g.Status != 400 {
			t.Errorf("POST %s = %d %s, want code %d", body, g.Status, g.Body, code)
		}
	}
	for _, query := range []string{"order=size", "per_page=0", "cursor=!"} {
		if g := d.do("GET", all+"?"+query, ""); g.Status != 400 || g.code() != 10029 {
			t.Errorf("GET ?%s = %d %s, want code 10029", query, g.Status, g.Body)
		}
	}
	var names []string
	for cursor := ""; ; {
		g := d.ok("GET", all+"?per_page=2&name_contains=bucket&direction=desc&cursor="+cursor, "")
		for part := range strings.SplitSeq(g.Body, `"name":"`) {
			if name, _, ok := strings.Cut(part, `"`); ok && strings.HasPrefix(name, "bucket-") {
				names = append(names, name)
			}
		}
		if cursor = g.Info.Cursor; cursor == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "bucket-4 bucket-3 bucket-2 bucket-1 bucket-0" {
		t.Errorf("listed %s", got)
	}
	one := all + "/bucket-1"
	if g := d.ok("PATCH", one, "", "cf-r2-storage-class", "InfrequentAccess"); g.at("storage_class") != "InfrequentAccess" {
		t.Errorf("PATCH = %s", g.Body)
	}
	d.settle()
	if g := d.ok("PUT", one+"/objects/x", "content"); g.at("storage_class") != "InfrequentAccess" {
		t.Errorf("a new object of the bucket: %s", g.Body)
	}
	for sum, code := range map[string]int{"x": 10014, "AAAAAAAAAAAAAAAAAAAAAA==": 10037} {
		if g := d.do("PUT", one+"/objects/y", "content", "Content-MD5", sum); g.code() != code {
			t.Errorf("PUT with the Content-MD5 %s = %d %s", sum, g.Status, g.Body)
		}
	}
	d.ok("PUT", one+"/objects/x", "content", "Content-MD5", "mgNkuembtIDdJeHwKEyFVQ==")
	if g := d.do("DELETE", one, ""); g.code() != 10008 {
		t.Errorf("DELETE of a bucket with an object = %d %s", g.Status, g.Body)
	}
	d.ok("DELETE", one+"/objects/x", "")
	d.ok("DELETE", one, "")
	for _, method := range []string{"GET", "DELETE", "PATCH"} {
		if g := d.do(method, one, "", "cf-r2-storage-class", "Standard"); g.Status != 404 || g.code() != 10006 {
			t.Errorf("%s of what is deleted = %d %s", method, g.Status, g.Body)
		}
	}
	d.make(d.owner.AccountID, "bucket-1")
	if g := d.ok("GET", one+"/objects", ""); string(g.Result) != "[]" {
		t.Errorf("a new bucket of an old name lists %s", g.Body)
	}
}

func TestQuotas(t *testing.T) {
	d := newDesk(t)
	b := d.make(d.owner.AccountID, "full")
	must(t, d.state.Update(t.Context(), spec.Actor{}, func(tx product.Tx) error {
		return tx.Put(&spec.Quotas{AccountID: d.owner.AccountID, Limits: map[string]int64{"r2_bytes": 100, "r2_objects": 2, "r2_buckets": 1}})
	}))
	d.ok("PUT", b+"/objects/a", strings.Repeat("a", 90))
	refused := func(g got, quota string) {
		t.Helper()
		if g.Status == 200 || !strings.Contains(g.Body, quota) {
			t.Errorf("%d %s, want a refusal for %s", g.Status, g.Body, quota)
		}
	}
	refused(d.do("PUT", b+"/objects/b", strings.Repeat("b", 11)), "r2_bytes")
	d.ok("PUT", b+"/objects/b", "b")
	refused(d.do("PUT", b+"/objects/c", "c"), "r2_objects")
	d.ok("PUT", b+"/objects/a", strings.Repeat("A", 99))
	refused(d.do("POST", "/accounts/"+d.owner.AccountID+"/r2/buckets", `{"name":"more"}`), "r2_buckets")
	c := d.bind(d.owner.AccountID, "full")
	if g := d.ask(c, `{"version":1,"method":"put","object":"d"}`, "d"); g.Status != 400 || !strings.Contains(g.Header.Get("CF-R2-Error"), "quota r2_") {
		t.Errorf("a put by a script = %d %v", g.Status, g.Header)
	}
	if g := d.ok("GET", b+"/usage", ""); g.at("objectCount") != "2" || g.at("payloadSize") != "100" {
		t.Errorf("usage = %s", g.Body)
	}
}

func TestObjectsByREST(t *testing.T) {
	d := newDesk(t)
	b := d.make(d.owner.AccountID, "things")
	large := strings.Repeat("0123456789", 1<<15)
	for _, key := range []string{"a", "dir/b.txt", "dir//c", "/lead", "Ünï 日本", "q?x#y", strings.Repeat("d/", 500) + "z"} {
		path := b + "/objects/" + strings.ReplaceAll(url.PathEscape(key), "%2F", "/")
		d.ok("PUT", path, large+key, "Content-Type", "text/x", "Cache-Control", "max-age=1", "Content-Language", "de", "Expires", "Thu, 26 Nov 2026 08:00:00 GMT")
		g := d.ok("GET", path, "")
		if g.Body != large+key || g.Header.Get("Content-Type") != "text/x" || g.Header.Get("Content-Language") != "de" || g.Header.Get("Expires") == "" {
			t.Errorf("GET %.40q = %d bytes, %v", key, len(g.Body), g.Header)
		}
		if h := d.do("HEAD", path, ""); h.Status != 200 || h.Body != "" || h.Header.Get("Content-Length") != fmt.Sprint(len(large+key)) || h.Header.Get("ETag") != g.Header.Get("ETag") {
			t.Errorf("HEAD %.40q = %d %v", key, h.Status, h.Header)
		}
	}
	one := b + "/objects/a"
	etag := d.ok("GET", one, "").Header.Get("ETag")
	for _, c := range []struct {
		field, value string
		status       int
		body         string
	}{
		{"Range", "bytes=0-3", 206, "0123"}, {"Range", "bytes=-1", 206, "a"}, {"Range", "bytes=999999999-", 400, ""}, {"If-None-Match", etag, 304, ""}, {"If-Match", `"other"`, 400, ""},
		{"If-Modified-Since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), 304, ""}, {"If-Unmodified-Since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), 200, ""},
	} {
		if g := d.do("GET", one, "", c.field, c.value); g.Status != c.status || c.body != "" && g.Body != c.body {
			t.Errorf("GET with %s %s = %d %.100q, want %d %q", c.field, c.value, g.Status, g.Body, c.status, c.body)
		}
	}
	if g := d.do("PUT", one, "other", "If-None-Match", "*"); g.code() != 10031 {
		t.Errorf("PUT if none is there = %d %s", g.Status, g.Body)
	}
	if g := d.do("GET", b+"/objects/none", ""); g.Status != 404 || g.code() != 10007 {
		t.Errorf("GET of nothing = %d %s", g.Status, g.Body)
	}
	if g := d.do("PUT", b+"/objects/"+strings.Repeat("k", 1025), ""); g.code() != 10020 {
		t.Errorf("PUT with a long key = %d %s", g.Status, g.Body)
	}
	page := d.ok("GET", b+"/objects?delimiter=/&per_page=3", "")
	if strings.Join(page.Info.Delimited, " ") != "/ d/" && !page.Info.Truncated {
		t.Errorf("listed %.400s", page.Body)
	}
	if g := d.ok("GET", b+"/objects?prefix=dir/&cursor="+page.Info.Cursor, ""); !strings.Contains(g.Body, `"dir/b.txt"`) || strings.Contains(g.Body, `"lead"`) {
		t.Errorf("listed %.400s", g.Body)
	}
	d.ok("DELETE", b+"/objects", `["a","dir/b.txt","never"]`)
	if g := d.do("GET", one, ""); g.Status != 404 {
		t.Errorf("GET of what was deleted = %d", g.Status)
	}
}

func TestRules(t *testing.T) {
	d := newDesk(t)
	b := d.make(d.owner.AccountID, "ruled")
	if g := d.ok("GET", b+"/lifecycle", ""); !strings.Contains(g.Body, "Default Multipart Abort Rule") || !strings.Contains(g.Body, "604800") {
		t.Errorf("the lifecycle of a new bucket: %s", g.Body)
	}
	if g := d.do("GET", b+"/cors", ""); g.Status != 404 || g.code() != 10059 {
		t.Errorf("no CORS = %d %s", g.Status, g.Body)
	}
	for path, bad := range map[string][]string{
		"/cors": {`{"rules":[{"allowed":{"origins":[],"methods":["GET"]}}]}`, `{"rules":[{"allowed":{"origins":["https://a.b/"],"methods":["GET"]}}]}`, `{"rules":[{"allowed":{"origins":["*"],"methods":["BREW"]}}]}`},
		"/lifecycle": {`{"rules":[{"id":"","enabled":true,"conditions":{"prefix":""}}]}`, `{"rules":[{"id":"x","enabled":true,"conditions":{"prefix":""}}]}`,
			`{"rules":[{"id":"x","enabled":true,"conditions":{"prefix":""},"deleteObjectsTransition":{"condition":{"type":"Moon"}}}]}`},
		"/lock": {`{"rules":[{"id":"x","enabled":true,"condition":{"type":"Age"}}]}`, `{"rules":[{"id":"x","enabled":true,"condition":{"type":"Never"}}]}`},
	} {
		code := 10040
		if path == "/lifecycle" {
			code = 10061
		}
		for _, body := range bad {
			if g := d.do("PUT", b+path, body); g.Status != 400 || g.code() != code {
				t.Errorf("PUT %s %s = %d %s, want code %d", path, body, g.Status, g.Body, code)
			}
		}
	}
	const cors = `{"rules":[{"id":"one","allowed":{"origins":["https://*.example.com"],"methods":["GET","HEAD"],"headers":["x-*"]},"exposeHeaders":["ETag"],"maxAgeSeconds":60}]}`
	d.ok("PUT", b+"/cors", cors)
	if g := d.ok("GET", b+"/cors", ""); string(g.Result) != cors {
		t.Errorf("CORS = %s", g.Result)
	}
	for _, path := range []string{"/sippy", "/local-uploads"} {
		if g := d.do("GET", b+path, ""); g.Status != 400 || !strings.Contains(g.Body, "does not offer") {
			t.Errorf("GET %s = %d %s", path, g.Status, g.Body)
		}
	}
	d.ok("PUT", b+"/lock", `{"rules":[{"id":"keep","enabled":true,"prefix":"kept/","condition":{"type":"Age","maxAgeSeconds":3600}}]}`)
	d.settle()
	c := d.bind(d.owner.AccountID, "ruled")
	d.ok("PUT", b+"/objects/kept/a", "1")
	d.ok("PUT", b+"/objects/free", "1")
	if g := d.do("PUT", b+"/objects/kept/a", "2"); g.Status != 403 || g.code() != 10069 {
		t.Errorf("PUT of what is locked = %d %s", g.Status, g.Body)
	}
	if g := d.do("DELETE", b+"/objects/kept/a", ""); g.Status != 403 {
		t.Errorf("DELETE of what is locked = %d %s", g.Status, g.Body)
	}
	if g := d.ask(c, `{"version":1,"method":"delete","objects":["free","kept/a"]}`, ""); g.Status != 403 || !strings.Contains(g.Header.Get("CF-R2-Error"), "10069") {
		t.Errorf("delete of what is locked by a script = %d %v", g.Status, g.Header)
	}
	if g := d.do("PUT", b+"/lifecycle", `{"rules":[{"id":"all","enabled":true,"deleteObjectsTransition":{"condition":{"type":"Age"}}}]}`); g.code() != 10061 || !strings.Contains(g.Body, "maxAge") {
		t.Errorf("PUT of a rule without an age = %d %s", g.Status, g.Body)
	}
	d.ok("PUT", b+"/lifecycle", `{"rules":[{"id":"now","enabled":false,"deleteObjectsTransition":{"condition":{"type":"Age","maxAge":0}}}]}`)
	if g := d.ok("GET", b+"/lifecycle", ""); !strings.Contains(g.Body, `"maxAge":0`) {
		t.Errorf("GET of a rule with the age 0 = %s", g.Body)
	}
	d.ok("PUT", b+"/lifecycle", `{"rules":[{"id":"old","enabled":true,"conditions":{"prefix":""},"deleteObjectsTransition":{"condition":{"type":"Age","maxAge":60}}},
		{"id":"cold","enabled":true,"conditions":{"prefix":"cold/"},"storageClassTransitions":[{"condition":{"type":"Age","maxAge":10},"storageClass":"InfrequentAccess"}]}]}`)
	d.settle()
	d.ok("PUT", b+"/objects/cold/x", "1")
	d.skew.Store(int64(30 * time.Second))
	run := "/accounts/" + d.owner.AccountID + "/selvage/r2/lifecycle"
	d.ok("POST", run, "")
	if g := d.ok("GET", b+"/objects?prefix=cold/", ""); !strings.Contains(g.Body, "InfrequentAccess") {
		t.Errorf("after 30 s: %s", g.Body)
	}
	d.skew.Store(int64(2 * time.Minute))
	d.ok("POST", run, "")
	if g := d.ok("GET", b+"/objects", ""); !strings.Contains(g.Body, "kept/a") || strings.Contains(g.Body, "free") || strings.Contains(g.Body, "cold/x") {
		t.Errorf("after two minutes: %s", g.Body)
	}
}

func TestNotifications(t *testing.T) {
	d := newDesk(t)
	b := d.make(d.owner.AccountID, "told")
	queue := &spec.Queue{ID: spec.NewID(), AccountID: d.owner.AccountID, Name: "q", CreatedOn: time.Now()}
	must(t, d.state.Update(t.Context(), spec.Actor{}, func(tx product.Tx) error { return tx.Put(queue) }))
	config := "/accounts/" + d.owner.AccountID + "/event_notifications/r2/told/configuration"
	one := config + "/queues/" + queue.ID
	if g := d.do("GET", config, ""); g.Status != 404 || g.code() != 11015 {
		t.Errorf("GET of all without rules = %d %s", g.Status, g.Body)
	}
	if g := d.do("GET", strings.Replace(config, "told", "untold", 1), ""); g.Status != 404 || g.code() != 10085 {
		t.Errorf("GET of a bucket that is not there = %d %s", g.Status, g.Body)
	}
	if g := d.do("GET", one, ""); g.Status != 404 || g.code() != 11011 {
		t.Errorf("GET without rules = %d %s", g.Status, g.Body)
	}
	if g := d.do("PUT", config+"/queues/"+spec.NewID(), `{"rules":[{"actions":["PutObject"]}]}`); g.Status != 404 {
		t.Errorf("PUT for a queue that is not there = %d %s", g.Status, g.Body)
	}
	d.ok("PUT", one, `{"rules":[{"prefix":"img/","suffix":".png","actions":["PutObject","CompleteMultipartUpload"]}]}`)
	d.ok("PUT", one, `{"rules":[{"actions":["DeleteObject","LifecycleDeletion"],"description":"gone"}]}`)
	if g := d.do("PUT", one, `{"rules":[{"prefix":"img/a","actions":["PutObject"]}]}`); g.Status != 400 || g.code() != 11020 {
		t.Errorf("PUT of a rule that overlaps = %d %s", g.Status, g.Body)
	}
	if g := d.ok("GET", config, ""); strings.Count(g.Body, "ruleId") != 2 || !strings.Contains(g.Body, `"queueName":"q"`) {
		t.Errorf("GET = %s", g.Body)
	}
	d.settle()
	d.deaf.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.r2.Run(ctx) }()
	defer func() { cancel(); <-done }()
	d.ok("PUT", b+"/objects/img/a.png", "12345")
	d.ok("PUT", b+"/objects/img/a.jpg", "12345")
	d.ok("DELETE", b+"/objects/img/a.jpg", "")
	d.deaf.Store(false)
	for _, want := range []string{
		`"action":"PutObject","bucket":"told","object":{"key":"img/a.png","size":5,"eTag":"827ccb0eea8a706c4c34a16891f84e7b"},"eventTime":`,
		`"action":"DeleteObject","bucket":"told","object":{"key":"img/a.jpg"},"eventTime":`,
	} {
		select {
		case m := <-d.told:
			if !strings.HasPrefix(m, queue.ID+` {"account":"`+d.owner.AccountID+`",`+want) {
				t.Errorf("the queue got %s, want %s", m, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("the queue did not get %s\n%s", want, &d.log)
		}
	}
	d.ok("DELETE", one, "")
	if g := d.do("DELETE", one, ""); g.Status != 404 {
		t.Errorf("DELETE of no rules = %d", g.Status)
	}
}

func TestSessions(t *testing.T) {
	d := newDesk(t)
	d.make(d.owner.AccountID, "lent")
	path := "/accounts/" + d.owner.AccountID + "/r2/temp-access-credentials"
	g := d.ok("POST", path, `{"bucket":"lent","parentAccessKeyId":"parent","permission":"object-read-only","ttlSeconds":60,"prefixes":["a/"]}`)
	s, err := d.r2.Session(g.at("sessionToken"))
	if err != nil || s.Secret != g.at("secretAccessKey") || s.Parent != "parent" || s.Bucket != "lent" || s.AccountID != d.owner.AccountID || s.Prefixes[0] != "a/" {
		t.Errorf("Session() = %+v, %v", s, err)
	}
	token := g.at("sessionToken")
	for _, bad := range []string{"", "x", token[1:], token + "A", strings.ToUpper(token)} {
		if _, err := d.r2.Session(bad); err == nil {
			t.Errorf("Session(%.20q) is good", bad)
		}
	}
	for body, code := range map[string]int{
		`{"bucket":"none","parentAccessKeyId":"p","permission":"object-read-only","ttlSeconds":60}`:   10006,
		`{"parentAccessKeyId":"p","permission":"object-read-only","ttlSeconds":60}`:                   10040,
		`{"bucket":"lent","parentAccessKeyId":"p","permission":"all","ttlSeconds":60}`:                10040,
		`{"bucket":"lent","parentAccessKeyId":"p","permission":"object-read-only","ttlSeconds":0}`:    10040,
		`{"bucket":"lent","parentAccessKeyId":"p","permission":"object-read-only","ttlSeconds":1e99}`: 10040,
		`{"bucket":"lent","parentAccessKeyId":"","permission":"object-read-only","ttlSeconds":60}`:    10040,
	} {
		if g := d.do("POST", path, body); g.code() != code {
			t.Errorf("POST %s = %d %s, want %d", body, g.Status, g.Body, code)
		}
	}
	d.skew.Store(int64(2 * time.Minute))
	if _, err := d.r2.Session(token); err == nil {
		t.Error("the session outlived its time")
	}
	d.skew.Store(0)
	d.ok("DELETE", "/accounts/"+d.owner.AccountID+"/r2/buckets/lent", "")
	d.make(d.owner.AccountID, "lent")
	if _, err := d.r2.Session(token); err == nil {
		t.Error("the session is good for another bucket of the same name")
	}
}

// TestTenantsNeverMeet asks every endpoint of one account for the bucket of another, and a binding that
// names it: nothing of the other's is seen or changed.
func TestTenantsNeverMeet(t *testing.T) {
	d := newDesk(t)
	const secret = "the other must not see this"
	mine := d.make(d.owner.AccountID, "mine")
	d.ok("PUT", mine+"/objects/k", secret)
	yours := d.make(d.other, "yours")
	d.ok("PUT", yours+"/objects/k", "ours")
	before := d.ok("GET", mine+"/objects", "").Body
	id := d.ok("GET", mine+"/domains/managed", "").at("bucketId")
	for _, r := range d.r2.Routes() {
		if !strings.Contains(r.Path, "{bucket_name}") || strings.Contains(r.Path, "r2-catalog") || strings.Contains(r.Path, "sippy") || strings.Contains(r.Path, "local-uploads") {
			continue
		}
		for _, name := range []string{"mine", id, "yours%2F..%2Fmine", "..%2Fmine"} {
			path := strings.NewReplacer("{account_id}", d.other, "{bucket_name}", name, "{object_key...}", "k", "{domain}", "a.test", "{queue_id}", spec.NewID()).Replace(r.Path)
			for _, body := range []string{"", `{"enabled":true}`, `["k"]`, `{"rules":[]}`, `{"rules":[{"actions":["PutObject"]}]}`, `{"domain":"a.test"}`} {
				if g := d.do(r.Method, path, body, "cf-r2-storage-class", "Standard"); g.Status < 400 || g.Status == 500 || strings.Contains(g.Body, secret) {
					t.Errorf("%s %s %s = %d %s", r.Method, path, body, g.Status, g.Body)
				}
			}
		}
	}
	if g := d.do("POST", "/accounts/"+d.other+"/r2/temp-access-credentials", `{"bucket":"mine","parentAccessKeyId":"p","permission":"object-read-only","ttlSeconds":60}`); g.code() != 10006 {
		t.Errorf("credentials for another's bucket: %d %s", g.Status, g.Body)
	}
	for _, name := range []string{"mine", id, "yours/../mine"} {
		c := d.bind(d.other, name)
		for _, call := range []string{`"method":"get","object":"k"`, `"method":"head","object":"k"`, `"method":"list"`, `"method":"put","object":"k"`, `"method":"delete","object":"k"`, `"method":"createMultipartUpload","object":"k"`} {
			if g := d.ask(c, `{"version":1,`+call+`}`, ""); g.Status != 404 || strings.Contains(g.Body, secret) {
				t.Errorf("%s on another's bucket = %d %s %v", call, g.Status, g.Body, g.Header)
			}
		}
	}
	// An upload of one bucket is none of another's, even with its ID.
	up := d.ask(d.bind(d.owner.AccountID, "mine"), `{"version":1,"method":"createMultipartUpload","object":"k"}`, "")
	_, upload, _ := strings.Cut(up.Body, `"uploadId":"`)
	upload, _, _ = strings.Cut(upload, `"`)
	for _, call := range []string{`"method":"uploadPart","partNumber":1`, `"method":"completeMultipartUpload","parts":[]`, `"method":"abortMultipartUpload"`} {
		g := d.ask(d.bind(d.other, "yours"), `{"version":1,"object":"k","uploadId":"`+upload+`",`+call+`}`, "")
		if g.Status < 400 || !strings.Contains(g.Header.Get("CF-R2-Error"), "10024") {
			t.Errorf("%s on another's upload = %d %s %v", call, g.Status, g.Body, g.Header)
		}
	}
	if after := d.ok("GET", mine+"/objects", "").Body; after != before {
		t.Errorf("the bucket was %s and is %s", before, after)
	}
}

// zone adds a zone to the account of the desk's owner.
func (d *desk) zone(name string) string {
	d.t.Helper()
	z := &spec.Zone{ID: spec.NewID(), AccountID: d.owner.AccountID, Name: name, Status: "active", Type: "full", NameServers: []string{"ns1.x.test", "ns2.x.test"}}
	must(d.t, d.state.Update(d.t.Context(), spec.Actor{}, func(tx product.Tx) error { return tx.Put(z) }))
	return z.ID
}

func TestPublicBuckets(t *testing.T) {
	d := newDesk(t)
	b := d.make(d.owner.AccountID, "open")
	zone := d.zone("site.test")
	d.ok("PUT", b+"/objects/dir/a%20b.txt", "0123456789", "Content-Type", "text/plain", "Cache-Control", "max-age=9")
	d.ok("PUT", b+"/objects/bare", "x")
	if g := d.do("POST", b+"/domains/custom", `{"domain":"cdn.elsewhere.test","enabled":true}`); g.Status != 400 {
		t.Errorf("a domain of no zone = %d %s", g.Status, g.Body)
	}
	made := d.ok("POST", b+"/domains/custom", `{"domain":"CDN.site.test","zoneId":"`+zone+`","enabled":true,"minTLS":"1.2"}`)
	if made.at("domain") != "cdn.site.test" || made.at("minTLS") != "1.2" || !strings.Contains(made.Body, `"ssl":"active"`) {
		t.Errorf("attached %s", made.Body)
	}
	other := d.make(d.owner.AccountID, "second")
	if g := d.do("POST", other+"/domains/custom", `{"domain":"cdn.site.test","enabled":true}`); g.Status != 400 || g.code() != 1009 {
		t.Errorf("a domain twice = %d %s", g.Status, g.Body)
	}
	managed := d.ok("PUT", b+"/domains/managed", `{"enabled":true}`).at("domain")
	d.settle()
	if !strings.HasSuffix(managed, ".r2.localhost") {
		t.Errorf("the managed name is %s", managed)
	}
	etag := ""
	for _, host := range []string{"cdn.site.test", managed} {
		ex := d.visit("GET", host, "/dir/a%20b.txt")
		h := &ex.Response.Header
		if text := read(t, ex); ex.Response.Status != 200 || text != "0123456789" || h.Get("Content-Type") != "text/plain" || h.Get("Cache-Control") != "max-age=9" || h.Get("Accept-Ranges") != "bytes" {
			t.Errorf("GET at %s = %d %q %v", host, ex.Response.Status, text, h.Fields())
		}
		etag = h.Get("ETag")
	}
	for _, c := range []struct {
		method, path string
		status       int
		body         string
		fields       []string
	}{
		{"GET", "/dir/a%20b.txt", 206, "234", []string{"Range", "bytes=2-4"}}, {"GET", "/dir/a%20b.txt", 416, "", []string{"Range", "bytes=20-"}},
		{"GET", "/dir/a%20b.txt", 304, "", []string{"If-None-Match", etag}}, {"GET", "/dir/a%20b.txt", 412, "changed", []string{"If-Match", `"x"`}},
		{"GET", "/dir/a%20b.txt", 200, "0123456789", []string{"Range", "bytes=2-4", "If-Range", `"x"`}}, {"GET", "/dir/a%20b.txt", 206, "2", []string{"Range", "bytes=2-2", "If-Range", etag}},
		{"HEAD", "/dir/a%20b.txt", 200, "", nil}, {"GET", "/none", 404, "Object not found", nil}, {"GET", "/", 404, "Object not found", nil}, {"GET", "/%zz", 404, "", nil}, {"GET", "/%ff", 404, "", nil},
		{"PUT", "/bare", 405, "", nil}, {"DELETE", "/bare", 405, "", nil}, {"OPTIONS", "/bare", 403, "", nil}, {"GET", "/" + strings.Repeat("k", 1025), 404, "", nil},
	} {
		ex := d.visit(c.method, "cdn.site.test", c.path, c.fields...)
		status := ex.Response.Status
		if text := read(t, ex); status != c.status || !strings.Contains(text, c.body) {
			t.Errorf("%s %.30s %v = %d %.80q, want %d %q", c.method, c.path, c.fields, status, text, c.status, c.body)
		}
	}
	if ex := d.visit("GET", "www.site.test", "/bare"); read(t, ex) != "passed on" {
		t.Errorf("another host of the zone = %d", ex.Response.Status)
	}
	corsAt(t, d, b)
	d.ok("PUT", b+"/domains/custom/cdn.site.test", `{"enabled":false}`)
	d.ok("PUT", b+"/domains/managed", `{"enabled":false}`)
	d.settle()
	if ex := d.visit("GET", "cdn.site.test", "/bare"); ex.Response.Status != 404 {
		t.Errorf("a domain that is switched off = %d", ex.Response.Status)
	}
	d.ok("DELETE", b+"/domains/custom/cdn.site.test", "")
	if g := d.do("GET", b+"/domains/custom/cdn.site.test", ""); g.Status != 404 {
		t.Errorf("what was detached = %d %s", g.Status, g.Body)
	}
	if records := d.state.Snapshot().Zones[zone].Records; len(records) != 0 {
		t.Errorf("records were left: %v", records)
	}
}

func corsAt(t *testing.T, d *desk, bucket string) {
	d.ok("PUT", bucket+"/cors", `{"rules":[{"allowed":{"origins":["https://*.app.test"],"methods":["GET"],"headers":["x-*","content-type"]},"exposeHeaders":["ETag","X-A"],"maxAgeSeconds":60}]}`)
	d.settle()
	for origin, want := range map[string]string{"https://one.app.test": "https://one.app.test", "https://app.test": "", "http://one.app.test": "", "": ""} {
		ex := d.visit("GET", "cdn.site.test", "/bare", "Origin", origin)
		h := &ex.Response.Header
		if read(t, ex); h.Get("Access-Control-Allow-Origin") != want || h.Get("Vary") != "Origin" || (want != "") != (h.Get("Access-Control-Expose-Headers") == "ETag, X-A") {
			t.Errorf("GET from %q: %v", origin, h.Fields())
		}
	}
	ask := func(origin, method, headers string) *edge.Exchange {
		return d.visit("OPTIONS", "cdn.site.test", "/bare", "Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", headers)
	}
	ex := ask("https://one.app.test", "GET", "X-Any, Content-Type")
	if h := &ex.Response.Header; ex.Response.Status != 204 || h.Get("Access-Control-Allow-Headers") != "x-any, content-type" || h.Get("Access-Control-Max-Age") != "60" {
		t.Errorf("preflight = %d %v", ex.Response.Status, h.Fields())
	}
	for _, bad := range [][3]string{{"https://evil.test", "GET", ""}, {"https://one.app.test", "PUT", ""}, {"https://one.app.test", "GET", "authorization"}} {
		if ex := ask(bad[0], bad[1], bad[2]); ex.Response.Status != 403 || ex.Response.Header.Has("Access-Control-Allow-Origin") {
			t.Errorf("preflight %v = %d %v", bad, ex.Response.Status, ex.Response.Header.Fields())
		}
	}
}
