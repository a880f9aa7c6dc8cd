package workers

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"selvage/foundation/fault"
)

// Limits of an upload, those of Cloudflare's paid plan where it has one.
const (
	maxUpload     = 80 << 20 // the request's body
	maxMetadata   = 2 << 20
	maxScript     = 64 << 20 // modules and blobs together
	maxCompressed = 10 << 20 // the same after gzip
	maxSourceMaps = 15 << 20
	maxParts      = 2000
	maxPartName   = 512
)

// Codes of Cloudflare's API that tell clients what is wrong with an upload.
const (
	codeInvalidUpload = 10021
	codeNoHandlers    = 10068
	codeTooLarge      = 10027
	codeBadBody       = 10001
)

// upload is what a client sent: its metadata, and the parts, whose bytes lie in the blob store.
type upload struct {
	meta  []byte
	parts []part
}

// part is a file of an upload.
type part struct {
	name   string
	media  string // media type, lower case, without parameters
	digest string
	size   int64
}

// invalid is the fault of an upload that cannot work.
func invalid(field, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...).WithCode(codeInvalidUpload).At(field)
}

// readUpload reads a script as clients send it: multipart/form-data with a part called metadata (or
// settings), or the script itself as application/javascript.
func (w *Workers) readUpload(ctx context.Context, header http.Header, body io.Reader) (u *upload, err error) {
	defer func() {
		if err != nil && body != nil {
			// Most clients send all before they read: those that are cut off never see the answer.
			_, _ = io.Copy(io.Discard, io.LimitReader(body, maxUpload)) // they get the refusal either way
		}
	}()
	media, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return nil, fault.New(fault.Invalid, "The Content-Type of the upload is not valid; send multipart/form-data with a part called metadata.").WithCode(codeBadBody)
	}
	switch media {
	case "multipart/form-data":
	case "application/javascript", "text/javascript", "application/javascript+module", "text/javascript+module":
		return w.readScript(ctx, media, body)
	default:
		return nil, fault.New(fault.Invalid, "An upload is multipart/form-data or application/javascript, not %.80s.", media).WithCode(codeBadBody)
	}
	if params["boundary"] == "" {
		return nil, fault.New(fault.Invalid, "The Content-Type multipart/form-data lacks its boundary.").WithCode(codeBadBody)
	}
	u = &upload{}
	total, maps := int64(0), int64(0)
	names := map[string]bool{}
	for r := multipart.NewReader(body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, cutOff(err)
		}
		name, err := partName(p)
		if err != nil {
			return nil, err
		}
		if names[name] {
			return nil, invalid(name, "The upload has two parts named %q.", name)
		}
		names[name] = true
		if len(names) > maxParts {
			return nil, fault.New(fault.TooMuch, "The upload has more than %d parts; bundle its modules.", maxParts).WithCode(codeTooLarge)
		}
		if name == "metadata" || name == "settings" {
			if u.meta, err = readMetadata(p); err != nil {
				return nil, err
			}
			continue
		}
		got, err := w.readPart(ctx, p, name, maxScript-total, maxSourceMaps-maps)
		if err != nil {
			return nil, err
		}
		if got.media == "application/source-map" {
			maps += got.size
		} else {
			total += got.size
		}
		u.parts = append(u.parts, got)
	}
	if u.meta == nil {
		return nil, invalid("metadata", "The upload has no part called metadata.")
	}
	return u, w.checkCompressed(ctx, u.parts, total)
}

// readScript reads a body that is a script by itself.
func (w *Workers) readScript(ctx context.Context, media string, body io.Reader) (*upload, error) {
	digest, size, err := w.o.Blobs.Put(ctx, body, maxScript)
	if err != nil {
		return nil, tooLarge(err)
	}
	u := &upload{meta: []byte(`{"body_part":"script"}`), parts: []part{{name: "script", media: media, digest: digest, size: size}}}
	if strings.HasSuffix(media, "+module") {
		u.meta = []byte(`{"main_module":"script"}`)
	}
	return u, w.checkCompressed(ctx, u.parts, size)
}

func (w *Workers) readPart(ctx context.Context, p *multipart.Part, name string, left, mapsLeft int64) (part, error) {
	media, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
	if err != nil {
		media = ""
	}
	if media == "application/source-map" {
		left = mapsLeft
	}
	// A limit of 0 would be none to the store.
	digest, size, err := w.o.Blobs.Put(ctx, p, max(left, 1))
	if err != nil {
		return part{}, tooLarge(cutOff(err))
	}
	return part{name: name, media: media, digest: digest, size: size}, nil
}

// tooLarge gives the store's refusal of too many bytes the words and code of an upload.
func tooLarge(err error) error {
	if fault.KindOf(err) == fault.TooMuch {
		return fault.Wrap(err, fault.TooMuch, "The script is too large: its modules may have %d MiB together (%d MiB after gzip), and %d MiB of source maps.", maxScript>>20, maxCompressed>>20, maxSourceMaps>>20).WithCode(codeTooLarge)
	}
	return err
}

// cutOff tells a body that ended early, or is no multipart, from faults of our own.
func cutOff(err error) error {
	if fault.KindOf(err) != fault.Internal {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || strings.HasPrefix(err.Error(), "multipart:") || strings.HasPrefix(err.Error(), "malformed MIME") {
		return fault.Wrap(err, fault.Invalid, "The upload is not valid multipart/form-data, or ended too early.").WithCode(codeBadBody)
	}
	return err
}

// partName returns a part's name, in which clients escape what would end it.
func partName(p *multipart.Part) (string, error) {
	name := p.FormName()
	if name == "" {
		name = p.FileName()
	}
	name = strings.NewReplacer("%22", `"`, "%0D", "\r", "%0A", "\n").Replace(name)
	if name == "" || len(name) > maxPartName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return "", fault.New(fault.Invalid, "A part of the upload is named %.80q; names have 1 to %d bytes of UTF-8 without control characters.", name, maxPartName).WithCode(codeInvalidUpload)
	}
	return name, nil
}

func readMetadata(p io.Reader) ([]byte, error) {
	meta, err := io.ReadAll(io.LimitReader(p, maxMetadata+1))
	if err != nil {
		return nil, cutOff(err)
	}
	if len(meta) > maxMetadata {
		return nil, fault.New(fault.TooMuch, "The upload's metadata is larger than %d MiB.", maxMetadata>>20).WithCode(codeTooLarge)
	}
	return meta, nil
}

// checkCompressed bounds what the parts take after gzip, without doing so where it cannot matter.
func (w *Workers) checkCompressed(ctx context.Context, parts []part, total int64) error {
	if total <= maxCompressed {
		return nil
	}
	var n counter
	z, err := gzip.NewWriterLevel(&n, gzip.DefaultCompression)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if p.media == "application/source-map" {
			continue
		}
		if err := w.copyBlob(ctx, z, p.digest); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	if n > maxCompressed {
		return fault.New(fault.TooMuch, "Your Worker exceeded the size limit of %d MiB: its modules have %.2f MiB, %.2f MiB after gzip.",
			maxCompressed>>20, float64(total)/(1<<20), float64(n)/(1<<20)).WithCode(codeTooLarge)
	}
	return nil
}

// counter counts what is written to it.
type counter int64

// Write counts.
func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

// copyBlob writes the content of digest to dst.
func (w *Workers) copyBlob(ctx context.Context, dst io.Writer, digest string) error {
	f, err := w.o.Blobs.Open(digest)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read blob %s: %w", digest, err)
		}
	}
}

// isJSON tells whether a body, named by its Content-Type, is JSON and not a form.
func isJSON(header http.Header) bool {
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	return err != nil || !strings.HasPrefix(media, "multipart/")
}

// readForm returns the JSON of a body that may be wrapped in a form's part called metadata or
// settings, as two of Cloudflare's SDKs send it.
func (w *Workers) readForm(ctx context.Context, header http.Header, body io.Reader) ([]byte, error) {
	if isJSON(header) {
		if body == nil {
			body = bytes.NewReader(nil)
		}
		return readMetadata(body)
	}
	u, err := w.readUpload(ctx, header, body)
	if err != nil {
		return nil, err
	}
	return u.meta, nil
}
