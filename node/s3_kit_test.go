package node_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// s3Client signs requests for one bucket of a node that is replaced now and again. It repeats none.
type s3Client struct {
	t          testing.TB
	id, secret string
	bucket     string
	node       *atomic.Pointer[process]
	http       *http.Client
}

// newS3Client makes a bucket and returns a client for it that signs with the owner's token.
func newS3Client(t testing.TB, node *atomic.Pointer[process], bucket string) *s3Client {
	t.Helper()
	p := node.Load()
	var token struct{ ID string }
	must(t, p.call("POST", "/accounts/"+p.AccountID+"/r2/buckets", `{"name":"`+bucket+`"}`, nil))
	must(t, p.call("GET", "/user/tokens/verify", "", &token))
	secret := sha256.Sum256([]byte(p.token))
	return (&s3Client{t: t, id: token.ID, secret: hex.EncodeToString(secret[:]), bucket: bucket, node: node}).with(&http.Transport{})
}

// with returns a client that has connections of its own.
func (c *s3Client) with(transport *http.Transport) *s3Client {
	other := *c
	other.http = &http.Client{Transport: transport}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &other
}

// open sends a request and returns the answer when its head is there. path is below the bucket.
func (c *s3Client) open(method, path string, body io.Reader, length int64) (*http.Response, error) {
	var connections atomic.Int32
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connections.Add(1) }})
	r, err := http.NewRequestWithContext(ctx, method, c.node.Load().S3+"/"+c.bucket+path, body)
	if err != nil {
		return nil, err
	}
	r.ContentLength, r.GetBody = length, nil
	c.sign(r)
	res, err := c.http.Do(r)
	if err == nil && connections.Load() != 1 {
		res.Body.Close()
		err = fmt.Errorf("the request was sent %d times", connections.Load())
	}
	return res, err
}

// do sends a request and reads an answer of status 200 or 204.
func (c *s3Client) do(method, path string, body []byte) ([]byte, http.Header, error) {
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}
	res, err := c.open(method, path, content, int64(len(body)))
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNoContent {
		err = fmt.Errorf("status %d: %.300s", res.StatusCode, data)
	}
	if err != nil {
		return nil, res.Header, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return data, res.Header, nil
}

// sign signs as Signature Version 4 asks for; the body is not signed, for it may come slowly.
func (c *s3Client) sign(r *http.Request) {
	const region = "auto"
	stamp := time.Now().UTC().Format("20060102T150405Z")
	r.Header.Set("X-Amz-Date", stamp)
	r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	query := strings.Split(r.URL.RawQuery, "&")
	slices.Sort(query)
	const names = "host;x-amz-content-sha256;x-amz-date"
	canonical := strings.Join([]string{
		r.Method, r.URL.EscapedPath(), strings.Join(query, "&"), "host:" + r.URL.Host, "x-amz-content-sha256:UNSIGNED-PAYLOAD", "x-amz-date:" + stamp, "", names, "UNSIGNED-PAYLOAD",
	}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	scope := stamp[:8] + "/" + region + "/s3/aws4_request"
	key := []byte("AWS4" + c.secret)
	for _, part := range []string{stamp[:8], region, "s3", "aws4_request", "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(sum[:])} {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", c.id, scope, names, key))
}

// has compares an object with what it has to be.
func (c *s3Client) has(key string, want []byte) error {
	got, _, err := c.do("GET", "/"+key, nil)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("%s has %d bytes %.40q, want %d bytes %.40q", key, len(got), got, len(want), want)
	}
	return err
}

// lacks tells whether there is no object.
func (c *s3Client) lacks(key string) error {
	res, err := c.open("GET", "/"+key, nil, 0)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		return fmt.Errorf("%s is there: status %d", key, res.StatusCode)
	}
	return nil
}

// upload begins a multipart upload.
func (c *s3Client) upload(key string) (id string, err error) {
	data, _, err := c.do("POST", "/"+key+"?uploads=", nil)
	if err != nil {
		return "", err
	}
	var out struct {
		UploadID string `xml:"UploadId"`
	}
	err = xml.Unmarshal(data, &out)
	return out.UploadID, err
}

func partPath(key, upload string, number int) string {
	return fmt.Sprintf("/%s?partNumber=%d&uploadId=%s", key, number, upload)
}

// complete ends a multipart upload.
func (c *s3Client) complete(key, upload string, etags ...string) error {
	var b strings.Builder
	b.WriteString("<CompleteMultipartUpload>")
	for i, tag := range etags {
		fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, tag)
	}
	b.WriteString("</CompleteMultipartUpload>")
	_, _, err := c.do("POST", "/"+key+"?uploadId="+upload, []byte(b.String()))
	return err
}

// putParts stores an object as a multipart upload.
func (c *s3Client) putParts(key string, parts ...[]byte) error {
	id, err := c.upload(key)
	if err != nil {
		return err
	}
	var etags []string
	for i, part := range parts {
		_, h, err := c.do("PUT", partPath(key, id, i+1), part)
		if err != nil {
			return err
		}
		etags = append(etags, h.Get("Etag"))
	}
	return c.complete(key, id, etags...)
}

// s3Content is a text that only n has; some are too large for the index.
func s3Content(n int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "content %d ", n), 1+(n%3)*5000)
}
