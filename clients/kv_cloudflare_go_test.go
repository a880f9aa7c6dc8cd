package clients

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

// TestKVCloudflareGoOwn runs the tests that come with Cloudflare's Go SDK. They name an account and a
// namespace that are nobody's, so each of their requests gets the node's account and a namespace made
// for it, in which there is their key.
func TestKVCloudflareGoOwn(t *testing.T) {
	n := startNode(t)
	spaces := "/accounts/" + n.AccountID + "/storage/kv/namespaces"
	var made atomic.Int64
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.Replace(r.URL.RequestURI(), "023e105f4ecef8ad9ca31a8372d0c353", n.AccountID, 1)
		body, _ := io.ReadAll(r.Body)
		if theirs := "0f2ac74b498b48028cb68387c421e279"; strings.Contains(path, theirs) {
			id := n.call(t, "POST", spaces, map[string]any{"title": fmt.Sprint("own ", made.Add(1))})["id"].(string)
			n.call(t, "PUT", spaces+"/"+id+"/bulk", []any{map[string]any{"key": "My-Key", "value": "v", "metadata": map[string]any{"a": 1}}})
			path = strings.Replace(path, theirs, id, 1)
			body = bytes.Replace(body, []byte(`"base64":true`), []byte(`"base64":false`), 1) // their value is none
		}
		if bytes.Contains(body, []byte("My Own Namespace")) { // two of their tests give the same title
			n.eachNamespace(t, func(id, title string) {
				if title == "My Own Namespace" {
					n.call(t, "DELETE", spaces+"/"+id, nil)
				}
			})
		}
		req, err := http.NewRequest(r.Method, n.API+path, bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+n.Token)
		req.Header.Set("Content-Type", r.Header.Get("Content-Type"))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		w.Header().Set("Content-Type", res.Header.Get("Content-Type"))
		w.WriteHeader(res.StatusCode)
		io.Copy(w, res.Body)
	}))
	defer front.Close()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "github.com/cloudflare/cloudflare-go/v6/kv")
	cmd.Env = append(os.Environ(), "TEST_API_BASE_URL="+front.URL)
	out, err := cmd.CombinedOutput()
	if passed := strings.Count(string(out), "--- PASS"); err != nil || passed < 14 {
		t.Errorf("%d tests of the SDK pass, %v:\n%.6000s", passed, err, out)
	}
}

// eachNamespace calls f with the ID and title of each of the account's KV namespaces.
func (n *node) eachNamespace(t *testing.T, f func(id, title string)) {
	t.Helper()
	_, list := n.try(t, "GET", "/accounts/"+n.AccountID+"/storage/kv/namespaces?per_page=1000", nil)
	all, _ := list["result"].([]any)
	for _, one := range all {
		fields := one.(map[string]any)
		f(fields["id"].(string), fields["title"].(string))
	}
}
