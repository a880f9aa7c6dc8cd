package node

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/foundation/observe"
	"selvage/product"
)

const (
	tailQueue = 1024             // events that may wait for one watcher
	tailPulse = 15 * time.Second // between signs of life on a quiet stream
	tailPath  = "/accounts/{account_id}/selvage/tail"
)

// tailRoute serves live requests of an account as lines of JSON: an object for each request, an
// object {"lost":N} when the reader was too slow for N, an empty line as a sign of life.
func (n *Node) tailRoute() product.Route {
	return product.Route{
		Method: "GET", Path: tailPath, Permission: product.Permission{Group: "Logs"},
		Summary: "Stream the account's requests live, one JSON object a line; ?zone= and ?status= (404 or 5xx) filter.",
		Handle: func(_ context.Context, c *product.Call) (product.Reply, error) {
			t := tail{account: c.Account.ID, zones: c.Query["zone"], moved: n.door.changes()}
			for _, s := range c.Query["status"] {
				if !statusFilter(s) {
					return product.Reply{}, fault.New(fault.Invalid, "%q is not a status such as 404 or a class such as 5xx.", s).At("status")
				}
				t.statuses = append(t.statuses, strings.ToLower(s))
			}
			return product.Reply{Raw: &product.Raw{
				ContentType: "application/x-ndjson",
				Write: func(ctx context.Context, w io.Writer) error {
					watcher := n.observe.Events.Watch(tailQueue, "request")
					defer watcher.Close()
					return t.run(ctx, w, watcher)
				},
			}}, nil
		},
	}
}

// tail is one reader of live requests.
type tail struct {
	account  string
	zones    []string
	statuses []string
	moved    <-chan struct{} // closed when the API moves to another process: the reader comes back
	lost     uint64
}

func (t *tail) run(ctx context.Context, w io.Writer, watcher *observe.Watcher) error {
	pulse := time.NewTicker(tailPulse)
	defer pulse.Stop()
	if err := t.line(w, "\n"); err != nil { // the reader knows that it is heard
		return err
	}
	for {
		line := "\n"
		select {
		case ev := <-watcher.C:
			if line = t.shown(ev); line == "" {
				continue
			}
		case <-pulse.C:
		case <-t.moved:
			return nil
		case <-ctx.Done():
			return nil
		}
		if lost := watcher.Lost(); lost > t.lost {
			line = fmt.Sprintf("{\"lost\":%d}\n", lost-t.lost) + line
			t.lost = lost
		}
		if err := t.line(w, line); err != nil {
			return nil
		}
	}
}

func (t *tail) line(w io.Writer, line string) error {
	if _, err := io.WriteString(w, line); err != nil {
		return err
	}
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	return nil
}

// shown returns the line for an event, or nothing if the filters leave it out.
func (t *tail) shown(ev observe.Event) string {
	if ev.Account != t.account || len(t.zones) > 0 && !slices.Contains(t.zones, ev.Zone) {
		return ""
	}
	matches := func(filter string) bool { return statusMatches(filter, statusOf(ev)) }
	if len(t.statuses) > 0 && !slices.ContainsFunc(t.statuses, matches) {
		return ""
	}
	return string(appendEvent(nil, ev))
}

func statusOf(ev observe.Event) int64 {
	for _, a := range ev.Attrs {
		if a.Key == "status" {
			return a.Value.Int64()
		}
	}
	return 0
}

func statusFilter(s string) bool {
	if len(s) != 3 || s[0] < '1' || s[0] > '5' {
		return false
	}
	if strings.EqualFold(s[1:], "xx") {
		return true
	}
	_, err := strconv.Atoi(s)
	return err == nil
}

func statusMatches(filter string, status int64) bool {
	if strings.HasSuffix(filter, "xx") {
		return strconv.FormatInt(status/100, 10) == filter[:1]
	}
	return strconv.FormatInt(status, 10) == filter
}

// withoutDeadlines lifts the API server's time limits from streams that run until their reader
// leaves.
func withoutDeadlines(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/selvage/tail") || strings.HasSuffix(r.URL.Path, "/selvage/backup") {
			c := http.NewResponseController(w)
			c.SetReadDeadline(time.Time{})
			c.SetWriteDeadline(time.Time{})
		}
		next.ServeHTTP(w, r)
	})
}
