package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
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
