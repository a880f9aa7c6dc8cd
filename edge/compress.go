package edge

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"selvage/foundation/budget"
)

// Compress returns a handler that stands around all phases: it compresses what next responds for
// clients that ask for it. It is not a phase because it has to be outside of the cache, which keeps
// responses as origins send them, and because every zone has it.
//
// On the way in, Accept-Encoding is brought to one of three values ("gzip, br", "gzip", none), so
// that a cache that follows Vary keeps three variants at most.
func Compress(next Handler) Handler {
	slots := &budget.Slots{Limit: maxEncoders}
	return func(ctx context.Context, ex *Exchange) error {
		ex.AcceptEncoding = ex.Request.Header.Joined("Accept-Encoding")
		accepted := normalizeAccept(&ex.Request.Header)
		if err := next(ctx, ex); err != nil {
			return err
		}
		encode(ex, accepted, slots)
		return nil
	}
}

const (
	minCompressed = 256 // bytes: below, the head of the format costs more than is won
	// maxEncoders bounds the memory of encoders, some 1 MB each; responses beyond go uncompressed.
	maxEncoders = 512
)

// accepted is the weight from 0 to 1000 that the client gives a coding.
type accepted struct{ gzip, br, zstd int }

// normalizeAccept reads Accept-Encoding (RFC 9110, 12.5.3) and replaces it by what origins get.
func normalizeAccept(h *Header) accepted {
	raw := h.Joined("Accept-Encoding")
	if raw == "" {
		return accepted{}
	}
	a := parseAccept(raw)
	switch {
	case a.gzip > 0 && a.br > 0:
		h.Set("Accept-Encoding", "gzip, br")
	case a.gzip > 0:
		h.Set("Accept-Encoding", "gzip")
	default:
		h.Del("Accept-Encoding")
	}
	return a
}

func parseAccept(raw string) accepted {
	var a accepted
	star, seen := 0, [3]bool{}
	for part := range strings.SplitSeq(raw, ",") {
		name, params, _ := strings.Cut(part, ";")
		q := quality(params)
		switch name = strings.TrimSpace(name); {
		case strings.EqualFold(name, "gzip"), strings.EqualFold(name, "x-gzip"):
			a.gzip, seen[0] = q, true
		case strings.EqualFold(name, "br"):
			a.br, seen[1] = q, true
		case strings.EqualFold(name, "zstd"):
			a.zstd, seen[2] = q, true
		case name == "*":
			star = q
		}
	}
	// "*" alone comes from programs that cannot all read zstd or brotli, whatever they say.
	if star > 0 && !seen[0] {
		a.gzip = star
	}
	return a
}

// quality reads "q=0.5" as 500. Without a weight it is 1000, with one that cannot be read 0.
func quality(params string) int {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(q >= 0 && q <= 1) {
			return 0
		}
		return int(q * 1000)
	}
	return 1000
}

// encode compresses ex.Response if that is allowed and worth it.
func encode(ex *Exchange, a accepted, slots *budget.Slots) {
	res := &ex.Response
	if !mayCompress(res) {
		return
	}
	addVary(&res.Header)
	name := choose(a, ex.Zone == nil || ex.Zone.Settings.On("brotli"))
	if name == "" {
		return
	}
	if ex.Request.Method == http.MethodHead {
		describe(res, name)
		return
	}
	if res.Body == nil || !slots.Take() {
		return
	}
	streaming := res.Length < 0
	describe(res, name)
	res.Body = newEncodedBody(res.Body, name, streaming, slots)
}

// mayCompress tells whether a response is of a kind that is compressed, client or not.
func mayCompress(res *Response) bool {
	h := &res.Header
	if res.Status < 200 || res.Status == http.StatusNoContent || res.Status == http.StatusPartialContent || res.Status == http.StatusNotModified {
		return false
	}
	if res.Length >= 0 && res.Length < minCompressed || res.Tunnel != nil {
		return false
	}
	return compressible(h.Get("Content-Type")) && !h.Has("Content-Encoding") && !h.Has("Content-Digest") && !h.Has("Content-Range") &&
		!containsFold(h.Joined("Cache-Control"), "no-transform")
}

// choose picks the coding with the greatest weight; of equal ones the one that costs least for what
// it saves.
func choose(a accepted, brotliOn bool) string {
	if !brotliOn {
		a.br = 0
	}
	switch best := max(a.gzip, a.br, a.zstd); {
	case best == 0:
		return ""
	case a.zstd == best:
		return "zstd"
	case a.br == best:
		return "br"
	}
	return "gzip"
}

// describe changes the head: other bytes are another representation, so a strong ETag becomes weak.
func describe(res *Response, coding string) {
	h := &res.Header
	h.Set("Content-Encoding", coding)
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		h.Set("ETag", "W/"+tag)
	}
	h.Del("Accept-Ranges")
	res.Length = -1
}

func addVary(h *Header) {
	vary := h.Joined("Vary")
	if containsFold(vary, "accept-encoding") || strings.Contains(vary, "*") {
		return
	}
	h.Add("Vary", "Accept-Encoding")
}

func containsFold(s, lower string) bool {
	return len(s) >= len(lower) && strings.Contains(strings.ToLower(s), lower)
}

// compressible tells whether bodies of a media type gain from compression. The list follows what
// Cloudflare compresses.
func compressible(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	if media == "" || media == "text/event-stream" {
		return false
	}
	if strings.HasPrefix(media, "text/") || strings.HasSuffix(media, "+json") || strings.HasSuffix(media, "+xml") {
		return true
	}
	return compressibleMedia[media]
}

var compressibleMedia = map[string]bool{
	"application/json": true, "application/javascript": true, "application/x-javascript": true, "application/ecmascript": true,
	"application/xml": true, "application/wasm": true, "application/manifest+json": true, "application/x-web-app-manifest": true,
	"application/graphql": true, "application/vnd.api+json": true, "application/vnd.ms-fontobject": true, "application/x-font-ttf": true,
	"application/x-font-opentype": true, "application/opentype": true, "application/otf": true, "application/truetype": true, "application/ttf": true,
	"font/eot": true, "font/otf": true, "font/ttf": true, "font/opentype": true, "font/x-woff": true,
	"image/svg+xml": true, "image/bmp": true, "image/x-icon": true, "image/vnd.microsoft.icon": true,
	"application/x-httpd-cgi": true, "application/x-perl": true, "multipart/bag": true, "multipart/mixed": true,
}

// encoder is what the three libraries have in common.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(w io.Writer)
}

var encoders = map[string]*sync.Pool{
	"gzip": {New: func() any { w, _ := gzip.NewWriterLevel(nil, 5); return w }},
	"br":   {New: func() any { return brotli.NewWriterOptions(nil, brotli.WriterOptions{Quality: 4, LGWin: 18}) }},
	"zstd": {New: func() any {
		w, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(512<<10), zstd.WithLowerEncoderMem(true))
		return w
	}},
}

// encodedBody compresses while it is read.
type encodedBody struct {
	src       io.ReadCloser
	enc       encoder
	pool      *sync.Pool
	slots     *budget.Slots
	in        *[copySize]byte
	out       bytes.Buffer
	streaming bool // of unknown length: what has come goes out at once
	ended     bool
	closed    bool
}

func newEncodedBody(src io.ReadCloser, name string, streaming bool, slots *budget.Slots) *encodedBody {
	b := &encodedBody{src: src, pool: encoders[name], slots: slots, streaming: streaming}
	b.enc = b.pool.Get().(encoder)
	b.enc.Reset(&b.out)
	b.in = buffers.Get().(*[copySize]byte)
	return b
}

// Read returns the next compressed bytes.
func (b *encodedBody) Read(p []byte) (int, error) {
	for b.out.Len() == 0 {
		if b.ended {
			return 0, io.EOF
		}
		if err := b.more(); err != nil {
			return 0, err
		}
	}
	return b.out.Read(p)
}

// more compresses one piece of the source.
func (b *encodedBody) more() error {
	if b.closed {
		return io.ErrClosedPipe
	}
	n, err := b.src.Read(b.in[:])
	if n > 0 {
		if _, werr := b.enc.Write(b.in[:n]); werr != nil {
			return werr
		}
	}
	switch {
	case err == io.EOF:
		b.ended = true
		return b.enc.Close()
	case err != nil:
		return err
	case b.streaming && n < len(b.in):
		return b.enc.Flush()
	}
	return nil
}

// Close closes the source and gives the encoder back.
func (b *encodedBody) Close() error {
	if b.closed {
		return nil
	}
	b.closed, b.ended = true, true
	b.enc.Reset(nil)
	b.pool.Put(b.enc)
	buffers.Put(b.in)
	b.out = bytes.Buffer{}
	b.slots.Free()
	return b.src.Close()
}
