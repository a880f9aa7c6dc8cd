package volume

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"selvage/foundation/clock"
	"selvage/foundation/fault"
)

const (
	// s3Part is the size of all parts but the last of an upload, and up to what size content is put at once.
	// With it 10,000 parts hold 80 GiB.
	s3Part = 8 << 20

	// s3Abandoned is how old an upload has to be to be one that nobody will end.
	s3Abandoned = 24 * time.Hour
)

// S3Options say where a service is and who asks it.
type S3Options struct {
	Endpoint string // scheme, host and port, as https://s3.eu-central-1.amazonaws.com
	Bucket   string
	Prefix   string // of the keys, as selvage/; may be empty
	Region   string // default: us-east-1

	AccessKeyID, SecretAccessKey, SessionToken string

	VirtualHost bool // the bucket is in the host's name and not in the path

	// Attempts is how often a request is tried that the service did not answer, or with a 5xx. Default: 6,
	// within some 6 seconds.
	Attempts int

	Client *http.Client // default: one with timeouts for connecting and for the answer's head
	Clock  clock.Clock
}

// S3 is a volume in a bucket of any S3 service. Content has the same form there as in a file, so that what
// is read is compared with checksums of our own. Safe for concurrent use.
type S3 struct {
	o      S3Options
	base   *url.URL // of the bucket, with a slash at the end
	blocks *sync.Pool
	parts  *sync.Pool // of s3Part bytes
}

var _ Volume = (*S3)(nil)

// OpenS3 returns the volume, after it has looked whether the bucket answers.
func OpenS3(ctx context.Context, o S3Options) (*S3, error) {
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Attempts == 0 {
		o.Attempts = 6
	}
	if o.Client == nil {
		o.Client = newClient()
	}
	base, err := url.Parse(o.Endpoint)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fault.New(fault.Invalid, "%q is not the endpoint of an S3 service: it has the form https://host:port.", o.Endpoint)
	}
	if o.Bucket == "" || o.AccessKeyID == "" || o.SecretAccessKey == "" {
		return nil, fault.New(fault.Invalid, "The volume at %s needs a bucket, an access key ID and a secret access key.", base.Host)
	}
	base.Path = "/"
	if o.VirtualHost {
		base.Host = o.Bucket + "." + base.Host
	} else {
		base.Path = "/" + o.Bucket + "/"
	}
	v := &S3{o: o, base: base, blocks: blockPool(), parts: &sync.Pool{New: func() any { b := make([]byte, 0, s3Part); return &b }}}
	page := url.Values{"list-type": {"2"}, "max-keys": {"1"}, "prefix": {o.Prefix}}
	if err := v.get(ctx, page, &struct{}{}); err != nil {
		return nil, fmt.Errorf("open the volume: %w", err)
	}
	return v, nil
}

// String names the place, without credentials.
func (v *S3) String() string { return v.base.String() + v.o.Prefix }

// Delete removes an object. Readers may get an error.
func (v *S3) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	res, err := v.do(ctx, &request{method: http.MethodDelete, key: v.o.Prefix + name})
	if err != nil && !isCode(err, "NoSuchKey") {
		return err
	}
	if err == nil {
		res.Body.Close()
	}
	return nil
}

// List goes through the pages of the service's listing.
func (v *S3) List(ctx context.Context, f func(Entry) error) error {
	for token := ""; ; {
		query := url.Values{"list-type": {"2"}, "prefix": {v.o.Prefix}}
		if token != "" {
			query.Set("continuation-token", token)
		}
		var page struct {
			IsTruncated           bool
			NextContinuationToken string
			Contents              []struct {
				Key          string
				Size         int64
				LastModified time.Time
			}
		}
		if err := v.get(ctx, query, &page); err != nil {
			return fmt.Errorf("list the volume: %w", err)
		}
		for _, c := range page.Contents {
			name := strings.TrimPrefix(c.Key, v.o.Prefix)
			if checkName(name) != nil {
				continue // not ours
			}
			if err := f(Entry{Name: name, Size: max(contentSize(c.Size), 0), Modified: c.LastModified}); err != nil {
				return err
			}
		}
		if token = page.NextContinuationToken; !page.IsTruncated || token == "" {
			return nil
		}
	}
}

// Tidy aborts uploads that were begun more than a day ago.
func (v *S3) Tidy(ctx context.Context) error {
	query := url.Values{"uploads": {""}, "prefix": {v.o.Prefix}}
	for {
		var page struct {
			IsTruncated   bool
			NextKeyMarker string
			NextUploadID  string `xml:"NextUploadIdMarker"`
			Upload        []struct {
				Key       string
				UploadID  string `xml:"UploadId"`
				Initiated time.Time
			}
		}
		if err := v.get(ctx, query, &page); err != nil {
			return fmt.Errorf("tidy the volume: %w", err)
		}
		for _, u := range page.Upload {
			if checkName(strings.TrimPrefix(u.Key, v.o.Prefix)) != nil || v.o.Clock.Now().Sub(u.Initiated) < s3Abandoned {
				continue
			}
			if err := v.abort(ctx, u.Key, u.UploadID); err != nil {
				return fmt.Errorf("tidy the volume: %w", err)
			}
		}
		if !page.IsTruncated || page.NextKeyMarker == "" {
			return nil
		}
		query.Set("key-marker", page.NextKeyMarker)
		query.Set("upload-id-marker", page.NextUploadID)
	}
}

func (v *S3) abort(ctx context.Context, key, upload string) error {
	res, err := v.do(ctx, &request{method: http.MethodDelete, key: key, query: url.Values{"uploadId": {upload}}})
	if isCode(err, "NoSuchUpload") {
		return nil
	}
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// get asks the bucket for something that is XML.
func (v *S3) get(ctx context.Context, query url.Values, into any) error {
	return v.decode(ctx, &request{method: http.MethodGet, query: query}, into)
}

// decode does a request whose answer is XML; an error in a 200 counts as well.
func (v *S3) decode(ctx context.Context, r *request, into any) error {
	res, err := v.do(ctx, r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := readSome(res.Body, 4<<20)
	if err != nil {
		return v.unavailable(err)
	}
	var failed s3Error
	if xml.Unmarshal(body, &failed) == nil && failed.XMLName.Local == "Error" {
		failed.status = res.StatusCode
		return v.refuse(&failed)
	}
	if err := xml.Unmarshal(body, into); err != nil {
		return v.unavailable(fmt.Errorf("the answer is not what S3 gives: %w", err))
	}
	return nil
}

// s3Error is what the service says.
type s3Error struct {
	XMLName xml.Name
	Code    string
	Message string
	status  int
}

// Error returns code and message.
func (e *s3Error) Error() string {
	return strconv.Itoa(e.status) + " " + e.Code + ": " + e.Message
}

func isCode(err error, code string) bool {
	var e *s3Error
	return errors.As(err, &e) && e.Code == code
}

func isStatus(err error, status int) bool {
	var e *s3Error
	return errors.As(err, &e) && e.status == status
}

// refuse says what the service said to whom it may concern: users of the node can only try again.
func (v *S3) refuse(e *s3Error) error {
	switch {
	case e.Code == "NoSuchKey", e.Code == "NoSuchUpload":
		return e
	case e.status == http.StatusInsufficientStorage, e.Code == "XMinioStorageFull", e.Code == "QuotaExceeded":
		return fault.Wrap(e, fault.Unavailable, "The storage behind this node is full. Free some space there, then try again.")
	}
	return v.unavailable(e)
}

func (v *S3) unavailable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fault.Wrap(fmt.Errorf("%s: %w", v.base.Host, err), fault.Unavailable, "The storage behind this node does not answer as it should; the node's log says why. Try again later.")
}
