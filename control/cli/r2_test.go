package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bucketAnswers is a part of the API of R2.
var bucketAnswers = map[string]string{
	"GET /accounts/A/r2/buckets/images":                 `{"name":"images","storage_class":"Standard","jurisdiction":"default"}`,
	"GET /accounts/A/r2/buckets/images/usage":           `{"objectCount":"1","payloadSize":"2"}`,
	"GET /accounts/A/r2/buckets/images/domains/custom":  `{"domains":[{"domain":"img.example.com","enabled":true}]}`,
	"GET /accounts/A/r2/buckets/images/domains/managed": `{"domain":"pub-1.r2.localhost","enabled":true}`,
	"GET /accounts/A/r2/buckets/images/objects":         `[{"key":"a","size":1,"etag":"x-1"},{"key":"sealed","size":1,"etag":"x-1"},{"key":"z","size":1,"etag":"x-1"}]`,
	"GET /accounts/A/r2/buckets/images/objects/a":       `"a"`,
	"GET /accounts/A/r2/buckets/images/objects/z":       `"z"`,
}

func TestR2(t *testing.T) {
	a := newAPI(t, bucketAnswers)
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"r2", "info", "images"}, 0, []string{"https://img.example.com", "https://pub-1.r2.localhost"}},
		{[]string{"r2", "ls", "images/a"}, 0, []string{"sealed"}},
		{[]string{"r2", "ls", "nothing"}, 1, []string{"No such thing"}},
		{[]string{"r2", "creat", "images"}, 2, []string{"did you mean create?"}},
		{[]string{"r2", "put", "images", "x"}, 1, []string{"BUCKET/KEY"}},
	} {
		code, out, errors := a.run(t.Context(), c.args...)
		for _, want := range c.want {
			if !strings.Contains(out+errors, want) {
				t.Errorf("%v printed no %q:\n%s%s", c.args, want, out, errors)
			}
		}
		if code != c.code {
			t.Errorf("%v ended with %d, want %d: %s", c.args, code, c.code, errors)
		}
	}
}

// TestR2Export has an object that cannot be read: the others are written, and it is named.
func TestR2Export(t *testing.T) {
	a := newAPI(t, bucketAnswers)
	dir := t.TempDir()
	code, out, errors := a.run(t.Context(), "r2", "export", "images", dir)
	if code != 1 || !strings.Contains(out, "2 written") || !strings.Contains(errors, "1 object could not be read") || !strings.Contains(errors, "sealed: No such thing") {
		t.Errorf("r2 export = %d\n%s%s", code, out, errors)
	}
	for _, name := range []string{"a", "z", "selvage-export.jsonl"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}
