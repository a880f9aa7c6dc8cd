package api_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"selvage/control/api"
	"selvage/foundation/clock"
	"selvage/product"
)

// TestRestOfPath has a last parameter take what it is given, slashes and escapes alike.
func TestRestOfPath(t *testing.T) {
	answer := func(name string) func(context.Context, *product.Call) (product.Reply, error) {
		return func(_ context.Context, c *product.Call) (product.Reply, error) {
			return product.Reply{Raw: &product.Raw{Write: func(_ context.Context, w io.Writer) error {
				_, err := io.WriteString(w, name+" "+c.Params["bucket"]+" "+c.Params["key"])
				return err
			}}}, nil
		}
	}
	a, err := api.New(api.Options{State: openStore(t, t.TempDir(), clock.Clock{}), Routes: []product.Route{
		{Method: "GET", Path: "/b/{bucket}/objects/{key...}", Summary: "Get.", Public: true, Handle: answer("object")},
		{Method: "GET", Path: "/b/{bucket}/objects", Summary: "List.", Public: true, Handle: answer("list")},
		{Method: "GET", Path: "/b/{bucket}/objects/{key}/tags", Summary: "Tags.", Public: true, Handle: answer("tags")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	deep := strings.Repeat("d/", 500) + "x"
	for path, want := range map[string]string{
		"/b/one/objects":              "list one ",
		"/b/one/objects/a":            "object one a",
		"/b/one/objects/a/b//c/":      "object one a/b//c/",
		"/b/one/objects//a":           "object one /a",
		"/b/one/objects/a%2Fb/%E2%82": "object one a/b/\xe2\x82",
		"/b/one/objects/a/tags":       "tags one a",
		"/b/one/objects/a/b/tags":     "object one a/b/tags",
		"/b/one/objects/" + deep:      "object one " + deep,
	} {
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequest(http.MethodGet, api.Prefix+path, nil))
		if got := w.Body.String(); w.Code != http.StatusOK || got != want {
			t.Errorf("GET %.80s = %d %.120q, want %.120q", path, w.Code, got, want)
		}
	}
	for _, path := range []string{"/b/one/objects/", "/b/one/other", "/b//objects/a", "/" + deep} {
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequest(http.MethodGet, api.Prefix+path, nil))
		if w.Code != http.StatusNotFound || !bytes.Contains(w.Body.Bytes(), []byte("7003")) {
			t.Errorf("GET %.80s = %d %.120s, want 404", path, w.Code, w.Body)
		}
	}
}
