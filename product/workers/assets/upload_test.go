package assets_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/workers/assets"
	"selvage/spec"
)

// Files with the hashes that blake3-wasm 2.1.5 makes of them as wrangler does.
const (
	helloHash = "f0b3413d4cabb000327fad369003d6a5" // "hello" as .txt
	pageHash  = "e5e943f01929441dfbb0d4956a759fda" // "<h1>hi</h1>" as .html
	emptyHash = "9e7a27539226d700e116522ee435029d" // nothing as .css
	longHash  = "a709d25a2cfc55c1e839b6ff84c2f71b" // 100,000 times "a" as .bin
)

var long = strings.Repeat("a", 100_000)

const fourFiles = `{"manifest":{
	"/hello.txt":{"hash":"` + helloHash + `","size":5},
	"/index.html":{"hash":"` + pageHash + `","size":11},
	"/style.css":{"hash":"` + emptyHash + `","size":0},
	"/sub/long.bin":{"hash":"` + longHash + `","size":100000}}}`

// contents are the four files by hash, with the content type that wrangler names.
var contents = map[string][2]string{
	helloHash: {"text/plain; charset=utf-8", "hello"},
	pageHash:  {"text/html; charset=utf-8", "<h1>hi</h1>"},
	emptyHash: {"text/css; charset=utf-8", ""},
	longHash:  {"application/null", long},
}

// sendAll uploads what is missing, one by one, and returns the token that completes.
func (k *kit) sendAll(account, token string, buckets [][]string) string {
	k.t.Helper()
	done, left := "", len(flat(buckets))
	for _, hash := range flat(buckets) {
		var err error
		if done, err = k.sendOne(account, token, hash, contents[hash][0], contents[hash][1]); err != nil {
			k.t.Fatal(err)
		}
		if left--; (done != "") != (left == 0) {
			k.t.Fatalf("%d files left, completing token %q", left, done)
		}
	}
	return done
}

func flat(buckets [][]string) []string {
	var all []string
	for _, b := range buckets {
		all = append(all, b...)
	}
	return all
}

func (k *kit) mustSession(account, script, body string) (string, [][]string) {
	k.t.Helper()
	token, buckets, err := k.session(account, script, body)
	if err != nil {
		k.t.Fatal(err)
	}
	return token, buckets
}

func TestUploadFileByFile(t *testing.T) {
	k := newKit(t)
	token, buckets := k.mustSession(alice, "w", fourFiles)
	if len(flat(buckets)) != 4 {
		t.Fatalf("buckets = %v, want four files", buckets)
	}
	var said struct {
		Single     bool  `json:"wrangler_single_asset_uploads"`
		Concurrent int   `json:"edge_kv_upload_concurrency"`
		Expires    int64 `json:"exp"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil || json.Unmarshal(payload, &said) != nil {
		t.Fatalf("payload of the token: %s, %v", payload, err)
	}
	if !said.Single || said.Concurrent < 1 || said.Expires != k.now.Add(time.Hour).Unix() {
		t.Errorf("token says %+v", said)
	}
	done := k.sendAll(alice, token, buckets)
	digest, err := k.store.Complete(t.Context(), alice, "w", done)
	if err != nil {
		t.Fatal(err)
	}
	k.check(digest)

	// The same again has nothing to send.
	token, buckets = k.again().mustSession(alice, "w", fourFiles)
	if len(buckets) != 0 {
		t.Errorf("buckets of the second session = %v", buckets)
	}
	if again, err := k.store.Complete(t.Context(), alice, "w", token); again != digest || err != nil {
		t.Errorf("Complete of the second session = %s, %v; want %s", again, err, digest)
	}
}

// check looks at the four files as a site.
func (k *kit) check(digest string) {
	k.t.Helper()
	site := k.store.Site(alice, &spec.WorkerVersion{Assets: &spec.WorkerAssets{Manifest: digest}})
	for path, hash := range map[string]string{"/hello.txt": helloHash, "/": pageHash, "/style.css": emptyHash, "/sub/long.bin": longHash} {
		ex := exchange("GET", path, nil)
		if served, err := site.Serve(k.t.Context(), ex); !served || err != nil {
			k.t.Fatalf("Serve(%s) = %v, %v", path, served, err)
		}
		var body []byte
		if ex.Response.Body != nil {
			body, _ = io.ReadAll(ex.Response.Body)
			ex.Response.Close()
		}
		kind := strings.TrimSuffix(contents[hash][0], "application/null")
		h := &ex.Response.Header
		if string(body) != contents[hash][1] || h.Get("Content-Type") != kind || h.Get("ETag") != `"`+hash+`"` {
			k.t.Errorf("%s: %d bytes, %q, %s", path, len(body), h.Get("Content-Type"), h.Get("ETag"))
		}
	}
	files, err := k.store.References(digest)
	if len(files) != 4 || err != nil {
		k.t.Errorf("References = %v, %v", files, err)
	}
}

// form is a bucket as wrangler sends it.
func form(t testing.TB, hashes []string, inBase64 bool) (kind string, body *bytes.Buffer) {
	body = &bytes.Buffer{}
	w := multipart.NewWriter(body)
	for _, hash := range hashes {
		part, err := w.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf(`form-data; name="%s"; filename="%s"`, hash, hash)},
			"Content-Type":        {contents[hash][0]},
		})
		if err != nil {
			t.Fatal(err)
		}
		content := contents[hash][1]
		if inBase64 {
			content = base64.StdEncoding.EncodeToString([]byte(content))
		}
		io.WriteString(part, content)
	}
	w.Close()
	return w.FormDataContentType(), body
}

func (k *kit) sendForm(token, kind string, body io.Reader, query string) (string, error) {
	k.t.Helper()
	q, _ := url.ParseQuery(query)
	result, err := k.call(alice, "/upload", product.Call{Body: body, Query: q, Header: http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {kind}}})
	if err != nil {
		return "", err
	}
	done, _ := result["jwt"].(string)
	return done, nil
}

func TestUploadInForms(t *testing.T) {
	for _, query := range []string{"base64=true", ""} {
		t.Run(query, func(t *testing.T) {
			k := newKit(t)
			token, buckets := k.mustSession(alice, "w", fourFiles)
			kind, body := form(t, flat(buckets), query != "")
			done, err := k.sendForm(token, kind, body, query)
			if err != nil || done == "" {
				t.Fatalf("upload = %q, %v", done, err)
			}
			digest, err := k.store.Complete(t.Context(), alice, "w", done)
			if err != nil {
				t.Fatal(err)
			}
			k.check(digest)
		})
	}
}

func TestParallelUploadsThroughTwoProcesses(t *testing.T) {
	k := newKit(t)
	manifest := map[string]any{}
	files := map[string]string{}
	for i := range 60 {
		content := fmt.Sprint("file ", i)
		sum := sha256.Sum256([]byte(content))
		hash := hex.EncodeToString(sum[:])[:32]
		files[hash] = content
		manifest[fmt.Sprintf("/f%d.txt", i)] = map[string]any{"hash": hash, "size": len(content)}
	}
	body, err := json.Marshal(map[string]any{"manifest": manifest})
	if err != nil {
		t.Fatal(err)
	}
	token, buckets := k.mustSession(alice, "w", string(body))
	processes := []*kit{k, k.again()}
	var group sync.WaitGroup
	done := make(chan string, len(files))
	for i, hash := range flat(buckets) {
		group.Go(func() {
			token, err := processes[i%2].sendOne(alice, token, hash, "text/plain", files[hash])
			if err != nil {
				t.Error(err)
			}
			if token != "" {
				done <- token
			}
		})
	}
	group.Wait()
	close(done)
	last, ok := <-done
	if !ok {
		t.Fatal("no upload answered the completing token")
	}
	if _, err := k.again().store.Complete(t.Context(), alice, "w", last); err != nil {
		t.Error(err)
	}
}

func TestTenantsShareNothing(t *testing.T) {
	k := newKit(t)
	token, buckets := k.mustSession(alice, "w", fourFiles)
	done := k.sendAll(alice, token, buckets)

	theirs, missing := k.mustSession(mallet, "w", fourFiles)
	if len(flat(missing)) != 4 {
		t.Fatalf("another account is asked for %v; a hash gives it files of ours", missing)
	}
	if _, err := k.store.Complete(t.Context(), mallet, "w", theirs); fault.KindOf(err) != fault.Invalid {
		t.Errorf("Complete without an upload = %v", err)
	}
	if _, err := k.store.Complete(t.Context(), mallet, "w", done); fault.KindOf(err) != fault.Invalid {
		t.Errorf("Complete with the token of another account = %v", err)
	}
	if _, err := k.store.Complete(t.Context(), alice, "x", done); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), `another script, "w"`) {
		t.Errorf("Complete for another script = %v", err)
	}
	if _, err := k.sendOne(mallet, token, helloHash, "text/plain", "hello"); fault.KindOf(err) != fault.Denied {
		t.Errorf("upload with the token of another account = %v", err)
	}
}

func TestTokens(t *testing.T) {
	k := newKit(t)
	token, buckets := k.mustSession(alice, "w", fourFiles)
	parts := strings.Split(token, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	changed := base64.RawURLEncoding.EncodeToString(bytes.Replace(payload, []byte(alice), []byte(mallet), 1))
	for name, bad := range map[string]string{
		"empty": "", "text": "x.y.z", "no signature": parts[0] + "." + parts[1] + ".", "alg none": none + "." + parts[1] + ".",
		"changed": parts[0] + "." + changed + "." + parts[2], "of another node": newKitToken(t),
	} {
		if _, err := k.sendOne(alice, bad, helloHash, "text/plain", "hello"); fault.KindOf(err) != fault.Unauthenticated {
			t.Errorf("%s: upload = %v", name, err)
		}
		if _, err := k.store.Complete(t.Context(), alice, "w", bad); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: Complete = %v", name, err)
		}
	}
	if _, err := k.call(alice, "/upload/{hash}", product.Call{Header: http.Header{}}); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("upload without a token = %v", err)
	}
	*k.now = k.now.Add(59 * time.Minute)
	done := k.again().sendAll(alice, token, buckets) // in a process that has not seen the session
	*k.now = k.now.Add(time.Minute)
	if _, err := k.sendOne(alice, token, helloHash, "text/plain", "hello"); fault.KindOf(err) != fault.Unauthenticated || !strings.Contains(err.Error(), "ran out") {
		t.Errorf("upload with an old token = %v", err)
	}
	if _, err := k.sendOne(alice, done, helloHash, "text/plain", "hello"); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("upload with a completing token = %v", err)
	}
	*k.now = k.now.Add(time.Hour)
	if _, err := k.store.Complete(t.Context(), alice, "w", done); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "ran out") {
		t.Errorf("Complete with an old token = %v", err)
	}
}

func newKitToken(t *testing.T) string {
	token, _ := newKit(t).mustSession(alice, "w", fourFiles)
	return token
}

func TestUploadsThatAreRefused(t *testing.T) {
	k := newKit(t)
	token, _ := k.mustSession(alice, "w", fourFiles)
	for name, c := range map[string]struct{ hash, kind, content, want string }{
		"too short":     {helloHash, "text/plain", "hell", "The file /hello.txt has 1 bytes less than the manifest says."},
		"too long":      {helloHash, "text/plain", "hello!", "The file /hello.txt has more bytes than the manifest says."},
		"not announced": {strings.Repeat("0", 32), "text/plain", "hello", "no file with the hash"},
		"a path":        {"../../token.key", "text/plain", "hello", "no file with the hash"},
		"content type":  {helloHash, "text/plain\r\nX: y", "hello", "content type"},
	} {
		if _, err := k.sendOne(alice, token, c.hash, c.kind, c.content); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := k.sendOne(alice, token, helloHash, "text/plain", "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.sendOne(alice, token, helloHash, "text/plain", "HELLO"); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "is not what its hash") {
		t.Errorf("other content under a known hash = %v", err)
	}
	kind, body := form(t, []string{pageHash}, false)
	if _, err := k.sendForm(token, kind, body, "base64=true"); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "base64") {
		t.Errorf("no base64 = %v", err)
	}
	kind, body = form(t, []string{longHash}, false)
	body.Truncate(5000)
	if _, err := k.sendForm(token, kind, body, ""); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a form cut short = %v", err)
	}
	if _, err := k.sendForm(token, "application/json", strings.NewReader("{}"), ""); fault.KindOf(err) != fault.Invalid {
		t.Errorf("no form = %v", err)
	}
}

// A client may name files in a way not known here. That is believed for one session only.
func TestHashesOfAnotherKind(t *testing.T) {
	k := newKit(t)
	hash := strings.Repeat("ab", 16)
	manifest := `{"manifest":{"/x.txt":{"hash":"` + hash + `","size":5}}}`
	first, _ := k.mustSession(alice, "w", manifest)
	second, _ := k.mustSession(alice, "w", manifest)
	done, err := k.sendOne(alice, first, hash, "text/plain", "hello")
	if err != nil || done == "" {
		t.Fatalf("upload = %q, %v", done, err)
	}
	if _, err := k.store.Complete(t.Context(), alice, "w", done); err != nil {
		t.Error(err)
	}
	if done, err := k.sendOne(alice, second, hash, "text/plain", "HELLO"); err != nil || done == "" {
		t.Errorf("other content in another session = %q, %v", done, err)
	}
	if _, buckets := k.mustSession(alice, "w", manifest); len(flat(buckets)) != 1 {
		t.Errorf("a third session is asked for %v, want the file again", buckets)
	}
	*k.now = time.Now().Add(3 * time.Hour)
	if err := k.store.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDeletedContentIsAskedForAgain(t *testing.T) {
	k := newKit(t)
	token, buckets := k.mustSession(alice, "w", fourFiles)
	done := k.sendAll(alice, token, buckets)
	sum := sha256.Sum256([]byte("hello"))
	if err := k.blobs.Delete(hex.EncodeToString(sum[:])); err != nil {
		t.Fatal(err)
	}
	if _, err := k.store.Complete(t.Context(), alice, "w", done); fault.KindOf(err) != fault.Conflict || !strings.Contains(err.Error(), "/hello.txt") {
		t.Errorf("Complete without the content = %v", err)
	}
	if err := k.store.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	token, buckets = k.mustSession(alice, "w", fourFiles)
	if got := flat(buckets); len(got) != 1 || got[0] != helloHash {
		t.Fatalf("asked for %v, want %s", got, helloHash)
	}
	digest, err := k.store.Complete(t.Context(), alice, "w", k.sendAll(alice, token, buckets))
	if err != nil {
		t.Fatal(err)
	}
	k.check(digest)
}

func TestManifestsThatAreRefused(t *testing.T) {
	k := newKit(t)
	entry := func(path, hash string, size any) string {
		return fmt.Sprintf(`{"manifest":{%q:{"hash":%q,"size":%v}}}`, path, hash, size)
	}
	var many strings.Builder
	for i := range 1001 {
		fmt.Fprintf(&many, `"/%d":{"hash":%q,"size":5},`, i, helloHash)
	}
	for _, c := range []struct {
		body string
		kind fault.Kind
		want string
	}{
		{"", fault.Invalid, "JSON"},
		{"[]", fault.Invalid, "JSON"},
		{`{"manifest":[]}`, fault.Invalid, "object of paths"},
		{`{"manifest":{"/a":1}}`, fault.Invalid, "object of hash"},
		{entry("/a", "xyz", 1), fault.Invalid, "32 hex digits"},
		{entry("/a", helloHash, -1), fault.Invalid, "negative"},
		{entry("/a", helloHash, 1.5), fault.Invalid, "object of hash"},
		{entry("/a", helloHash, 25<<20+1), fault.TooMuch, "26214401 bytes, the limit is 26214400"},
		{entry("a", helloHash, 5), fault.Invalid, "begins with a slash"},
		{entry("/a/../b", helloHash, 5), fault.Invalid, `".."`},
		{entry("/a//b", helloHash, 5), fault.Invalid, "empty"},
		{entry("/a/", helloHash, 5), fault.Invalid, "empty"},
		{entry("/a\x00", helloHash, 5), fault.Invalid, ""},
		{entry("/a\t", helloHash, 5), fault.Invalid, "control characters"},
		{entry("/"+strings.Repeat("a", 1024), helloHash, 5), fault.Invalid, "1025 bytes, the limit is 1024"},
		{`{"manifest":{"/a":{"hash":"` + helloHash + `","size":5},"/a":{"hash":"` + helloHash + `","size":5}}}`, fault.Invalid, "twice"},
		{`{"manifest":{"/a":{"hash":"` + helloHash + `","size":5},"/b":{"hash":"` + helloHash + `","size":6}}}`, fault.Invalid, "one hash is one content"},
		{`{"manifest":{` + strings.TrimSuffix(many.String(), ",") + `}}`, fault.TooMuch, "more than 1000 files"},
	} {
		_, _, err := k.session(alice, "w", c.body)
		if fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80s: %v, want %v with %q", c.body, err, c.kind, c.want)
		}
	}
	if _, _, err := k.session(alice, "../w", fourFiles); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a bad script name = %v", err)
	}
	if _, buckets := k.mustSession(alice, "w", `{"manifest":{}}`); len(buckets) != 0 {
		t.Errorf("buckets of nothing = %v", buckets)
	}
}

func TestConfigure(t *testing.T) {
	kept, err := assets.Configure(json.RawMessage(`{"html_handling":"none","run_worker_first":["/api/*","!/api/x"],"_redirects":"/a /b","_headers":"/a\nx: y","new":1}`), true)
	if err != nil || kept.Redirects != "/a /b" || kept.Headers != "/a\nx: y" || strings.Contains(string(kept.Config), "_headers") {
		t.Errorf("Configure = %+v, %v", kept, err)
	}
	for config, want := range map[string]string{
		`[]`:                               "JSON object",
		`{"html_handling":1}`:              "html_handling",
		`{"html_handling":"x"}`:            `"x" is not a way to handle HTML`,
		`{"not_found_handling":"x"}`:       "not_found_handling",
		`{"run_worker_first":1}`:           "a boolean or a list",
		`{"run_worker_first":[]}`:          "at least 1 rule",
		`{"run_worker_first":["!/a"]}`:     "Only negative",
		`{"run_worker_first":["a","!b"]}`:  "must start with",
		`{"run_worker_first":["/a","/a"]}`: "duplicate",
		`{"run_worker_first":["/*","/a"]}`: "redundant",
		`{"_redirects":"/* /index.html"}`:  "Line 1: Infinite loop",
		`{"_redirects":"/a"}`:              "exactly 2 or 3",
		`{"_headers":"/a"}`:                "No headers specified",
		`{"run_worker_first":["/` + strings.Repeat("a", 100) + `"]}`: "less than 100 characters",
	} {
		if _, err := assets.Configure(json.RawMessage(config), true); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", config, err, want)
		}
	}
	if _, err := assets.Configure(json.RawMessage(`{"run_worker_first":true}`), false); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a Worker first where there is none = %v", err)
	}
}
