package cli

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func r2Export(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "export BUCKET DIR", Short: "Copy a bucket to a directory",
		Long: `Copy all objects of a bucket into a directory, as files named by their keys. What is there already with
the same content is left as it is, so that a copy that was broken off can be taken up again. Keys that
cannot be names of files (with "..", empty parts or more than 255 bytes in one) are written escaped; the
file selvage-export.jsonl in the directory tells of every object which file it is, with its metadata. An object
that cannot be read is left out and named at the end: one that is damaged, or encrypted with a customer's key.`,
		Example: "  selvage r2 export images /backup/images",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := s.buckets(cmd.Context())
			if err != nil {
				return err
			}
			done, err := b.export(cmd.Context(), args[0], args[1])
			if err != nil {
				return fmt.Errorf("%w (%d objects were written, %d were there; run it again to go on)", err, done.Written, done.Kept)
			}
			if s.json {
				err = printJSON(cmd.OutOrStdout(), done)
			} else {
				fmt.Fprintf(cmd.OutOrStdout(), "%d objects, %d bytes are in %s: %d written, %d were there already.\n", done.Written+done.Kept, done.Bytes, args[1], done.Written, done.Kept)
			}
			if len(done.LeftOut) > 0 {
				return done.incomplete()
			}
			return err
		},
	}
}

// exported is what an export did.
type exported struct {
	Written int       `json:"written"`
	Kept    int       `json:"kept"`
	Bytes   int64     `json:"bytes"` // of all
	LeftOut []leftOut `json:"left_out,omitempty"`
}

// leftOut is an object that could not be read.
type leftOut struct {
	Key    string `json:"key"`
	Reason string `json:"reason"`
}

// incomplete says what was left out.
func (e *exported) incomplete() error {
	const most = 20
	var b strings.Builder
	fmt.Fprintf(&b, "%s could not be read:", plural(len(e.LeftOut), "object"))
	for _, o := range e.LeftOut[:min(most, len(e.LeftOut))] {
		fmt.Fprintf(&b, "\n  %s: %s", printable(o.Key), o.Reason)
	}
	if n := len(e.LeftOut) - most; n > 0 {
		fmt.Fprintf(&b, "\n  and %d more, which --json lists", n)
	}
	return errors.New(b.String())
}

// codeNoKey is R2's code for an object that is not there.
const codeNoKey = 10007

// unreadable is why an object's content did not come, or not whole.
type unreadable struct{ error }

func (u unreadable) Unwrap() error { return u.error }

// manifestName is the file that tells of every object.
const manifestName = "selvage-export.jsonl"

// manifestLine tells of one object.
type manifestLine struct {
	File string `json:"file"`
	object
}

func (b *buckets) export(ctx context.Context, name, dir string) (done exported, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return done, err
	}
	manifest, err := os.CreateTemp(dir, ".selvage-*")
	if err != nil {
		return done, err
	}
	defer os.Remove(manifest.Name())
	defer manifest.Close()
	lines := json.NewEncoder(manifest)
	err = b.pages(ctx, name, "", "", func(p objectPage) error {
		for _, o := range p.Objects {
			file := fileName(dir, o.Key)
			kept, err := b.exportOne(ctx, name, &o, filepath.Join(dir, file))
			if refused := (apiError{}); errors.As(err, &refused) && refused.has(codeNoKey) {
				continue // deleted since it was listed
			}
			if bad := (unreadable{}); errors.As(err, &bad) {
				done.LeftOut = append(done.LeftOut, leftOut{o.Key, bad.Error()})
				continue
			}
			if err != nil {
				return fmt.Errorf("export %s: %w", printable(o.Key), err)
			}
			if kept {
				done.Kept++
			} else {
				done.Written++
			}
			done.Bytes += o.Size
			if err := lines.Encode(manifestLine{file, o}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return done, err
	}
	if err := manifest.Sync(); err != nil {
		return done, err
	}
	return done, os.Rename(manifest.Name(), filepath.Join(dir, manifestName))
}

// exportOne writes an object to a file, unless that has its content already.
func (b *buckets) exportOne(ctx context.Context, name string, o *object, file string) (kept bool, err error) {
	if sameContent(file, o) {
		return true, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return false, err
	}
	return false, b.download(ctx, name, o.Key, file)
}

// sameContent tells whether a file has an object's content: by MD5 where the ETag is one, else by size
// and time.
func sameContent(file string, o *object) bool {
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() || info.Size() != o.Size {
		return false
	}
	if strings.Contains(o.ETag, "-") {
		return info.ModTime().Equal(o.Modified)
	}
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	sum := md5.New()
	if _, err := io.Copy(sum, f); err != nil {
		return false
	}
	return hex.EncodeToString(sum.Sum(nil)) == o.ETag
}

// download writes an object to a file, whole or not at all.
func (b *buckets) download(ctx context.Context, name, key, file string) error {
	body, res, err := b.open(ctx, name, key)
	if refused := (apiError{}); errors.As(err, &refused) {
		return unreadable{err}
	}
	if err != nil {
		return err
	}
	defer body.Close()
	f, err := os.CreateTemp(filepath.Dir(file), ".selvage-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	n, err := io.Copy(f, body)
	if onDisk := (*fs.PathError)(nil); errors.As(err, &onDisk) {
		return err
	}
	if err != nil {
		return unreadable{fmt.Errorf("%d bytes came of %d: %w", n, res.ContentLength, err)}
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if at, err := http.ParseTime(res.Header.Get("Last-Modified")); err == nil {
		_ = os.Chtimes(f.Name(), at, at) // a file of another time is only copied again
	}
	return os.Rename(f.Name(), file)
}

// fileName is the path in dir that a key is exported as. None leads out of dir, and no two keys have the
// same: parts that cannot be names have bytes escaped with %. Where the key of one object is the folder of
// others, the folder is called NAME%dir.
func fileName(dir, key string) string {
	at := ""
	parts := strings.Split(key, "/")
	for i, p := range parts {
		next := filepath.Join(at, fileNamePart(p))
		if i < len(parts)-1 {
			if info, err := os.Lstat(filepath.Join(dir, next)); err == nil && !info.IsDir() {
				next += "%dir"
			}
		}
		at = next
	}
	return at
}

func fileNamePart(p string) string {
	const most = 200 // bytes; file systems take 255
	var b strings.Builder
	for i := range len(p) {
		if c := p[i]; c < ' ' || c == 0x7f || c == '%' || c == '\\' {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(p[i])
	}
	name := b.String()
	switch {
	case name == "":
		return "%empty"
	case name == "." || name == ".." || name == manifestName || strings.HasPrefix(name, ".selvage-"):
		return fmt.Sprintf("%%%02X", name[0]) + name[1:]
	case len(name) > most:
		sum := sha256.Sum256([]byte(p))
		return name[:most-50] + "%sum" + hex.EncodeToString(sum[:16])
	}
	return name
}
