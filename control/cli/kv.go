package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func kvCommand(s *session) *cobra.Command {
	return group("kv", "Keep keys and values for Workers",
		`Workers KV holds keys and values that are read far more often than written, in namespaces that Workers
bind to. wrangler's kv commands work, too; these need no project.

  selvage kv create sessions
  selvage kv put sessions user:1 '{"name":"Ada"}' --ttl 1h
  selvage kv get sessions user:1`,
		kvList(s), kvCreate(s), kvRename(s), kvDelete(s), kvKeys(s), kvGet(s), kvPut(s), kvRemove(s))
}

// kvSpace is a namespace as the API shows it. Counts are only in an answer about one.
type kvSpace struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Keys  int64  `json:"key_count"`
	Bytes int64  `json:"size_bytes"`
}

// kvKey is a line of a list of keys.
type kvKey struct {
	Name       string          `json:"name"`
	Expiration int64           `json:"expiration,omitempty"`
	Metadata   json.RawMessage `json:"metadata,omitempty"`
}

// spaces is where the paths of an account's namespaces begin.
type spaces struct {
	*client
	root string
}

func (s *session) spaces(ctx context.Context) (*spaces, error) {
	c, account, err := s.inAccount(ctx)
	return &spaces{c, "/accounts/" + account + "/storage/kv/namespaces"}, err
}

// find returns a namespace by title or ID.
func (k *spaces) find(ctx context.Context, name string) (*kvSpace, error) {
	all, err := list[kvSpace](ctx, k.client, k.root, nil)
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		if one.Title == name || one.ID == name {
			return &one, nil
		}
	}
	return nil, fmt.Errorf("there is no KV namespace %q: `selvage kv list` shows those that there are", name)
}

func (k *spaces) path(one *kvSpace, rest string) string { return k.root + "/" + one.ID + rest }

func (k *spaces) value(one *kvSpace, key string) string {
	return k.path(one, "/values/"+url.PathEscape(key))
}

// onSpace is a command whose first argument is a namespace.
func onSpace(s *session, do func(cmd *cobra.Command, k *spaces, one *kvSpace, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		k, err := s.spaces(cmd.Context())
		if err != nil {
			return err
		}
		one, err := k.find(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return do(cmd, k, one, args[1:])
	}
}

func kvList(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the namespaces and how much they hold", Args: cobra.NoArgs,
		Example: `  selvage kv list
  selvage kv list --json | jq -r '.[].title'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := s.spaces(cmd.Context())
			if err != nil {
				return err
			}
			all, err := list[kvSpace](cmd.Context(), k.client, k.root, url.Values{"order": {"title"}})
			if err != nil {
				return err
			}
			for i := range all {
				if _, err := k.call(cmd.Context(), "GET", k.path(&all[i], ""), nil, &all[i]); err != nil {
					return err
				}
			}
			t := table{head: []string{"TITLE", "ID", "KEYS", "SIZE"}, none: "There are no KV namespaces yet: `selvage kv create TITLE` makes one."}
			return printList(s, cmd.OutOrStdout(), t, all, func(one *kvSpace) []string {
				return []string{one.Title, one.ID, strconv.FormatInt(one.Keys, 10), shownBytes(one.Bytes)}
			})
		},
	}
}

func kvCreate(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "create TITLE", Short: "Create a namespace", Args: cobra.ExactArgs(1),
		Example: `  selvage kv create sessions`,
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := s.spaces(cmd.Context())
			if err != nil {
				return err
			}
			var one kvSpace
			if _, err := k.call(cmd.Context(), "POST", k.root, map[string]string{"title": args[0]}, &one); err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), one)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Namespace %s has the ID %s. Bind a Worker to it in its wrangler.jsonc:\n\n  \"kv_namespaces\": [{ \"binding\": \"KV\", \"id\": %q }]\n", one.Title, one.ID, one.ID)
			return nil
		},
	}
}

func kvRename(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "rename NAMESPACE TITLE", Short: "Give a namespace another title", Args: cobra.ExactArgs(2),
		Example: `  selvage kv rename sessions sessions-old`,
		RunE: onSpace(s, func(cmd *cobra.Command, k *spaces, one *kvSpace, args []string) error {
			_, err := k.call(cmd.Context(), "PUT", k.path(one, ""), map[string]string{"title": args[0]}, nil)
			return err
		}),
	}
}

func kvDelete(s *session) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "delete NAMESPACE --yes", Short: "Delete a namespace and all of its keys", Args: cobra.ExactArgs(1),
		Long:    `Delete a namespace and all of its keys. Workers that are bound to it get errors from then on.`,
		Example: `  selvage kv delete sessions --yes`,
		RunE: onSpace(s, func(cmd *cobra.Command, k *spaces, one *kvSpace, _ []string) error {
			if !yes {
				return errors.New("this deletes the namespace and all its keys for good: say --yes to do it")
			}
			if _, err := k.call(cmd.Context(), "DELETE", k.path(one, ""), nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Namespace %s is deleted.\n", one.Title)
			return nil
		}),
	}
	c.Flags().BoolVar(&yes, "yes", false, "really do it")
	return c
}

func kvKeys(s *session) *cobra.Command {
	prefix, limit := "", 0
	c := &cobra.Command{
		Use: "keys NAMESPACE", Short: "List the keys of a namespace", Args: cobra.ExactArgs(1),
		Example: `  selvage kv keys sessions --prefix user:
  selvage kv keys sessions --limit 0 --json`,
		RunE: onSpace(s, func(cmd *cobra.Command, k *spaces, one *kvSpace, _ []string) error {
			all, more, err := k.keys(cmd.Context(), one, prefix, limit)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if s.json {
				return printJSON(out, all)
			}
			t := table{head: []string{"KEY", "EXPIRES", "METADATA"}}
			for _, key := range all {
				expires := "never"
				if key.Expiration != 0 {
					expires = time.Unix(key.Expiration, 0).Local().Format("2006-01-02 15:04")
				}
				t.add(key.Name, expires, string(key.Metadata))
			}
			t.print(out)
			if more {
				fmt.Fprintf(out, "There are more: --limit shows them.\n")
			}
			return nil
		}),
	}
	c.Flags().StringVar(&prefix, "prefix", "", "only keys that begin so")
	c.Flags().IntVar(&limit, "limit", 1000, "at most so many keys; 0 for all")
	return c
}

// keys returns keys in order, and whether there are more.
func (k *spaces) keys(ctx context.Context, one *kvSpace, prefix string, limit int) (all []kvKey, more bool, err error) {
	all = []kvKey{}
	for cursor := ""; ; {
		n := 1000
		if limit > 0 {
			n = min(n, limit-len(all))
		}
		query := url.Values{"prefix": {prefix}, "limit": {strconv.Itoa(n)}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		res, err := k.send(ctx, "GET", k.path(one, "/keys?"+query.Encode()), "", nil)
		if err != nil {
			return nil, false, err
		}
		data, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			return nil, false, err
		}
		var page struct {
			Success bool       `json:"success"`
			Errors  []apiFault `json:"errors"`
			Result  []kvKey    `json:"result"`
			Info    struct {
				Cursor string `json:"cursor"`
			} `json:"result_info"`
		}
		if err := json.Unmarshal(data, &page); err != nil || !page.Success {
			return nil, false, apiError{res.StatusCode, page.Errors}
		}
		all = append(all, page.Result...)
		if cursor = page.Info.Cursor; cursor == "" || limit > 0 && len(all) >= limit {
			return all, cursor != "", nil
		}
	}
}

func kvGet(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "get NAMESPACE KEY", Short: "Print a value", Args: cobra.ExactArgs(2),
		Long:    `Print a value as it is, without a line end behind it.`,
		Example: `  selvage kv get sessions user:1 > user.json`,
		RunE: onSpace(s, func(cmd *cobra.Command, k *spaces, one *kvSpace, args []string) error {
			res, err := k.send(cmd.Context(), "GET", k.value(one, args[0]), "", nil)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusOK {
				_, err := decode(res, nil)
				return err
			}
			_, err = io.Copy(cmd.OutOrStdout(), res.Body)
			return err
		}),
	}
}

func kvPut(s *session) *cobra.Command {
	file, ttl := "", time.Duration(0)
	c := &cobra.Command{
		Use: "put NAMESPACE KEY [VALUE]", Short: "Put a value", Args: cobra.RangeArgs(2, 3),
		Long: `Put a value: the argument, or with --file what is in a file ("-" is the input). It is on disk when the
command ends.`,
		Example: `  selvage kv put sessions user:1 '{"name":"Ada"}' --ttl 1h
  selvage kv put assets logo.png --file logo.png`,
		RunE: onSpace(s, func(cmd *cobra.Command, k *spaces, one *kvSpace, args []string) error {
			body, err := valueOf(cmd, file, args[1:])
			if err != nil {
				return err
			}
			defer body.Close()
			path := k.value(one, args[0])
			if ttl != 0 {
				path += "?expiration_ttl=" + strconv.FormatInt(int64(ttl/time.Second), 10)
			}
			res, err := k.send(cmd.Context(), "PUT", path, "application/octet-stream", body)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			_, err = decode(res, nil)
			return err
		}),
	}
	c.Flags().StringVar(&file, "file", "", "take the value from this file")
	c.Flags().DurationVar(&ttl, "ttl", 0, "how long the key lives, at least 60s; for ever if not given")
	return c
}

// valueOf returns what is to be put.
func valueOf(cmd *cobra.Command, file string, args []string) (io.ReadCloser, error) {
	switch {
	case (file == "") == (len(args) == 0):
		return nil, fmt.Errorf("give a value or --file, and not both")
	case file == "-":
		return io.NopCloser(cmd.InOrStdin()), nil
	case file != "":
		return os.Open(file)
	}
	return io.NopCloser(strings.NewReader(args[0])), nil
}

func kvRemove(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "remove NAMESPACE KEY...", Short: "Delete keys", Args: cobra.MinimumNArgs(2),
		Example: `  selvage kv remove sessions user:1 user:2`,
		RunE: onSpace(s, func(cmd *cobra.Command, k *spaces, one *kvSpace, args []string) error {
			_, err := k.call(cmd.Context(), "POST", k.path(one, "/bulk/delete"), args, nil)
			return err
		}),
	}
}
