package clients

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/encrypt"
)

// TestS3MinioGo does with minio-go, which signs bodies in chunks, what Go programs do.
func TestS3MinioGo(t *testing.T) {
	s := startS3(t)
	ctx := t.Context()
	c, err := minio.New(s.host(), &minio.Options{Creds: credentials.NewStaticV4(s.id, s.secret, ""), Region: "auto", TrailingHeaders: true, MaxRetries: 1})
	must(t, err)
	must(t, c.MakeBucket(ctx, "golang", minio.MakeBucketOptions{Region: "auto"}))
	from, to := tree(t, 200), t.TempDir()
	syncTree(t, c, from, to)
	same(t, from, to)

	large := make([]byte, 18<<20)
	rand.Read(large)
	_, err = c.PutObject(ctx, "golang", "parts", bytes.NewReader(large), -1, minio.PutObjectOptions{PartSize: 5 << 20, UserMetadata: map[string]string{"Who": "me"}, ContentType: "text/x"})
	must(t, err)
	o, err := c.GetObject(ctx, "golang", "parts", minio.GetObjectOptions{})
	must(t, err)
	got, err := io.ReadAll(o)
	must(t, err)
	differs(t, "object in parts", got, large)
	if i, err := o.Stat(); err != nil || i.UserMetadata["Who"] != "me" || i.ContentType != "text/x" {
		t.Errorf("Stat = %+v, %v", i, err)
	}
	for _, sum := range []minio.ChecksumType{minio.ChecksumCRC32, minio.ChecksumCRC32C, minio.ChecksumSHA1, minio.ChecksumSHA256, minio.ChecksumCRC64NVME} {
		_, err := c.PutObject(ctx, "golang", "sum", bytes.NewReader(large[:7<<20]), 7<<20, minio.PutObjectOptions{Checksum: sum, DisableMultipart: true})
		if err != nil {
			t.Errorf("put with %v: %v", sum, err)
		}
		o, err := c.GetObject(ctx, "golang", "sum", minio.GetObjectOptions{Checksum: true})
		must(t, err)
		if _, err := io.Copy(io.Discard, o); err != nil {
			t.Errorf("get with %v: %v", sum, err)
		}
	}
	key, err := encrypt.NewSSEC(large[:32])
	must(t, err)
	_, err = c.PutObject(ctx, "golang", "sealed", bytes.NewReader(large[:100]), 100, minio.PutObjectOptions{ServerSideEncryption: key})
	must(t, err)
	if _, err := c.StatObject(ctx, "golang", "sealed", minio.StatObjectOptions{}); err == nil {
		t.Error("a sealed object shows itself without its key")
	}
	_, err = c.CopyObject(ctx, minio.CopyDestOptions{Bucket: "golang", Object: "copy"}, minio.CopySrcOptions{Bucket: "golang", Object: "parts"})
	must(t, err)
	_, err = c.ComposeObject(ctx, minio.CopyDestOptions{Bucket: "golang", Object: "composed"}, minio.CopySrcOptions{Bucket: "golang", Object: "parts"}, minio.CopySrcOptions{Bucket: "golang", Object: "copy"})
	must(t, err)
	if i, err := c.StatObject(ctx, "golang", "composed", minio.StatObjectOptions{}); err != nil || i.Size != 36<<20 {
		t.Errorf("composed: %+v, %v", i, err)
	}
	u, err := c.PresignedGetObject(ctx, "golang", "copy", time.Minute, url.Values{"response-content-type": {"text/y"}})
	must(t, err)
	res, err := http.Get(u.String())
	must(t, err)
	defer res.Body.Close()
	got, _ = io.ReadAll(res.Body)
	differs(t, "presigned", got, large)
	if ct := res.Header.Get("Content-Type"); ct != "text/y" {
		t.Errorf("presigned content type %q", ct)
	}
	opts := minio.PutObjectOptions{}
	opts.SetMatchETagExcept("*")
	if _, err := c.PutObject(ctx, "golang", "copy", bytes.NewReader(nil), 0, opts); minio.ToErrorResponse(err).Code != "PreconditionFailed" {
		t.Errorf("put of what is there: %v", err)
	}
	for err := range c.RemoveObjects(ctx, "golang", c.ListObjects(ctx, "golang", minio.ListObjectsOptions{Recursive: true}), minio.RemoveObjectsOptions{}) {
		t.Errorf("remove: %v", err)
	}
	must(t, c.RemoveBucket(ctx, "golang"))
}

// syncTree sends a tree and fetches it.
func syncTree(t *testing.T, c *minio.Client, from, to string) {
	t.Helper()
	ctx := context.Background()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(from, path)
		_, err = c.FPutObject(ctx, "golang", "base/"+filepath.ToSlash(name), path, minio.PutObjectOptions{PartSize: 5 << 20})
		return err
	})
	must(t, err)
	for o := range c.ListObjects(ctx, "golang", minio.ListObjectsOptions{Prefix: "base/", Recursive: true}) {
		must(t, o.Err)
		must(t, c.FGetObject(ctx, "golang", o.Key, filepath.Join(to, o.Key[len("base/"):]), minio.GetObjectOptions{}))
	}
	if _, err := os.Stat(to); err != nil {
		t.Fatal(fmt.Errorf("nothing came back: %w", err))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
