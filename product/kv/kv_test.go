package kv_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"selvage/product"
	"selvage/product/kv/store"
	"selvage/product/producttest"
	"selvage/spec"
)

func TestContract(t *testing.T) {
	producttest.Run(t, func(t *testing.T) product.Product { return newDesk(t).kv })
}

func TestNamespaces(t *testing.T) {
	d := newDesk(t)
	base := spaces(d.owner.AccountID)
	made := d.ok("POST", base, `{"title":"b"}`)
	if made.at("title") != "b" || made.at("supports_url_encoding") != "true" || len(made.at("id")) != 32 {
		t.Errorf("created: %s", made.Body)
	}
	for _, title := range []string{"a", "c", "d"} {
		d.make(d.owner.AccountID, title)
	}
	d.make(d.other, "b") // titles are an account's own
	for query, want := range map[string]string{
		"?order=title&direction=asc": "a b c d", "?order=title&direction=desc": "d c b a", "?order=title&per_page=3&page=2": "d", "?order=title&per_page=1000&page=2": "",
	} {
		var list []struct{ Title string }
		g := d.ok("GET", base+query, "")
		must(t, json.Unmarshal(g.Result, &list))
		var titles []string
		for _, n := range list {
			titles = append(titles, n.Title)
		}
		if got := strings.Join(titles, " "); got != want || g.Info.TotalCount != 4 {
			t.Errorf("%s lists %q, want %q: %s", query, got, want, g.Body)
		}
	}
	one := base + "/" + made.at("id")
	if g := d.ok("PUT", one, `{"title":"renamed"}`); g.at("title") != "renamed" {
		t.Errorf("renamed: %s", g.Body)
	}
	d.ok("PUT", one, `{"title":"renamed"}`)
	d.ok("PUT", value(one, "k"), "value")
	if g := d.ok("GET", one, ""); g.at("title") != "renamed" || g.at("key_count") != "1" || g.at("size_bytes") != "6" {
		t.Errorf("shown: %s", g.Body)
	}
	for _, c := range []struct {
		method, path, body string
		code               int
	}{
		{"POST", base, `{"title":"a"}`, 10014}, {"PUT", one, `{"title":"a"}`, 10014}, {"POST", base, `{"title":" "}`, 10019}, {"POST", base, `{}`, 10019},
		{"POST", base, `{"title":"x","y":1}`, 1001}, {"POST", base, `{`, 6007}, {"GET", base + "?order=size", "", 10043}, {"GET", base + "?direction=up", "", 10044},
		{"POST", base, `{"title":"` + strings.Repeat("x", 513) + `"}`, 1001},
		{"GET", base + "/" + spec.NewID(), "", 10013}, {"PUT", base + "/none", `{"title":"x"}`, 10011}, {"DELETE", base + "/" + spec.NewID(), "", 10013},
	} {
		if g := d.do(c.method, c.path, c.body); g.code() != c.code || g.Success {
			t.Errorf("%s %s %.40s = %d %s, want code %d", c.method, c.path, c.body, g.Status, g.Body, c.code)
		}
	}
	if g := d.ok("DELETE", one, ""); string(g.Result) != "null" {
		t.Errorf("deleted: %s", g.Body)
	}
	if g := d.do("GET", value(one, "k"), ""); g.Status != 404 || g.code() != 10013 {
		t.Errorf("value of a deleted namespace: %s", g.Body)
	}
	d.ok("POST", base, `{"title":"renamed"}`)
}

func TestNamespaceQuota(t *testing.T) {
	d := newDesk(t)
	must(t, d.state.Update(t.Context(), spec.Actor{}, func(tx product.Tx) error {
		return tx.Put(&spec.Quotas{AccountID: d.owner.AccountID, Limits: map[string]int64{"kv_namespaces": 1, "kv_keys": 2, "kv_bytes": 100}})
	}))
	ns, _ := d.make(d.owner.AccountID, "a")
	if g := d.do("POST", spaces(d.owner.AccountID), `{"title":"b"}`); g.code() != 10018 || !strings.Contains(g.Body, "kv_namespaces") {
		t.Errorf("a namespace too many: %s", g.Body)
	}
	d.ok("PUT", value(ns, "a"), "x")
	d.ok("PUT", value(ns, "b"), "x")
	if g := d.do("PUT", value(ns, "c"), "x"); !strings.Contains(g.Body, "kv_keys") {
		t.Errorf("a key too many: %s", g.Body)
	}
	if g := d.do("PUT", value(ns, "b"), strings.Repeat("x", 100)); !strings.Contains(g.Body, "kv_bytes") {
		t.Errorf("a byte too many: %s", g.Body)
	}
	for _, q := range d.kv.Quotas() {
		used, err := q.Used(t.Context(), d.owner.AccountID)
		if want := map[string]int64{"kv_namespaces": 1, "kv_keys": 2, "kv_bytes": 4}[q.Name]; err != nil || used != want {
			t.Errorf("%s: %d used, %v; want %d", q.Name, used, err, want)
		}
	}
}

// TestValuesByREST puts what clients put, and what they should not.
func TestValuesByREST(t *testing.T) {
	d := newDesk(t)
	ns, _ := d.make(d.owner.AccountID, "n")
	for _, key := range []string{"k", "a/b", "ünï ☃", "%2F", "a+b c?d#e&f", "...", strings.Repeat("k", 512), "\x00\n"} {
		d.ok("PUT", value(ns, key), "value of "+key)
		if g := d.ok("GET", value(ns, key), ""); g.Body != "value of "+key || g.Header.Get("Content-Type") != "application/octet-stream" || g.Header.Get("Content-Length") != fmt.Sprint(len(g.Body)) {
			t.Errorf("%q: %q %v", key, g.Body, g.Header)
		}
		if g := d.ok("GET", ns+"/metadata/"+url.PathEscape(key), ""); string(g.Result) != "null" {
			t.Errorf("metadata of %q: %s", key, g.Body)
		}
	}
	if g := d.ok("PUT", value(ns, "k")+"?expiration_ttl=60", "v"); string(g.Result) != "null" || !g.Success {
		t.Errorf("put answers %s", g.Body)
	}
	if g := d.ok("GET", value(ns, "k"), ""); g.Header.Get("Expiration") != fmt.Sprint(d.now.Load()+60) {
		t.Errorf("Expiration: %v", g.Header)
	}
	d.now.Add(60)
	if g := d.do("GET", value(ns, "k"), ""); g.Status != 404 || g.code() != 10009 || g.Errors[0].Message != "get: 'key not found'" {
		t.Errorf("an expired key: %s", g.Body)
	}
	for _, parts := range [][]string{{"value", "v1", "metadata", `{"a": [1, 2]}`}, {"metadata", `{"a":[1,2]}`, "value", strings.Repeat("v", 100<<10)}, {"value", strings.Repeat("v", 70<<10), "metadata", `{"a":[1,2]}`}} {
		if g := d.form(value(ns, "m"), parts...); g.Status != 200 {
			t.Errorf("form: %s", g.Body)
		}
		if g := d.ok("GET", ns+"/metadata/m", ""); string(g.Result) != `{"a":[1,2]}` {
			t.Errorf("metadata: %s", g.Body)
		}
		if g := d.ok("GET", value(ns, "m"), ""); g.Body != parts[1] && g.Body != parts[3] {
			t.Errorf("value of a form: %.100q", g.Body)
		}
	}
	d.ok("DELETE", value(ns, "m"), "")
	d.ok("DELETE", value(ns, "m"), "")
	if g := d.do("GET", ns+"/metadata/m", ""); g.Status != 404 || g.code() != 10009 {
		t.Errorf("metadata of a deleted key: %s", g.Body)
	}
	for _, c := range []struct {
		path, body string
		status     int
		code       int
		says       string
	}{
		{value(ns, strings.Repeat("k", 513)), "", 413, 10030, "UTF-8 encoded length of 513 exceeds key length limit of 512."},
		{ns + "/values/%2E", "", 400, 10042, "Illegal key name"}, {ns + "/values/%2e%2e", "", 400, 10042, "Illegal key name"}, {ns + "/values/%ff", "", 400, 10029, "UTF-8"},
		{value(ns, "k") + "?expiration_ttl=59", "", 400, 10034, "Expiration TTL must be at least 60."}, {value(ns, "k") + "?expiration_ttl=x", "", 400, 10034, "integer greater than 0"},
		{value(ns, "k") + "?expiration_ttl=-1", "", 400, 10034, "integer greater than 0"}, {value(ns, "k") + "?expiration=1", "", 400, 10033, "greater than the current number"},
		{value(ns, "k") + fmt.Sprint("?expiration=", d.now.Load()+59), "", 400, 10033, "at least 60 seconds in the future"}, {value(ns, "k") + "?expiration=99999999999999999999", "", 400, 10033, "integer"},
		{value(ns, "k"), strings.Repeat("x", store.MaxValue+1), 413, 10024, "Value length of 26214401 exceeds limit of 26214400."},
	} {
		if g := d.do("PUT", c.path, c.body); g.Status != c.status || g.code() != c.code || !strings.Contains(g.Body, c.says) {
			t.Errorf("PUT %.60s = %d %.300s, want %d, code %d, %q", strings.TrimPrefix(c.path, ns), g.Status, g.Body, c.status, c.code, c.says)
		}
	}
	for _, parts := range [][]string{{"metadata", "1"}, {"value", "v", "metadata", "{"}, {"value", "v", "value", "w"}, {"value", "v", "x", "y"}, {"value", "v", "metadata", `"` + strings.Repeat("x", 1024) + `"`}} {
		if g := d.form(value(ns, "k"), parts...); g.Status < 400 || g.Status > 413 {
			t.Errorf("form %.60q = %d %s", parts, g.Status, g.Body)
		}
	}
	if g := d.call("PUT", value(ns, "k"), "multipart/form-data; boundary=x", strings.NewReader("--x\r\nContent-Disposition: form-data; name=\"value\"\r\n\r\nbroken off")); g.Status != 400 {
		t.Errorf("a form that breaks off = %d %s", g.Status, g.Body)
	}
	if g := d.do("GET", value(ns, "k"), ""); g.Status != 404 {
		t.Errorf("after refused puts: %s", g.Body)
	}
}

func TestKeysByREST(t *testing.T) {
	d := newDesk(t)
	ns, _ := d.make(d.owner.AccountID, "n")
	var pairs []map[string]any
	for i := range 1500 {
		pairs = append(pairs, map[string]any{"key": fmt.Sprintf("p%04d", i), "value": "v", "metadata": map[string]int{"i": i}, "expiration_ttl": 1000, "surprise": true})
	}
	text, err := json.Marshal(pairs)
	must(t, err)
	if g := d.ok("PUT", ns+"/bulk", string(text)); string(g.Result) != `{"successful_key_count":1500,"unsuccessful_keys":[]}` {
		t.Errorf("bulk put: %s", g.Body)
	}
	first := d.ok("GET", ns+"/keys", "")
	var lines []struct {
		Name       string
		Expiration int64
		Metadata   struct{ I int }
	}
	must(t, json.Unmarshal(first.Result, &lines))
	if len(lines) != 1000 || lines[7].Name != "p0007" || lines[7].Metadata.I != 7 || lines[7].Expiration != d.now.Load()+1000 || first.Info.Count != 1000 || first.Info.Cursor == "" {
		t.Errorf("first page: %d lines, %+v", len(lines), first.Info)
	}
	second := d.ok("GET", ns+"/keys?cursor="+url.QueryEscape(first.Info.Cursor), "")
	must(t, json.Unmarshal(second.Result, &lines))
	if len(lines) != 500 || lines[0].Name != "p1000" || second.Info.Cursor != "" {
		t.Errorf("second page: %d lines, %+v", len(lines), second.Info)
	}
	if g := d.ok("GET", ns+"/keys?prefix=p14&limit=10", ""); g.Info.Count != 10 || !strings.Contains(g.Body, `"p1400"`) {
		t.Errorf("prefix: %s", g.Body)
	}
	if g := d.ok("GET", ns+"/keys?prefix=none", ""); string(g.Result) != "[]" {
		t.Errorf("nothing: %s", g.Body)
	}
	for query, code := range map[string]int{"?limit=0": 10028, "?limit=1001": 10028, "?limit=x": 10028, "?cursor=!": 10041, "?prefix=" + strings.Repeat("x", 513): 10030} {
		if g := d.do("GET", ns+"/keys"+query, ""); g.code() != code {
			t.Errorf("%.30s = %s, want code %d", query, g.Body, code)
		}
	}
	if g := d.ok("POST", ns+"/bulk/get", `{"keys":["p0001","none"],"withMetadata":true}`); string(g.Result) != fmt.Sprintf(`{"values":{"p0001":{"value":"v","metadata":{"i":1},"expiration":%d},"none":null}}`, d.now.Load()+1000) {
		t.Errorf("bulk get: %s", g.Body)
	}
	d.ok("PUT", value(ns, "j"), `{"x": 1}`)
	if g := d.ok("POST", ns+"/bulk/get", `{"keys":["j"],"type":"json"}`); string(g.Result) != `{"values":{"j":{"x":1}}}` {
		t.Errorf("bulk get of JSON: %s", g.Body)
	}
	if g := d.ok("DELETE", ns+"/bulk", `["p0001","p0002","none"]`); string(g.Result) != `{"successful_key_count":3,"unsuccessful_keys":[]}` {
		t.Errorf("bulk delete: %s", g.Body)
	}
	d.ok("POST", ns+"/bulk/delete", `["p0003"]`)
	if g := d.ok("GET", ns, ""); g.at("key_count") != "1498" {
		t.Errorf("after deletions: %s", g.Body)
	}
}

func TestBulkIsRefused(t *testing.T) {
	d := newDesk(t)
	ns, _ := d.make(d.owner.AccountID, "n")
	many := "[" + strings.Repeat(`{"key":"k","value":"v"},`, 10_000) + `{"key":"k","value":"v"}]`
	for _, c := range []struct {
		method, path, body string
		code               int
		says               string
	}{
		{"PUT", "/bulk", many, 10029, "10000"}, {"PUT", "/bulk", `{}`, 10012, "list"}, {"PUT", "/bulk", `[{"key":"a","value":"b"},{"key":"c"}]`, 10012, "Pair 1: A pair needs a value"},
		{"PUT", "/bulk", `[{"value":"b"}]`, 10012, "key"}, {"PUT", "/bulk", `[{"key":"a","value":1}]`, 10012, "value"}, {"PUT", "/bulk", `[{"key":"a","value":"b"}`, 10012, "ends in the middle"},
		{"PUT", "/bulk", `[{"key":"a","value":"!","base64":true}]`, 10012, "Base64"}, {"PUT", "/bulk", `[{"key":"a","value":"b","expiration_ttl":5}]`, 10034, "at least 60"},
		{"PUT", "/bulk", `[{"key":".","value":"b"}]`, 10042, "Illegal key"}, {"PUT", "/bulk", ``, 10012, "list"},
		{"POST", "/bulk/get", `{"keys":[]}`, 10029, "minimum of 1 key"}, {"POST", "/bulk/get", `{"keys":["a"],"type":"stream"}`, 10029, "not a valid type"}, {"POST", "/bulk/get", `{"keys":[""]}`, 10029, "empty"},
		{"POST", "/bulk/get", `{"keys":["` + strings.Repeat(`k","`, 100) + `k"]}`, 10029, "maximum of 100 keys"}, {"POST", "/bulk/get", `{"keys":1}`, 10012, "list"},
		{"DELETE", "/bulk", `["` + strings.Repeat(`k","`, 10_000) + `k"]`, 10029, "10000"}, {"DELETE", "/bulk", `[1]`, 10012, "string"}, {"POST", "/bulk/delete", `[".."]`, 10042, "Illegal key"},
	} {
		if g := d.do(c.method, ns+c.path, c.body); g.Status < 400 || g.Status > 413 || g.code() != c.code || !strings.Contains(g.Body, c.says) {
			t.Errorf("%s %s %.60s = %d %.300s; want code %d, %q", c.method, c.path, c.body, g.Status, g.Body, c.code, c.says)
		}
	}
	if g := d.ok("GET", ns, ""); g.at("key_count") != "0" {
		t.Errorf("after refused requests: %s", g.Body)
	}
	d.ok("PUT", value(ns, "text"), "no json")
	if g := d.do("POST", ns+"/bulk/get", `{"keys":["text"],"type":"json"}`); !strings.Contains(g.Body, "non-json value") {
		t.Errorf("bulk get of what is no JSON: %s", g.Body)
	}
	// A body that waits in a file, with a value that becomes one.
	large := strings.Repeat("x", 2<<20)
	d.ok("PUT", ns+"/bulk", `[{"key":"large","value":"`+large+`"},{"key":"bytes","value":"//8=","base64":true},{"key":"bytes","value":"AA==","base64":true}]`)
	if g := d.ok("GET", value(ns, "large"), ""); g.Body != large {
		t.Errorf("a large pair has %d bytes", len(g.Body))
	}
	if g := d.ok("GET", value(ns, "bytes"), ""); g.Body != "\x00" {
		t.Errorf("the last of two: %q", g.Body)
	}
}

// TestBinding speaks as the runtime's client does.
func TestBinding(t *testing.T) {
	d := newDesk(t)
	_, id := d.make(d.owner.AccountID, "n")
	c := d.bind(d.owner.AccountID, id)
	put := func(target, body string, fields ...string) {
		t.Helper()
		if g := d.ask(c, "PUT", target, body, fields...); g.Status != 200 || g.Body != "" {
			t.Errorf("PUT %s = %d %s", target, g.Status, g.Body)
		}
	}
	put("/a%2Fb%20c?urlencoded=true&expiration_ttl=60", "value", "CF-KV-Metadata", `{"ü":1}`)
	put("/json?urlencoded=true", `{"x":1}`)
	put("/large?urlencoded=true", strings.Repeat("x", 100<<10))
	put("/empty?urlencoded=true", "")
	if g := d.ask(c, "GET", "/a%2Fb%20c?urlencoded=true&cache_ttl=30", ""); g.Status != 200 || g.Body != "value" || g.Header.Get("CF-KV-Metadata") != `{"ü":1}` || g.Header.Get("CF-Expiration") != fmt.Sprint(d.now.Load()+60) {
		t.Errorf("get: %d %q %v", g.Status, g.Body, g.Header)
	}
	if g := d.ask(c, "GET", "/large?urlencoded=true", ""); len(g.Body) != 100<<10 {
		t.Errorf("get of a large value: %d bytes", len(g.Body))
	}
	if g := d.ask(c, "GET", "/empty?urlencoded=true", ""); g.Status != 200 || g.Body != "" {
		t.Errorf("get of an empty value: %d %q", g.Status, g.Body)
	}
	if g := d.ask(c, "GET", "/none?urlencoded=true", ""); g.Status != 404 {
		t.Errorf("get of no value: %d", g.Status)
	}
	want := fmt.Sprintf(`{"keys":[{"name":"a/b c","expiration":%d,"metadata":"{\"ü\":1}"},{"name":"empty"}],"list_complete":false,"cursor":"ZW1wdHk=","cacheStatus":null}`, d.now.Load()+60)
	if g := d.ask(c, "GET", "/?key_count_limit=2", ""); g.Body != want {
		t.Errorf("list: %s, want %s", g.Body, want)
	}
	if g := d.ask(c, "GET", "/?cursor=ZW1wdHk%3D&prefix=l", ""); g.Body != `{"keys":[{"name":"large"}],"list_complete":true,"cacheStatus":null}` {
		t.Errorf("list of a prefix: %s", g.Body)
	}
	if g := d.ask(c, "POST", "/bulk/get", `{"keys":["json","none"],"type":"json","withMetadata":true,"cacheTtl":"30"}`); g.Body != `{"json":{"value":{"x":1},"metadata":null},"none":null}` {
		t.Errorf("bulk get: %s", g.Body)
	}
	if g := d.ask(c, "DELETE", "/json?urlencoded=true", ""); g.Status != 200 {
		t.Errorf("delete: %d", g.Status)
	}
	for _, r := range []struct {
		method, target, body string
		status               int
		says                 string
	}{
		{"PUT", "/k?urlencoded=true&expiration_ttl=30", "", 400, "Invalid expiration_ttl of 30. Expiration TTL must be at least 60."},
		{"PUT", "/k?urlencoded=true&expiration=5", "", 400, "Invalid expiration of 5. Please specify integer greater than the current number of seconds since the UNIX epoch."},
		{"GET", "/k?urlencoded=true&cache_ttl=10", "", 400, "Invalid cache_ttl of 10. Cache TTL must be at least 30."},
		{"GET", "/?key_count_limit=1001", "", 400, "Invalid key_count_limit of 1001. Please specify an integer less than 1000."},
		{"PUT", "/" + strings.Repeat("k", 513), "", 414, "UTF-8 encoded length of 513 exceeds key length limit of 512."},
		{"PUT", "/k", strings.Repeat("x", store.MaxValue+1), 413, "Value length of 26214401 exceeds limit of 26214400."},
		{"POST", "/bulk/get", `{"keys":["a"],"type":"arrayBuffer"}`, 400, `"arrayBuffer" is not a valid type. Use "json" or "text"`},
		{"POST", "/bulk/get", `{"keys":["a"],"cacheTtl":"5"}`, 400, "Invalid cache_ttl of 5. Cache TTL must be at least 30."},
		{"PATCH", "/k", "", 400, "PATCH"}, {"GET", "/%zz", "", 400, ""},
	} {
		if strings.Contains(r.target, "%zz") {
			continue // no client can send it
		}
		if g := d.ask(c, r.method, r.target, r.body); g.Status != r.status || !strings.Contains(g.Errors[0].Message, r.says) {
			t.Errorf("%s %.60s = %d %q, want %d %q", r.method, r.target, g.Status, g.Errors[0].Message, r.status, r.says)
		}
	}
	d.ok("DELETE", spaces(d.owner.AccountID)+"/"+id, "")
	if g := d.ask(c, "GET", "/large?urlencoded=true", ""); g.Status != 400 || g.Errors[0].Message != "namespace not found" {
		t.Errorf("get from a deleted namespace: %d %q", g.Status, g.Errors[0].Message)
	}
}

func TestBindingIsChecked(t *testing.T) {
	d := newDesk(t)
	_, id := d.make(d.owner.AccountID, "n")
	check := d.kv.Bindings()[0].Check
	must(t, check(t.Context(), d.owner.AccountID, &spec.WorkerBinding{NamespaceID: id}))
	for account, id := range map[string]string{d.other: id, d.owner.AccountID: "x"} {
		if err := check(t.Context(), account, &spec.WorkerBinding{NamespaceID: id}); err == nil || !strings.Contains(err.Error(), "not valid") {
			t.Errorf("binding to %s of %s: %v", id, account, err)
		}
	}
}

// TestTenantsNeverMeet asks every endpoint of one account for the namespace of another, and a binding
// made for it: nothing of the other's is seen or changed.
func TestTenantsNeverMeet(t *testing.T) {
	d := newDesk(t)
	mine, id := d.make(d.owner.AccountID, "mine")
	const secret = "the other must not see this"
	d.ok("PUT", value(mine, "k"), secret)
	d.form(value(mine, "m"), "value", secret, "metadata", `"`+secret+`"`)
	before := d.ok("GET", mine, "").Body
	yours, own := d.make(d.other, "yours")
	foreign := spaces(d.other) + "/" + id
	for _, r := range d.kv.Routes() {
		if !strings.Contains(r.Path, "{namespace_id}") {
			continue
		}
		for _, key := range []string{"k", "m"} {
			path := strings.NewReplacer("{account_id}", d.other, "{namespace_id}", id, "{key_name...}", key).Replace(r.Path)
			for _, body := range []string{"", `{"title":"stolen"}`, `["k","m"]`, `{"keys":["k","m"]}`, `[{"key":"k","value":"changed"}]`} {
				if g := d.do(r.Method, path, body); g.Status != 404 || g.code() != 10013 || strings.Contains(g.Body, secret) {
					t.Errorf("%s %s %s = %d %s", r.Method, path, body, g.Status, g.Body)
				}
			}
		}
	}
	if g := d.do("GET", foreign+"/../"+own, ""); g.Status == 200 {
		t.Errorf("a path with dots: %s", g.Body)
	}
	// Names that would lead out of one's own keys if they were put together carelessly.
	for _, key := range []string{"../" + id + "/k", "k/d" + id, id, "\x00", "\xf4\x8f\xbf\xbf"} {
		d.ok("PUT", value(yours, key), "x")
		d.ok("GET", yours+"/keys?prefix="+url.QueryEscape(key), "")
		d.ok("DELETE", value(yours, key), "")
	}
	if g := d.ok("GET", yours+"/keys?cursor="+url.QueryEscape("AAAA"), ""); strings.Contains(g.Body, `"k"`) {
		t.Errorf("listed: %s", g.Body)
	}
	c := d.bind(d.other, id)
	for _, r := range []struct{ method, target, body string }{
		{"GET", "/k?urlencoded=true", ""}, {"GET", "/", ""}, {"PUT", "/k?urlencoded=true", "changed"}, {"DELETE", "/k?urlencoded=true", ""}, {"POST", "/bulk/get", `{"keys":["k","m"]}`},
	} {
		if g := d.ask(c, r.method, r.target, r.body); g.Status != 400 || strings.Contains(g.Body, secret) {
			t.Errorf("%s %s on another's binding = %d %s", r.method, r.target, g.Status, g.Body)
		}
	}
	if after := d.ok("GET", mine, "").Body; after != before {
		t.Errorf("the namespace was %s and is %s", before, after)
	}
	if g := d.ok("GET", value(mine, "k"), ""); g.Body != secret {
		t.Errorf("the value became %q", g.Body)
	}
}
