package assets

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"selvage/foundation/fault"
)

// Limits of a manifest.
const (
	maxFileBytes     = 25 << 20 // as Cloudflare's
	maxPath          = 1024     // bytes
	maxManifestBytes = 64 << 20 // of the JSON, as sent and as kept
)

// File is one file of a site.
type File struct {
	Hash   string `json:"hash"`   // 32 hex digits, made by the client; the file's ETag
	Size   int64  `json:"size"`   // bytes
	Digest string `json:"digest"` // hex SHA-256: where the blob store has the content
	Type   string `json:"type,omitempty"`
}

// Manifest maps the paths of a site to its files. It is kept as a blob, as JSON.
type Manifest struct {
	Files map[string]*File `json:"files"`
}

// wanted is a file that an upload session announces.
type wanted struct {
	Hash string `json:"hash"`
	Size int64  `json:"size"`
}

// parseWanted reads the body of an upload session: {"manifest": {"/path": {"hash": "...", "size": 1}}}.
func parseWanted(r io.Reader, maxFiles int) (map[string]wanted, error) {
	if r == nil {
		return nil, fault.New(fault.Invalid, `The request has no body; send {"manifest": {...}}.`)
	}
	body, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var sent struct {
		Manifest json.RawMessage `json:"manifest"`
	}
	if err := json.Unmarshal(body, &sent); err != nil || len(sent.Manifest) == 0 {
		return nil, badManifest("", `The body has to be JSON such as {"manifest": {"/index.html": {"hash": "32 hex digits", "size": 1}}}.`)
	}
	files := map[string]wanted{}
	sizes := map[string]int64{}
	err = eachEntry(sent.Manifest, func(path string, w wanted) error {
		if len(files) == maxFiles {
			return fault.New(fault.TooMuch, "The manifest has more than %d files, the limit for one version.", maxFiles).At("manifest")
		}
		if _, again := files[path]; again {
			return badManifest(path, "The path stands in the manifest twice.")
		}
		if err := checkEntry(path, w); err != nil {
			return err
		}
		w.Hash = strings.ToLower(w.Hash)
		if size, ok := sizes[w.Hash]; ok && size != w.Size {
			return badManifest(path, "The hash %s belongs to files of %d and of %d bytes; one hash is one content.", w.Hash, size, w.Size)
		}
		sizes[w.Hash] = w.Size
		files[path] = w
		return nil
	})
	return files, err
}

// eachEntry calls f for each member of a JSON object, also for those of the same name.
func eachEntry(object []byte, f func(path string, w wanted) error) error {
	malformed := badManifest("", "The manifest has to be a JSON object of paths, each with hash and size.")
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return malformed
	}
	for d.More() {
		t, err := d.Token()
		path, ok := t.(string)
		if err != nil || !ok {
			return malformed
		}
		var w wanted
		if err := d.Decode(&w); err != nil {
			return badManifest(path, "An entry is an object of hash, a text, and size, a whole number.")
		}
		if err := f(path, w); err != nil {
			return err
		}
	}
	return nil
}

func checkEntry(path string, w wanted) error {
	if err := checkPath(path); err != nil {
		return err
	}
	switch {
	case !isHash(w.Hash):
		return badManifest(path, "The hash %.80q is not 32 hex digits.", w.Hash)
	case w.Size < 0:
		return badManifest(path, "The size is %d; it cannot be negative.", w.Size)
	case w.Size > maxFileBytes:
		return fault.New(fault.TooMuch, "The file has %d bytes, the limit is %d (25 MiB). Larger files can lie in R2.", w.Size, maxFileBytes).At(field(path))
	}
	return nil
}

// checkPath refuses paths that no request could ever name.
func checkPath(path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return badManifest(path, "A path begins with a slash.")
	case len(path) > maxPath:
		return badManifest(path[:60]+"...", "The path has %d bytes, the limit is %d.", len(path), maxPath)
	case !utf8.ValidString(path):
		return badManifest(path, "The path is not valid UTF-8.")
	case strings.ContainsFunc(path, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return badManifest(path, "The path has control characters.")
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if segment == "" || segment == "." || segment == ".." {
			return badManifest(path, `The path has a segment that is empty, "." or ".."; name the file by its own path.`)
		}
	}
	return nil
}

func isHash(s string) bool {
	if len(s) != 32 {
		return false
	}
	for i := range len(s) {
		if unhex(s[i]) < 0 {
			return false
		}
	}
	return true
}

func badManifest(path, format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).At(field(path))
}

func field(path string) string {
	if path == "" {
		return "manifest"
	}
	return "manifest[" + fmt.Sprintf("%.80q", path) + "]"
}

// readManifest decodes a manifest as it is kept.
func readManifest(kept []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(kept, &m); err != nil {
		return nil, fmt.Errorf("decode manifest of assets: %w", err)
	}
	for path, f := range m.Files {
		if f == nil {
			return nil, errors.New("manifest of assets: no file at " + path)
		}
	}
	return &m, nil
}
