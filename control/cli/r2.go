package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func r2Command(s *session) *cobra.Command {
	return group("r2", "Keep objects in buckets",
		`R2 keeps objects in buckets, for Workers, for the web and for S3 clients: "selvage r2 credentials" says
what those need.`,
		r2List(s), r2Create(s), r2Delete(s), r2Info(s), r2Ls(s), r2Put(s), r2Get(s), r2Rm(s), r2Export(s), r2Scrub(s), r2Credentials(s))
}

// bucket is a bucket as the API shows it.
type bucket struct {
	Name         string    `json:"name"`
	Created      time.Time `json:"creation_date"`
	Location     string    `json:"location,omitempty"`
	StorageClass string    `json:"storage_class"`
	Jurisdiction string    `json:"jurisdiction"`
}

// object is an object as the API shows it.
type object struct {
	Key          string            `json:"key"`
	Size         int64             `json:"size"`
	ETag         string            `json:"etag"`
	Modified     time.Time         `json:"last_modified"`
	HTTP         map[string]string `json:"http_metadata"`
	Custom       map[string]string `json:"custom_metadata"`
	StorageClass string            `json:"storage_class"`
}

// buckets is where the paths of an account's buckets begin.
type buckets struct {
	*client
	account string
}

func (s *session) buckets(ctx context.Context) (*buckets, error) {
	c, account, err := s.inAccount(ctx)
	return &buckets{c, account}, err
}

func (b *buckets) path(bucket, rest string) string {
	return "/accounts/" + b.account + "/r2/buckets/" + url.PathEscape(bucket) + rest
}

// object returns the path of an object; slashes of the key stand as they are.
func (b *buckets) object(bucket, key string) string {
	parts := strings.Split(key, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return b.path(bucket, "/objects/"+strings.Join(parts, "/"))
}

// objectPage is one page of a bucket.
type objectPage struct {
	Objects  []object `json:"objects"`
	Prefixes []string `json:"prefixes,omitempty"`
}

// pages calls f for each page of a bucket.
func (b *buckets) pages(ctx context.Context, bucket, prefix, delimiter string, f func(objectPage) error) error {
	q := url.Values{"prefix": {prefix}, "delimiter": {delimiter}}
	for {
		res, err := b.send(ctx, "GET", b.path(bucket, "/objects?"+q.Encode()), "", nil)
		if err != nil {
			return err
		}
		var page objectPage
		info, err := decodeCursor(res, &page.Objects)
		if err != nil {
			return err
		}
		page.Prefixes = info.Delimited
		if err := f(page); err != nil || info.Cursor == "" {
			return err
		}
		q.Set("cursor", info.Cursor)
	}
}

func r2List(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the buckets", Long: "List the buckets of the account.",
		Example: "  selvage r2 list\n  selvage r2 list --json | jq -r '.[].name'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := s.buckets(cmd.Context())
			if err != nil {
				return err
			}
			all := []bucket{}
			for q := (url.Values{}); ; {
				var page struct {
					Buckets []bucket `json:"buckets"`
				}
				res, err := b.send(cmd.Context(), "GET", "/accounts/"+b.account+"/r2/buckets?"+q.Encode(), "", nil)
				if err != nil {
					return err
				}
				info, err := decodeCursor(res, &page)
				if err != nil {
					return err
				}
				all = append(all, page.Buckets...)
				if info.Cursor == "" {
					break
				}
				q.Set("cursor", info.Cursor)
			}
			t := table{head: []string{"NAME", "CREATED", "CLASS", "JURISDICTION", "LOCATION"}, none: "There are no buckets yet: `selvage r2 create NAME` makes one."}
			return printList(s, cmd.OutOrStdout(), t, all, func(k *bucket) []string {
				return []string{k.Name, k.Created.Local().Format("2006-01-02 15:04"), k.StorageClass, k.Jurisdiction, k.Location}
			})
		},
	}
}

func r2Create(s *session) *cobra.Command {
	var location, class string
	c := &cobra.Command{
		Use: "create BUCKET", Short: "Make a bucket", Long: "Make a bucket. Its name has 3 to 63 lower-case letters, digits and hyphens.",
		Example: "  selvage r2 create images\n  selvage r2 create archive --storage-class InfrequentAccess",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := s.buckets(cmd.Context())
			if err != nil {
				return err
			}
			body := map[string]string{"name": args[0]}
			if location != "" {
				body["locationHint"] = location
			}
			if class != "" {
				body["storageClass"] = class
			}
			var made bucket
			if _, err := b.call(cmd.Context(), "POST", "/accounts/"+b.account+"/r2/buckets", body, &made); err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), made)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Bucket %s is there. Put something into it: selvage r2 put %s/KEY FILE\n", made.Name, made.Name)
			return nil
		},
	}
	c.Flags().StringVar(&location, "location", "", "hint for where it should be: apac, eeur, enam, oc, weur, wnam")
	c.Flags().StringVar(&class, "storage-class", "", "class of new objects: Standard, InfrequentAccess")
	return c
}

func r2Delete(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "delete BUCKET", Short: "Delete a bucket that is empty", Long: "Delete a bucket that is empty, with its domains and rules.",
		Example: "  selvage r2 rm images --all && selvage r2 delete images",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := s.buckets(cmd.Context())
			if err != nil {
				return err
			}
			if _, err := b.call(cmd.Context(), "DELETE", b.path(args[0], ""), nil, nil); err != nil {
				return err
			}
			if !s.json {
				fmt.Fprintf(cmd.OutOrStdout(), "Bucket %s is gone.\n", args[0])
			}
			return nil
		},
	}
}

// bucketInfo is everything about a bucket.
type bucketInfo struct {
	bucket
	Usage struct {
		Objects  int64 `json:"objectCount,string"`
		Bytes    int64 `json:"payloadSize,string"`
		Metadata int64 `json:"metadataSize,string"`
		Uploads  int64 `json:"uploadCount,string"`
	} `json:"usage"`
	Domains []string `json:"domains"`
}

func r2Info(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "info BUCKET", Short: "Show a bucket", Long: "Show what a bucket holds and where it is public.",
		Example: "  selvage r2 info images",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			b, err := s.buckets(ctx)
			if err != nil {
				return err
			}
			var i bucketInfo
			if _, err := b.call(ctx, "GET", b.path(args[0], ""), nil, &i.bucket); err != nil {
				return err
			}
			if _, err := b.call(ctx, "GET", b.path(args[0], "/usage"), nil, &i.Usage); err != nil {
				return err
			}
			if i.Domains, err = b.domains(ctx, args[0]); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if s.json {
				return printJSON(out, i)
			}
			public := "nowhere"
			if len(i.Domains) > 0 {
				port := s.httpsPort(b.client)
				for at, host := range i.Domains {
					i.Domains[at] = "https://" + host + port
				}
				public = strings.Join(i.Domains, " ")
			}
			fmt.Fprintf(out, "name           %s\ncreated        %s\nclass          %s\njurisdiction   %s\nobjects        %d\nbytes          %d\nuploads        %d under way\npublic at      %s\n",
				i.Name, i.Created.Local().Format("2006-01-02 15:04"), i.StorageClass, i.Jurisdiction, i.Usage.Objects, i.Usage.Bytes, i.Usage.Uploads, public)
			return nil
		},
	}
}

// domains returns where a bucket is public.
func (b *buckets) domains(ctx context.Context, name string) ([]string, error) {
	type domain struct {
		Domain  string `json:"domain"`
		Enabled bool   `json:"enabled"`
	}
	var custom struct {
		Domains []domain `json:"domains"`
	}
	var managed domain
	if _, err := b.call(ctx, "GET", b.path(name, "/domains/custom"), nil, &custom); err != nil {
		return nil, err
	}
	if _, err := b.call(ctx, "GET", b.path(name, "/domains/managed"), nil, &managed); err != nil {
		return nil, err
	}
	names := []string{}
	for _, d := range append(custom.Domains, managed) {
		if d.Enabled {
			names = append(names, d.Domain)
		}
	}
	return names, nil
}

func r2Ls(s *session) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "ls BUCKET[/PREFIX]", Short: "List objects", Long: "List the objects of a bucket whose keys begin with PREFIX, by folders unless --all is given.",
		Example: "  selvage r2 ls images\n  selvage r2 ls images/cats/ --all",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := s.buckets(cmd.Context())
			if err != nil {
				return err
			}
			name, prefix, _ := strings.Cut(args[0], "/")
			delimiter := "/"
			if all {
				delimiter = ""
			}
			out := cmd.OutOrStdout()
			return b.pages(cmd.Context(), name, prefix, delimiter, func(p objectPage) error {
				if s.json {
					return printJSON(out, p)
				}
				for _, name := range p.Prefixes {
					fmt.Fprintf(out, "%12s  %-16s  %s\n", "", "", printable(name))
				}
				for _, o := range p.Objects {
					fmt.Fprintf(out, "%12d  %-16s  %s\n", o.Size, o.Modified.Local().Format("2006-01-02 15:04"), printable(o.Key))
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "list what is in folders, too")
	return c
}

// splitObject takes BUCKET/KEY apart.
func splitObject(arg string) (bucket, key string, err error) {
	bucket, key, ok := strings.Cut(arg, "/")
	if !ok || bucket == "" || key == "" {
		return "", "", fmt.Errorf("%q names no object: write BUCKET/KEY, such as images/cats/1.jpg", arg)
	}
	return bucket, key, nil
}

func r2Put(s *session) *cobra.Command {
	var media, control, class string
	c := &cobra.Command{
		Use: "put BUCKET/KEY FILE", Short: "Store an object", Long: "Store a file as an object, of up to 5 GiB; - is the standard input.",
		Example: "  selvage r2 put images/cats/1.jpg 1.jpg\n  tar c . | selvage r2 put backups/today.tar -",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := s.buckets(cmd.Context())
			if err != nil {
				return err
			}
			name, key, err := splitObject(args[0])
			if err != nil {
				return err
			}
			body := io.Reader(cmd.InOrStdin())
			length := int64(-1)
			if args[1] != "-" {
				f, err := os.Open(args[1])
				if err != nil {
					return err
				}
				defer f.Close()
				info, err := f.Stat()
				if err != nil {
					return err
				}
				body, length = f, info.Size()
			}
			if media == "" {
				media = mime.TypeByExtension(path.Ext(key))
			}
			req, err := b.request(cmd.Context(), "PUT", b.object(name, key), body)
			if err != nil {
				return err
			}
			req.ContentLength = length
			for field, v := range map[string]string{"Content-Type": media, "Cache-Control": control, "Cf-R2-Storage-Class": class} {
				if v != "" {
					req.Header.Set(field, v)
				}
			}
			res, err := b.http.Do(req)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			var made object
			if _, err := decode(res, &made); err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), made)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s/%s has %d bytes, ETag %s.\n", name, printable(key), made.Size, made.ETag)
			return nil
		},
	}
	c.Flags().StringVar(&media, "content-type", "", "what it is (default: by the key's extension)")
	c.Flags().StringVar(&control, "cache-control", "", "how long it may be cached, such as max-age=3600")
	c.Flags().StringVar(&class, "storage-class", "", "Standard or InfrequentAccess (default: the bucket's)")
	return c
}

// request makes a request that the caller sends.
func (b *buckets) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, b.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+b.token)
	return req, nil
}

func r2Get(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "get BUCKET/KEY [FILE]", Short: "Read an object", Long: "Read an object into a file; without one, or with -, to the standard output.",
		Example: "  selvage r2 get images/cats/1.jpg 1.jpg\n  selvage r2 get backups/today.tar | tar x",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := s.buckets(cmd.Context())
			if err != nil {
				return err
			}
			name, key, err := splitObject(args[0])
			if err != nil {
				return err
			}
			if len(args) == 2 && args[1] != "-" {
				return b.download(cmd.Context(), name, key, args[1])
			}
			body, _, err := b.open(cmd.Context(), name, key)
			if err != nil {
				return err
			}
			defer body.Close()
			_, err = io.Copy(cmd.OutOrStdout(), body)
			return err
		},
	}
}

// open reads an object. The caller closes it.
func (b *buckets) open(ctx context.Context, name, key string) (io.ReadCloser, *http.Response, error) {
	res, err := b.send(ctx, "GET", b.object(name, key), "", nil)
	if err != nil {
		return nil, nil, err
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		if _, err = decode(res, nil); err == nil {
			err = errors.New("the API answered something else than the object")
		}
		return nil, nil, err
	}
	return res.Body, res, nil
}

func r2Rm(s *session) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "rm BUCKET/KEY...", Short: "Delete objects", Long: "Delete objects. With --all everything whose key begins with what is given, the whole bucket if that is only its name.",
		Example: "  selvage r2 rm images/cats/1.jpg\n  selvage r2 rm images/cats/ --all",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			b, err := s.buckets(ctx)
			if err != nil {
				return err
			}
			gone := 0
			for _, arg := range args {
				name, key, err := splitObject(arg)
				if all && err != nil {
					name, key, err = strings.TrimSuffix(arg, "/"), "", nil
				}
				if err != nil {
					return err
				}
				n := 1
				if all {
					n, err = b.removeAll(ctx, name, key)
				} else {
					_, err = b.call(ctx, "DELETE", b.object(name, key), nil, nil)
				}
				if err != nil {
					return err
				}
				gone += n
			}
			if !s.json {
				fmt.Fprintf(cmd.OutOrStdout(), "%d deleted.\n", gone)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "delete everything whose key begins so")
	return c
}

// removeAll deletes what begins with a prefix, a page at a time.
func (b *buckets) removeAll(ctx context.Context, name, prefix string) (gone int, err error) {
	err = b.pages(ctx, name, prefix, "", func(p objectPage) error {
		keys := make([]string, len(p.Objects))
		for i, o := range p.Objects {
			keys[i] = o.Key
		}
		if len(keys) == 0 {
			return nil
		}
		gone += len(keys)
		_, err := b.call(ctx, "DELETE", b.path(name, "/objects"), keys, nil)
		return err
	})
	return gone, err
}
