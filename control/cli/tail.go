package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// requestLine is what the command shows of one live request.
type requestLine struct {
	Time        time.Time `json:"time"`
	Zone        string    `json:"zone"`
	Ray         string    `json:"ray"`
	Client      string    `json:"client"`
	Method      string    `json:"method"`
	Scheme      string    `json:"scheme"`
	Host        string    `json:"host"`
	URI         string    `json:"uri"`
	Proto       string    `json:"proto"`
	Status      int       `json:"status"`
	BytesOut    int64     `json:"bytes_out"`
	DurationSec float64   `json:"duration"`
	Cache       string    `json:"cache"`
	Reason      string    `json:"reason"`
	Lost        uint64    `json:"lost"`
}

func tailCommand(s *session) *cobra.Command {
	var zones, statuses []string
	c := &cobra.Command{
		Use:   "tail",
		Short: "Watch requests live",
		Long: `Watch requests live, one a line, until interrupted. Requests never wait for the watcher: what it is
too slow for is counted and shown. With --json each line is an object with all that is known.`,
		Example: `  selvage tail
  selvage tail --zone example.com --status 5xx
  selvage tail --json | jq 'select(.duration > 1)'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			account, err := c.accountID(cmd.Context())
			if err != nil {
				return err
			}
			t := &tailer{client: c, path: "/accounts/" + account + "/selvage/tail?" + url.Values{"zone": zones, "status": statuses}.Encode(),
				out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr(), json: s.json}
			return t.run(cmd.Context())
		},
	}
	c.Flags().StringArrayVar(&zones, "zone", nil, "only requests of this zone; may be given several times")
	c.Flags().StringArrayVar(&statuses, "status", nil, "only answers with this status or class (404, 5xx); may be given several times")
	return c
}

type tailer struct {
	client     *client
	path       string
	out, notes io.Writer
	json       bool
}

// run follows the stream, and follows it again when the node was replaced by a new process.
func (t *tailer) run(ctx context.Context) error {
	for first := true; ; first = false {
		err := t.follow(ctx, first)
		if ctx.Err() != nil {
			return nil
		}
		var refused apiError
		var gone unreachable
		if first && (errors.As(err, &gone) || err != nil) || errors.As(err, &refused) && refused.status < 500 {
			return err
		}
		if errors.As(err, &gone) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// follow shows one stream to its end.
func (t *tailer) follow(ctx context.Context, first bool) error {
	res, err := t.client.send(ctx, "GET", t.path, "", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		_, err := decode(res, nil)
		return err
	}
	if first && !t.json && terminal(t.notes) {
		fmt.Fprintln(t.notes, "Watching requests; interrupt with Ctrl-C.")
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	for lines.Scan() {
		if len(lines.Bytes()) > 0 {
			t.show(lines.Bytes())
		}
	}
	return nil
}

func (t *tailer) show(line []byte) {
	if t.json {
		fmt.Fprintf(t.out, "%s\n", line)
		return
	}
	var r requestLine
	if json.Unmarshal(line, &r) != nil {
		return
	}
	p := paint{terminal(t.out)}
	if r.Lost > 0 {
		fmt.Fprintln(t.notes, p.yellow(fmt.Sprintf("(%s not shown: more came than this terminal takes)", plural(int(r.Lost), "request"))))
		return
	}
	fmt.Fprintln(t.out, r.shown(p))
}

// shown is one request in one line.
func (r requestLine) shown(p paint) string {
	status := fmt.Sprint(r.Status)
	switch {
	case r.Status >= 500:
		status = p.red(status)
	case r.Status >= 400:
		status = p.yellow(status)
	case r.Status >= 200:
		status = p.green(status)
	}
	took := time.Duration(r.DurationSec * float64(time.Second))
	parts := []string{
		p.dim(r.Time.Local().Format("15:04:05.000")), status, fmt.Sprintf("%-4s", r.Method), r.Scheme + "://" + r.Host + r.URI,
		p.cyan(strings.TrimSpace(r.Cache + " " + r.Reason)), took.Round(10 * time.Microsecond).String(), shownBytes(r.BytesOut), p.dim(r.Client + " " + r.Ray),
	}
	var kept []string
	for _, part := range parts {
		if part != "" {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "  ")
}
