package volume

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	connectWithin = 10 * time.Second
	headWithin    = time.Minute
	firstPause    = 100 * time.Millisecond // between attempts; it doubles
)

func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: connectWithin}).DialContext,
			TLSHandshakeTimeout:   connectWithin,
			ResponseHeaderTimeout: headWithin,
			MaxIdleConnsPerHost:   64,
			IdleConnTimeout:       time.Minute,
			DisableCompression:    true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// request is one to the service; its body is in memory so that it can be sent again.
type request struct {
	method string
	key    string // empty: the bucket
	query  url.Values
	header http.Header
	body   []byte
}

// do sends a request until it is answered, and returns the answer if that is a success.
func (v *S3) do(ctx context.Context, r *request) (*http.Response, error) {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		res, err := v.once(ctx, r)
		if err == nil || ctx.Err() != nil || attempt >= v.o.Attempts || !again(err) {
			var refused *s3Error
			if errors.As(err, &refused) {
				return nil, v.refuse(refused)
			}
			if err != nil {
				return nil, v.unavailable(err)
			}
			return res, nil
		}
		if err := wait(ctx, pause/2+rand.N(pause)); err != nil {
			return nil, err
		}
		pause *= 2
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// again tells whether a request may do better the next time.
func again(err error) bool {
	var refused *s3Error
	if !errors.As(err, &refused) {
		return true // no answer
	}
	switch refused.status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests, http.StatusRequestTimeout:
		return true
	}
	return refused.Code == "RequestTimeout"
}

// once sends a request once.
func (v *S3) once(ctx context.Context, r *request) (*http.Response, error) {
	u := *v.base
	u.RawPath = escape(u.Path+r.key, true)
	u.Path += r.key
	u.RawQuery = canonicalQuery(r.query)
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	for k, values := range r.header {
		req.Header[k] = values
	}
	v.sign(req, r.body, v.o.Clock.Now())
	res, err := v.o.Client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	failed := s3Error{status: res.StatusCode, Code: http.StatusText(res.StatusCode)}
	if body, err := readSome(res.Body, 64<<10); err == nil && len(body) > 0 {
		_ = xml.Unmarshal(body, &failed) // a proxy's page, perhaps: then the status has to do
	}
	if failed.status == http.StatusNotFound && r.key != "" && failed.Code == http.StatusText(http.StatusNotFound) {
		failed.Code = "NoSuchKey"
	}
	return nil, &failed
}

// readSome reads all of r, up to a limit beyond which it is an error.
func readSome(r io.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(body)) > limit {
		err = fmt.Errorf("the answer has more than %d bytes", limit)
	}
	return body, err
}

// sign signs a request. Source: AWS Signature Version 4, "Create a signed AWS API request".
func (v *S3) sign(req *http.Request, body []byte, now time.Time) {
	hash := sha256.Sum256(body)
	stamp := now.UTC().Format("20060102T150405Z")
	req.Header.Set("X-Amz-Date", stamp)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(hash[:]))
	if v.o.SessionToken != "" {
		req.Header.Set("X-Amz-Security-Token", v.o.SessionToken)
	}
	names := []string{"host"}
	for k := range req.Header {
		names = append(names, strings.ToLower(k))
	}
	slices.Sort(names)
	var canonical strings.Builder
	fmt.Fprintf(&canonical, "%s\n%s\n%s\n", req.Method, req.URL.EscapedPath(), req.URL.RawQuery)
	for _, name := range names {
		value := req.Header.Get(name)
		if name == "host" {
			value = req.URL.Host
		}
		fmt.Fprintf(&canonical, "%s:%s\n", name, strings.TrimSpace(value))
	}
	signed := strings.Join(names, ";")
	fmt.Fprintf(&canonical, "\n%s\n%x", signed, hash)
	scope := stamp[:8] + "/" + v.o.Region + "/s3/aws4_request"
	digest := sha256.Sum256([]byte(canonical.String()))
	key := []byte("AWS4" + v.o.SecretAccessKey)
	for part := range strings.SplitSeq(scope, "/") {
		key = keyed(key, part)
	}
	signature := keyed(key, "AWS4-HMAC-SHA256\n"+stamp+"\n"+scope+"\n"+hex.EncodeToString(digest[:]))
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", v.o.AccessKeyID, scope, signed, signature))
}

func keyed(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// canonicalQuery returns a query as SigV4 wants it: sorted, a space as %20.
func canonicalQuery(query url.Values) string {
	var pairs []string
	for k, values := range query {
		for _, value := range values {
			pairs = append(pairs, escape(k, false)+"="+escape(value, false))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape escapes all but unreserved characters, and slashes of a path.
func escape(s string, path bool) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 || path && c == '/' {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
