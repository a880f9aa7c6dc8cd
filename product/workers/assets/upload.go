package assets

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"mime"
	"mime/multipart"
	"strings"

	"golang.org/x/net/http/httpguts"
	"lukechampine.com/blake3"

	"selvage/foundation/fault"
	"selvage/product"
)

// noType is the content type by which wrangler says that there is none.
const noType = "application/null"

// uploadBucket takes files as parts of a form, each named after its hash. With ?base64=true they
// are in base64.
func (st *Store) uploadBucket(ctx context.Context, c *product.Call) (product.Reply, error) {
	s, err := st.resume(c)
	if err != nil {
		return product.Reply{}, err
	}
	kind, params, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" || c.Body == nil {
		return product.Reply{}, fault.New(fault.Invalid, "Send the files as multipart/form-data, one part for each, named after its hash.")
	}
	parts := multipart.NewReader(c.Body, params["boundary"])
	for n := 0; ; n++ {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return product.Reply{}, broken(err)
		}
		if n > len(s.files) {
			return product.Reply{}, fault.New(fault.TooMuch, "The request has more than %d parts, as many as the session announced files.", len(s.files))
		}
		var r io.Reader = part
		if c.Query.Get("base64") == "true" {
			r = base64.NewDecoder(base64.StdEncoding, part)
		}
		if err := st.receive(ctx, s, part.FormName(), part.Header.Get("Content-Type"), r); err != nil {
			return product.Reply{}, err
		}
	}
	return st.progress(s)
}

// uploadOne takes one file as it is.
func (st *Store) uploadOne(ctx context.Context, c *product.Call) (product.Reply, error) {
	s, err := st.resume(c)
	if err != nil {
		return product.Reply{}, err
	}
	var r io.Reader = strings.NewReader("")
	if c.Body != nil {
		r = c.Body
	}
	if c.Query.Get("base64") == "true" {
		r = base64.NewDecoder(base64.StdEncoding, r)
	}
	if err := st.receive(ctx, s, c.Params["hash"], c.Header.Get("Content-Type"), r); err != nil {
		return product.Reply{}, err
	}
	return st.progress(s)
}

// receive stores one file of a session.
func (st *Store) receive(ctx context.Context, s *session, name, kind string, r io.Reader) error {
	name = strings.ToLower(name)
	a, ok := s.files[name]
	if !ok {
		return fault.New(fault.Invalid, "The session has announced no file with the hash %.80q.", name)
	}
	if kind == noType {
		kind = ""
	}
	if len(kind) > 255 || !httpguts.ValidHeaderFieldValue(kind) {
		return fault.New(fault.Invalid, "The content type of %s is not valid: %.80q.", a.path, kind)
	}
	n := newNamer(a.path)
	digest, size, err := st.o.Blobs.Put(ctx, io.TeeReader(&exact{r: r, left: a.size, path: a.path}, n), 0)
	if err != nil {
		return broken(err)
	}
	session := ""
	if !n.names(name, digest) {
		// Made in a way not known here: it may be right, but nobody else has to believe it.
		if old, ok := st.index.get(s.Account, name, ""); ok && old.digest != digest {
			return fault.New(fault.Invalid, "The content of %s is not what its hash %s stands for. Upload the file that was hashed.", a.path, name)
		}
		session = s.ID
	}
	return st.index.put(s.Account, name, session, entry{digest, size, kind})
}

// exact passes on a file that has as many bytes as was announced, and ends in a fault otherwise.
type exact struct {
	r    io.Reader
	left int64
	path string
}

// Read fills p.
func (x *exact) Read(p []byte) (int, error) {
	n, err := x.r.Read(p)
	x.left -= int64(n)
	if x.left < 0 {
		return 0, fault.New(fault.Invalid, "The file %s has more bytes than the manifest says.", x.path)
	}
	if err == io.EOF && x.left > 0 {
		return n, fault.New(fault.Invalid, "The file %s has %d bytes less than the manifest says.", x.path, x.left)
	}
	return n, err
}

// broken says what a client can do about a body that could not be read.
func broken(err error) error {
	var corrupt base64.CorruptInputError
	switch {
	case fault.KindOf(err) != fault.Internal:
		return err
	case errors.As(err, &corrupt):
		return fault.Wrap(err, fault.Invalid, "A file is not valid base64.")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fault.Wrap(err, fault.Invalid, "The request body ended too early.")
	case strings.HasPrefix(err.Error(), "multipart:"):
		return fault.Wrap(err, fault.Invalid, "The request body is not a valid form.")
	}
	return err
}

// namer makes the hashes by which clients call a file, from its content.
type namer struct {
	text       io.WriteCloser // takes the content, for the two below
	blake, sha hash.Hash      // of the content in base64, followed by the extension
	extension  string
}

func newNamer(path string) *namer {
	n := &namer{blake: blake3.New(32, nil), sha: sha256.New(), extension: extension(path)}
	n.text = base64.NewEncoder(base64.StdEncoding, io.MultiWriter(n.blake, n.sha))
	return n
}

// Write takes a piece of the content.
func (n *namer) Write(p []byte) (int, error) { return n.text.Write(p) }

// names tells whether name is what a client calls the content that was written: wrangler by BLAKE3,
// the example in Cloudflare's documentation by SHA-256 in the same way, others by the SHA-256 of the
// content alone. Call it once.
func (n *namer) names(name, digest string) bool {
	n.text.Close()
	io.WriteString(n.blake, n.extension)
	io.WriteString(n.sha, n.extension)
	for _, full := range []string{hex.EncodeToString(n.blake.Sum(nil)), hex.EncodeToString(n.sha.Sum(nil)), digest} {
		if full[:len(name)] == name {
			return true
		}
	}
	return false
}
