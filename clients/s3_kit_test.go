package clients

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// s3 is a node with the credentials of its first token.
type s3 struct {
	*node
	id, secret string
}

func startS3(t *testing.T) *s3 {
	t.Helper()
	n := startNode(t)
	sum := sha256.Sum256([]byte(n.Token))
	return &s3{n, n.call(t, "GET", "/user/tokens/verify", nil)["id"].(string), hex.EncodeToString(sum[:])}
}

// host is the address without its scheme.
func (s *s3) host() string { return strings.TrimPrefix(s.S3, "http://") }

// env are the variables that AWS's tools read.
func (s *s3) env(t *testing.T) []string {
	return append([]string{"PATH=" + os.Getenv("PATH")}, "AWS_ACCESS_KEY_ID="+s.id, "AWS_SECRET_ACCESS_KEY="+s.secret, "AWS_DEFAULT_REGION=auto", "AWS_REGION=auto", "AWS_ENDPOINT_URL="+s.S3,
		"S3_ENDPOINT="+s.S3, "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true", "AWS_CA_BUNDLE=", "HOME="+t.TempDir())
}

// tree makes a folder of so many files: nested, some of them empty, some with odd names, and one that
// clients send in parts.
func tree(t *testing.T, files int) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	odd := []string{"a b", "100%", "a+b", "ä-ö-€", "quote'double\"", "(paren)[bracket]{brace}", "am&per=sand;semi", "hash#question", "tilde~", "dollar$at@", "\U0001F600", "very/deep/a/b/c/d/e/f", "comma,colon:", "caret^pipe|", "%41", "empty"}
	for i, name := range odd {
		data := make([]byte, 100*i)
		rand.Read(data)
		if name == "empty" {
			data = nil
		}
		write(filepath.Join("odd", name), data)
	}
	for i := range files - len(odd) - 1 {
		write(fmt.Sprintf("dir-%02d/sub-%d/file-%04d.txt", i%37, i%5, i), []byte(strings.Repeat(fmt.Sprintf("file %d\n", i), 1+i%50)))
	}
	large := make([]byte, 20<<20)
	rand.Read(large)
	write("large.bin", large)
	return dir
}

// same compares two trees.
func same(t *testing.T, want, got string) {
	t.Helper()
	sums := func(root string) map[string]string {
		all := map[string]string{}
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, _ := filepath.Rel(root, path)
			all[name] = fmt.Sprintf("%d bytes, %x", len(data), sha256.Sum256(data))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	a, b := sums(want), sums(got)
	for name, sum := range a {
		if b[name] != sum {
			t.Errorf("%q: sent %s, came back %q", name, sum, b[name])
		}
	}
	for name := range b {
		if a[name] == "" {
			t.Errorf("%q came back and was not sent", name)
		}
	}
	if len(a) == 0 {
		t.Error("the tree is empty")
	}
}

// differs compares bytes.
func differs(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes that differ from the %d that were sent", what, len(got), len(want))
	}
}
