package cli

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// transfer is how far an export or an import is.
type transfer struct {
	Bookmark  string   `json:"at_bookmark"`
	Status    string   `json:"status"` // active, complete, error
	Success   bool     `json:"success"`
	Error     string   `json:"error"`
	Messages  []string `json:"messages"`
	Filename  string   `json:"filename"`
	UploadURL string   `json:"upload_url"`
	Result    *struct {
		SignedURL string `json:"signed_url"`
		Filename  string `json:"filename"`
		Bookmark  string `json:"final_bookmark"`
		Queries   int    `json:"num_queries"`
		Meta      struct {
			Duration float64 `json:"duration"`
			Written  int     `json:"rows_written"`
			Size     int64   `json:"size_after"`
		} `json:"meta"`
	} `json:"result"`
}

// ended tells whether there is nothing to wait for, and what went wrong.
func (t *transfer) ended() (bool, error) {
	switch {
	case t.Status == "complete":
		return true, nil
	case t.Status == "error" || !t.Success:
		return true, errors.New(t.Error)
	}
	return false, nil
}

func d1Export(s *session) *cobra.Command {
	var output string
	var noSchema, noData bool
	var tables []string
	c := &cobra.Command{
		Use:   "export DATABASE",
		Short: "Write a database as SQL into a file",
		Example: `  selvage d1 export orders --output orders.sql
  selvage d1 export orders --output - --table items --no-schema`,
		Args: cobra.ExactArgs(1),
		RunE: onDatabase(s, func(cmd *cobra.Command, d *databases, name string) error {
			if output == "" {
				return usageError{cmd, errors.New("say where to with --output PATH, or - for the standard output")}
			}
			asked := map[string]any{"output_format": "polling", "dump_options": map[string]any{"no_schema": noSchema, "no_data": noData, "tables": tables}}
			t, err := d.await(cmd.Context(), d.path(name, "/export"), asked, func(t *transfer) map[string]any {
				asked["current_bookmark"] = t.Bookmark
				return asked
			})
			if err != nil {
				return err
			}
			return d.download(cmd, t.Result.SignedURL, output)
		}),
	}
	f := c.Flags()
	f.StringVar(&output, "output", "", "where to; - is the standard output")
	f.BoolVar(&noSchema, "no-schema", false, "only the rows")
	f.BoolVar(&noData, "no-data", false, "only the schema")
	f.StringArrayVar(&tables, "table", nil, "only this table; again for more")
	return c
}

func (d *databases) download(cmd *cobra.Command, from, output string) error {
	req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	res, err := d.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the export cannot be fetched: status %d", res.StatusCode)
	}
	w, err := created(output, cmd.OutOrStdout())
	if err != nil {
		return err
	}
	n, err := io.Copy(w, res.Body)
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	if output != "-" {
		fmt.Fprintf(cmd.ErrOrStderr(), "Wrote %s to %s.\n", shownBytes(n), output)
	}
	return nil
}

// await polls until a transfer has ended. The server answers late while there is nothing new.
func (d *databases) await(ctx context.Context, path string, first map[string]any, next func(*transfer) map[string]any) (*transfer, error) {
	for asked := first; ; {
		t := &transfer{}
		if _, err := d.call(ctx, "POST", path, asked, t); err != nil {
			return nil, err
		}
		if over, err := t.ended(); over {
			return t, err
		}
		asked = next(t)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func d1Import(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "import DATABASE FILE",
		Short: "Run a file of SQL, such as an export",
		Long: `Run a file of SQL, such as an export, as one transaction: if a statement fails the database stays as
it was. The same as execute --file.`,
		Example: "  selvage d1 import orders orders.sql",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return onDatabase(s, func(cmd *cobra.Command, d *databases, name string) error {
				return d.importFile(cmd, s, name, args[1])
			})(cmd, args)
		},
	}
}

// importFile uploads a file and waits until it has run.
func (d *databases) importFile(cmd *cobra.Command, s *session, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := md5.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	etag := hex.EncodeToString(h.Sum(nil))
	to := d.path(name, "/import")
	t := &transfer{}
	if _, err := d.call(cmd.Context(), "POST", to, map[string]any{"action": "init", "etag": etag}, t); err != nil {
		return err
	}
	asked := map[string]any{"action": "poll", "current_bookmark": t.Bookmark}
	if t.UploadURL != "" {
		if err := d.upload(cmd.Context(), t.UploadURL, f, size); err != nil {
			return err
		}
		asked = map[string]any{"action": "ingest", "filename": t.Filename, "etag": etag}
	}
	t, err = d.await(cmd.Context(), to, asked, func(t *transfer) map[string]any {
		return map[string]any{"action": "poll", "current_bookmark": t.Bookmark}
	})
	if err != nil {
		return err
	}
	if s.json {
		return printJSON(cmd.OutOrStdout(), t.Result)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Ran %s in %.2f ms: %s written, the database has %s now and is at bookmark %s.\n",
		plural(t.Result.Queries, "statement"), t.Result.Meta.Duration, plural(t.Result.Meta.Written, "row"), shownBytes(t.Result.Meta.Size), t.Result.Bookmark)
	return nil
}

func (d *databases) upload(ctx context.Context, to string, f *os.File, size int64) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, to, io.NopCloser(f))
	if err != nil {
		return err
	}
	req.ContentLength = size
	res, err := d.http.Do(req)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		_, err := decode(res, nil)
		return err
	}
	return nil
}

func d1TimeTravel(s *session) *cobra.Command {
	return group("time-travel", "See and restore earlier states of a database",
		`Every state of the last 30 days can be had back. A bookmark names one.`, d1Bookmark(s), d1Restore(s))
}

func d1Bookmark(s *session) *cobra.Command {
	var timestamp string
	c := &cobra.Command{
		Use:   "info DATABASE",
		Short: "Print the bookmark of now or of a time",
		Example: `  selvage d1 time-travel info orders
  selvage d1 time-travel info orders --timestamp 2026-01-31T12:00:00Z`,
		Args: cobra.ExactArgs(1),
		RunE: onDatabase(s, func(cmd *cobra.Command, d *databases, name string) error {
			var got struct {
				Bookmark string `json:"bookmark"`
			}
			if _, err := d.call(cmd.Context(), "GET", d.path(name, "/time_travel/bookmark")+timeQuery(timestamp), nil, &got); err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), got)
			}
			fmt.Fprintln(cmd.OutOrStdout(), got.Bookmark)
			return nil
		}),
	}
	c.Flags().StringVar(&timestamp, "timestamp", "", "a time, as in RFC 3339")
	return c
}

func timeQuery(timestamp string) string {
	if timestamp == "" {
		return ""
	}
	return "?" + url.Values{"timestamp": {timestamp}}.Encode()
}

func d1Restore(s *session) *cobra.Command {
	var timestamp, bookmark string
	var yes bool
	c := &cobra.Command{
		Use:   "restore DATABASE",
		Short: "Put a database back to an earlier state",
		Long: `Put a database back to an earlier state. What came later is not lost: the answer has the bookmark to
undo it with.`,
		Example: `  selvage d1 time-travel restore orders --timestamp 2026-01-31T12:00:00Z --yes
  selvage d1 time-travel restore orders --bookmark 00000001-0000000a-00000001-8e61117bf38d7adb71b934ebbf891683 --yes`,
		Args: cobra.ExactArgs(1),
		RunE: onDatabase(s, func(cmd *cobra.Command, d *databases, name string) error {
			if (timestamp == "") == (bookmark == "") {
				return usageError{cmd, errors.New("give either --timestamp TIME or --bookmark BOOKMARK")}
			}
			if !yes {
				return fmt.Errorf("restoring puts all of %s back and ends what runs there: add --yes if that is meant", name)
			}
			query := timeQuery(timestamp)
			if bookmark != "" {
				query = "?" + url.Values{"bookmark": {bookmark}}.Encode()
			}
			var got struct {
				Bookmark string `json:"bookmark"`
				Previous string `json:"previous_bookmark"`
				Message  string `json:"message"`
			}
			if _, err := d.call(cmd.Context(), "POST", d.path(name, "/time_travel/restore")+query, nil, &got); err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), got)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is at bookmark %s. To undo that, restore the bookmark %s.\n", name, got.Bookmark, got.Previous)
			return nil
		}),
	}
	f := c.Flags()
	f.StringVar(&timestamp, "timestamp", "", "a time, as in RFC 3339")
	f.StringVar(&bookmark, "bookmark", "", "a bookmark, as time-travel info prints")
	f.BoolVar(&yes, "yes", false, "do it without asking")
	return c
}
