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
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// cursorInfo is the result_info of listings that go on by cursor.
type cursorInfo struct {
	Cursor    string   `json:"cursor"`
	Delimited []string `json:"delimited"`
}

// decodeCursor reads the answer of a listing that goes on by cursor, and closes it.
func decodeCursor(res *http.Response, out any) (info cursorInfo, err error) {
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return info, fmt.Errorf("read the API's answer: %w", err)
	}
	var e struct {
		envelope
		Info cursorInfo `json:"result_info"`
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return info, fmt.Errorf("%s answered status %d and something that is not the v4 API: is the base URL right?", res.Request.URL.Host, res.StatusCode)
	}
	if !e.Success {
		return info, apiError{res.StatusCode, e.Errors}
	}
	return e.Info, json.Unmarshal(e.Result, out)
}

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

// scrub is what the scrubber did and found.
type scrub struct {
	Started  time.Time `json:"started_on,omitzero"`
	Ended    time.Time `json:"ended_on,omitzero"`
	Running  bool      `json:"running"`
	Contents int64     `json:"contents"`
	Bytes    int64     `json:"bytes"`
	Damaged  []struct {
		Bucket string    `json:"bucket"`
		Key    string    `json:"key"`
		Upload string    `json:"upload_id,omitempty"`
		Found  time.Time `json:"found_on"`
		Reason string    `json:"reason"`
	} `json:"damaged"`
}

func r2Scrub(s *session) *cobra.Command {
	var now bool
	c := &cobra.Command{
		Use: "scrub", Short: "Show whether objects are damaged",
		Long: `Show what the scrubber found: it reads all content slowly through, again and again, and compares it with
the checksums that were made when it came. --now begins a run at once.`,
		Example: "  selvage r2 scrub\n  selvage r2 scrub --now",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := s.buckets(cmd.Context())
			if err != nil {
				return err
			}
			path := "/accounts/" + b.account + "/selvage/r2/scrub"
			if now {
				if _, err := b.call(cmd.Context(), "POST", path, nil, nil); err != nil {
					return err
				}
			}
			var found scrub
			if _, err := b.call(cmd.Context(), "GET", path, nil, &found); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if s.json {
				return printJSON(out, found)
			}
			switch {
			case found.Running || now:
				fmt.Fprintln(out, "The scrubber is reading.")
			case found.Ended.IsZero():
				fmt.Fprintln(out, "The scrubber has not gone through yet since the node began.")
			default:
				fmt.Fprintf(out, "The scrubber went through on %s: %d files, %d bytes.\n", found.Ended.Local().Format("2006-01-02 15:04"), found.Contents, found.Bytes)
			}
			if len(found.Damaged) == 0 {
				fmt.Fprintln(out, "Nothing is damaged.")
				return nil
			}
			t := table{head: []string{"BUCKET", "KEY", "FOUND", "REASON"}}
			for _, d := range found.Damaged {
				t.add(d.Bucket, printable(d.Key), d.Found.Local().Format("2006-01-02 15:04"), d.Reason)
			}
			t.print(out)
			return nil
		},
	}
	c.Flags().BoolVar(&now, "now", false, "begin a run now")
	return c
}

// s3Credentials is what an S3 client needs.
type s3Credentials struct {
	Endpoint        string `json:"endpoint,omitempty"`
	AccessKeyID     string `json:"access_key_id"`
	SecretAccessKey string `json:"secret_access_key"`
	SessionToken    string `json:"session_token,omitempty"`
	Region          string `json:"region"`
}

func r2Credentials(s *session) *cobra.Command {
	var name, permission string
	var ttl time.Duration
	c := &cobra.Command{
		Use: "credentials", Short: "Show what S3 clients need",
		Long: `Show endpoint, access key and secret for S3 clients. They are the API token's own: its ID, and the SHA-256
of its secret. With --bucket they are temporary ones, for that bucket alone. Name the region to clients that
presign: AWS's own sign by an older version, which R2 does not take, where none is set.`,
		Example: "  selvage r2 credentials\n  selvage r2 credentials --bucket images --ttl 1h --permission object-read-only\n  eval $(selvage r2 credentials --json | jq -r '\"export AWS_ACCESS_KEY_ID=\\(.access_key_id) AWS_SECRET_ACCESS_KEY=\\(.secret_access_key) AWS_ENDPOINT_URL=\\(.endpoint) AWS_REGION=auto AWS_DEFAULT_REGION=auto\"')",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			b, err := s.buckets(ctx)
			if err != nil {
				return err
			}
			out := s3Credentials{Region: "auto", Endpoint: s.s3Endpoint(b.client)}
			var token struct {
				ID string `json:"id"`
			}
			if _, err := b.call(ctx, "GET", "/user/tokens/verify", nil, &token); err != nil {
				if _, err = b.call(ctx, "GET", "/accounts/"+b.account+"/tokens/verify", nil, &token); err != nil {
					return err
				}
			}
			sum := sha256.Sum256([]byte(b.token))
			out.AccessKeyID, out.SecretAccessKey = token.ID, hex.EncodeToString(sum[:])
			if name != "" {
				if out, err = b.temporary(ctx, out, name, permission, ttl); err != nil {
					return err
				}
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), out)
			}
			t := cmd.OutOrStdout()
			if out.Endpoint == "" {
				out.Endpoint = "the address in the node's setting s3"
			}
			fmt.Fprintf(t, "endpoint           %s\naccess key ID      %s\nsecret access key  %s\n", out.Endpoint, out.AccessKeyID, out.SecretAccessKey)
			if out.SessionToken != "" {
				fmt.Fprintf(t, "session token      %s\n", out.SessionToken)
			}
			fmt.Fprintf(t, "region             %s\n", out.Region)
			return nil
		},
	}
	c.Flags().StringVar(&name, "bucket", "", "make temporary credentials for this bucket")
	c.Flags().StringVar(&permission, "permission", "object-read-write", "of temporary ones: admin-read-write, admin-read-only, object-read-write, object-read-only")
	c.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long temporary ones last, at most 168h")
	return c
}

// temporary returns credentials for one bucket that have a part of the rights of parent.
func (b *buckets) temporary(ctx context.Context, parent s3Credentials, name, permission string, ttl time.Duration) (s3Credentials, error) {
	var made struct {
		ID      string `json:"accessKeyId"`
		Secret  string `json:"secretAccessKey"`
		Session string `json:"sessionToken"`
	}
	_, err := b.call(ctx, "POST", "/accounts/"+b.account+"/r2/temp-access-credentials", map[string]any{
		"bucket": name, "parentAccessKeyId": parent.AccessKeyID, "permission": permission, "ttlSeconds": ttl.Seconds(),
	}, &made)
	parent.AccessKeyID, parent.SecretAccessKey, parent.SessionToken = made.ID, made.Secret, made.Session
	return parent, err
}

// httpsPort is the port of the listener of the node on this machine, as in a URL; empty for 443 and for a node
// elsewhere.
func (s *session) httpsPort(c *client) string {
	n, err := ReadNodeFile(s.data)
	if err != nil || !sameURL(n.API, c.base) {
		return ""
	}
	u, err := url.Parse(n.HTTPS)
	if err != nil || u.Port() == "" || u.Port() == "443" {
		return ""
	}
	return ":" + u.Port()
}

// s3Endpoint is where the node on this machine serves S3; empty for a node elsewhere, whose API does
// not say.
func (s *session) s3Endpoint(c *client) string {
	n, err := ReadNodeFile(s.data)
	if err != nil || !sameURL(n.API, c.base) {
		return ""
	}
	return n.S3
}
