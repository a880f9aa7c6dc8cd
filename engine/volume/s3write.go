package volume

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// abortWithin is how long a writer that gives up may take to say so to the service.
const abortWithin = 30 * time.Second

// s3Writer puts an object: at once if it is small, else in parts, one on its way while the next fills.
type s3Writer struct {
	v      *S3
	ctx    context.Context //nolint:containedctx // a writer lives as long as the call that it was made in
	name   string
	sums   summer
	part   *[]byte // being filled
	upload string  // ID, when there is more than one part
	etags  []string
	under  chan sent // the part on its way; nil: none
	ended  bool
}

// sent is how a part fared.
type sent struct {
	part *[]byte
	etag string
	err  error
}

// Create begins an object.
func (v *S3) Create(ctx context.Context, name string, _ int64) (Writer, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return &s3Writer{v: v, ctx: ctx, name: name}, nil
}

func (w *s3Writer) key() string { return w.v.o.Prefix + w.name }

// Write appends p.
func (w *s3Writer) Write(p []byte) (int, error) {
	if w.ended {
		return 0, fs.ErrClosed
	}
	w.sums.add(p)
	return len(p), w.append(p)
}

func (w *s3Writer) append(p []byte) error {
	for len(p) > 0 {
		if w.part == nil {
			w.part = w.v.parts.Get().(*[]byte)
		}
		if len(*w.part) == s3Part {
			if err := w.send(); err != nil {
				return err
			}
			continue
		}
		n := min(len(p), s3Part-len(*w.part))
		*w.part = append(*w.part, p[:n]...)
		p = p[n:]
	}
	return nil
}

// send has the full part sent, when the one before has arrived.
func (w *s3Writer) send() error {
	if w.upload == "" {
		var begun struct {
			UploadID string `xml:"UploadId"`
		}
		if err := w.v.decode(w.ctx, &request{method: http.MethodPost, key: w.key(), query: url.Values{"uploads": {""}}}, &begun); err != nil {
			return err
		}
		w.upload = begun.UploadID
	}
	if err := w.arrive(); err != nil {
		return err
	}
	part, number := w.part, len(w.etags)+1
	w.part = nil
	under := make(chan sent, 1)
	w.under = under
	go func() {
		etag, err := w.v.put(w.ctx, w.key(), url.Values{"partNumber": {strconv.Itoa(number)}, "uploadId": {w.upload}}, *part)
		under <- sent{part, etag, err}
	}()
	return nil
}

// arrive waits for the part on its way.
func (w *s3Writer) arrive() error {
	if w.under == nil {
		return nil
	}
	s := <-w.under
	w.under = nil
	w.v.free(s.part)
	w.etags = append(w.etags, s.etag)
	return s.err
}

func (v *S3) free(part *[]byte) {
	if part != nil {
		*part = (*part)[:0]
		v.parts.Put(part)
	}
}

// put puts bytes and returns their ETag as the service gave it.
func (v *S3) put(ctx context.Context, key string, query url.Values, body []byte) (string, error) {
	sum := md5.Sum(body)
	header := http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(sum[:])}, "Content-Type": {"application/octet-stream"}}
	res, err := v.do(ctx, &request{method: http.MethodPut, key: key, query: query, header: header, body: body})
	if err != nil {
		return "", err
	}
	res.Body.Close()
	return res.Header.Get("Etag"), nil
}

// Commit makes the object.
func (w *s3Writer) Commit() (Content, error) {
	if w.ended {
		return Content{}, fs.ErrClosed
	}
	defer w.Abort()
	c := Content{Name: w.name, Size: w.sums.size}
	tail, sum := w.sums.finish()
	c.Sum = sum
	if err := w.append(tail); err != nil {
		return Content{}, err
	}
	if w.upload == "" {
		if _, err := w.v.put(w.ctx, w.key(), nil, *w.part); err != nil {
			return Content{}, err
		}
		return c, nil
	}
	if err := w.send(); err != nil {
		return Content{}, err
	}
	if err := w.arrive(); err != nil {
		return Content{}, err
	}
	return c, w.complete()
}

func (w *s3Writer) complete() error {
	type part struct {
		PartNumber int
		ETag       string
	}
	list := struct {
		XMLName xml.Name `xml:"CompleteMultipartUpload"`
		Part    []part
	}{}
	for i, etag := range w.etags {
		list.Part = append(list.Part, part{i + 1, etag})
	}
	body, err := xml.Marshal(list)
	if err != nil {
		return err
	}
	r := &request{method: http.MethodPost, key: w.key(), query: url.Values{"uploadId": {w.upload}}, header: http.Header{"Content-Type": {"application/xml"}}, body: body}
	err = w.v.decode(w.ctx, r, &struct{}{})
	if isCode(err, "NoSuchUpload") && w.there() {
		err = nil // the answer to an earlier attempt was lost
	}
	if err == nil {
		w.upload = ""
	}
	return err
}

// there tells whether the object is, with the length that it should have.
func (w *s3Writer) there() bool {
	res, err := w.v.do(w.ctx, &request{method: http.MethodHead, key: w.key()})
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.ContentLength == storedSize(w.sums.size)
}

// Abort ends the upload, if there is one.
func (w *s3Writer) Abort() {
	if w.ended {
		return
	}
	w.ended = true
	_ = w.arrive()
	w.v.free(w.part)
	w.part = nil
	if w.upload == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), abortWithin)
	defer cancel()
	_ = w.v.abort(ctx, w.key(), w.upload) // Tidy finds it otherwise
}

// readTable returns the checksums of blocks from first up to end, after a look at the trailer.
func (v *S3) readTable(ctx context.Context, c Content, first, end int64) ([]byte, error) {
	from := c.Size + first*sumSize
	tail, err := v.readAll(ctx, c, from, storedSize(c.Size)-from)
	if err != nil {
		return nil, err
	}
	if err := checkTrailer(c, tail[len(tail)-trailerSize:]); err != nil {
		return nil, err
	}
	return bytes.Clone(tail[:(end-first)*sumSize]), nil
}

func span(offset, length int64) http.Header {
	return http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)}}
}
