package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/coder/websocket"
	"github.com/spf13/cobra"
)

// maxTrace bounds one message of a tail, in bytes.
const maxTrace = 16 << 20

// patience is how long a node may be away, while a new process takes its place.
const patience = 10 * time.Second

func workerLogs(s *session) *cobra.Command {
	var f tailFlags
	c := &cobra.Command{
		Use:   "logs NAME",
		Short: "Watch what a Worker does live",
		Long: `Watch what a Worker does live, until interrupted: each event with its outcome, what was logged, and
exceptions with stacks that lead to your sources if source maps were uploaded. It is what "wrangler
tail" shows. A Worker that is watched answers about half as many requests per second. With --json each
line is an event as Cloudflare's tail has it.`,
		Example: `  selvage worker logs shop
  selvage worker logs shop --status error
  selvage worker logs shop --json | jq 'select(.event.request.url | test("/cart"))'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			filters, err := f.filters()
			if err != nil {
				return usageError{cmd, err}
			}
			w, err := s.workers(cmd.Context())
			if err != nil {
				return err
			}
			l := &logTail{workers: w, script: args[0], filters: filters, out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr(), json: s.json}
			return l.run(cmd.Context())
		},
	}
	c.Flags().StringArrayVar(&f.status, "status", nil, "only events that ended so: ok, error or canceled; may be given several times")
	c.Flags().StringArrayVar(&f.method, "method", nil, "only requests with this method; may be given several times")
	c.Flags().StringArrayVar(&f.ip, "ip", nil, `only requests of this address, or "self"; may be given several times`)
	c.Flags().StringVar(&f.header, "header", "", "only requests with this header: NAME or NAME:TEXT")
	c.Flags().StringVar(&f.search, "search", "", "only events with this text in what was logged or thrown")
	c.Flags().StringVar(&f.version, "version-id", "", "only events of this version")
	c.Flags().Float64Var(&f.sampling, "sampling-rate", 1, "only this share of the events, such as 0.1")
	return c
}

// tailFlags are filters as they are typed.
type tailFlags struct {
	status, method, ip      []string
	header, search, version string
	sampling                float64
}

// filters returns them in the form of the API.
func (f *tailFlags) filters() ([]map[string]any, error) {
	all := []map[string]any{}
	add := func(name string, value any) { all = append(all, map[string]any{name: value}) }
	var outcomes []string
	for _, st := range f.status {
		switch st {
		case "ok", "canceled":
			outcomes = append(outcomes, st)
		case "error":
			outcomes = append(outcomes, "exception", "exceededCpu", "exceededMemory", "unknown")
		default:
			return nil, fmt.Errorf("--status is ok, error or canceled, not %q", st)
		}
	}
	if outcomes != nil {
		add("outcome", outcomes)
	}
	if f.method != nil {
		add("method", f.method)
	}
	if f.ip != nil {
		add("client_ip", f.ip)
	}
	if f.header != "" {
		key, query, _ := strings.Cut(f.header, ":")
		add("header", map[string]string{"key": strings.TrimSpace(key), "query": strings.TrimSpace(query)})
	}
	if f.search != "" {
		add("query", f.search)
	}
	if f.version != "" {
		add("scriptVersion", f.version)
	}
	if f.sampling <= 0 || f.sampling > 1 {
		return nil, fmt.Errorf("--sampling-rate is more than 0 and at most 1, not %g", f.sampling)
	}
	if f.sampling < 1 {
		add("sampling_rate", f.sampling)
	}
	return all, nil
}

// logTail follows one script.
type logTail struct {
	*workers
	script     string
	filters    []map[string]any
	out, notes io.Writer
	json       bool
}

// run watches until ctx ends or the tail does, and begins anew when the node was replaced by a new
// process.
func (l *logTail) run(ctx context.Context) error {
	for first, lost := true, time.Now(); ; first = false {
		watched, err := l.follow(ctx, first)
		if ctx.Err() != nil {
			return nil
		}
		if watched {
			lost = time.Now()
		}
		var refused apiError
		if errors.As(err, &refused) && refused.status < 500 || err != nil && (first && !watched || time.Since(lost) > patience) {
			return err
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// follow watches one tail to its end and tells whether it came to be. The error is nil if the node ended
// it on purpose.
func (l *logTail) follow(ctx context.Context, first bool) (watched bool, err error) {
	var tail struct {
		ID  string `json:"id"`
		URL string `json:"url"`
	}
	if _, err := l.call(ctx, "POST", l.path(l.script, "/tails"), map[string]any{"filters": l.filters}, &tail); err != nil {
		return false, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		_, _ = l.call(ctx, "DELETE", l.path(l.script, "/tails/"+url.PathEscape(tail.ID)), nil, nil) // it expires anyway
	}()
	address, err := l.socketURL(tail.URL)
	if err != nil {
		return false, err
	}
	c, _, err := websocket.Dial(ctx, address, &websocket.DialOptions{HTTPClient: l.http, Subprotocols: []string{"trace-v1"}})
	if err != nil {
		return false, fmt.Errorf("watch the tail: %w", err)
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(maxTrace)
	if first && !l.json && terminal(l.notes) {
		fmt.Fprintf(l.notes, "Watching %s; interrupt with Ctrl-C.\n", l.script)
	}
	for {
		_, message, err := c.Read(ctx)
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			var end websocket.CloseError
			if errors.As(err, &end) && end.Reason != "" {
				fmt.Fprintf(l.notes, "The node has ended this: %s.\n", printable(end.Reason))
			}
			return true, nil
		}
		if err != nil {
			return true, err
		}
		l.show(message)
	}
}

// socketURL returns the address to watch at: the path that the API gave, at the address that we know it
// by, for a proxy in front of it may speak TLS.
func (l *logTail) socketURL(given string) (string, error) {
	base, err := url.Parse(l.base)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(given)
	if err != nil || u.Path == "" {
		return "", fmt.Errorf("the API gave %q to watch at, which is no address", given)
	}
	u.Scheme, u.Host = base.Scheme, base.Host
	return u.String(), nil
}

// traceEvent is what the command shows of an event.
type traceEvent struct {
	Outcome    string `json:"outcome"`
	Entrypoint string `json:"entrypoint"`
	Exceptions []struct {
		Name    string `json:"name"`
		Message string `json:"message"`
		Stack   string `json:"stack"`
	} `json:"exceptions"`
	Logs []struct {
		Message []json.RawMessage `json:"message"`
		Level   string            `json:"level"`
	} `json:"logs"`
	Timestamp float64 `json:"eventTimestamp"`
	Event     struct {
		Request *struct {
			Method string `json:"method"`
			URL    string `json:"url"`
		} `json:"request"`
		Response *struct {
			Status int `json:"status"`
		} `json:"response"`
		Cron      string `json:"cron"`
		Scheduled any    `json:"scheduledTime"`
		Queue     string `json:"queue"`
		BatchSize int    `json:"batchSize"`
		RPC       string `json:"rpcMethod"`
		MailFrom  string `json:"mailFrom"`
		Consumed  []any  `json:"consumedEvents"`
		Type      string `json:"type"` // of a message about the tail itself
		Message   string `json:"message"`
	} `json:"event"`
}

func (l *logTail) show(message []byte) {
	if l.json {
		fmt.Fprintf(l.out, "%s\n", message)
		return
	}
	var e traceEvent
	if json.Unmarshal(message, &e) != nil {
		return
	}
	p := paint{terminal(l.out)}
	if e.Event.Type != "" {
		fmt.Fprintln(l.notes, p.yellow(printable(e.Event.Message)))
		return
	}
	fmt.Fprintln(l.out, strings.Join([]string{
		p.dim(time.UnixMilli(int64(e.Timestamp)).Format("15:04:05.000")), e.outcome(p), printable(e.what()),
	}, "  "))
	for _, g := range e.Logs {
		var words []string
		for _, m := range g.Message {
			words = append(words, shownArgument(m))
		}
		level := fmt.Sprintf("%-5s", printable(g.Level))
		switch g.Level {
		case "error":
			level = p.red(level)
		case "warn":
			level = p.yellow(level)
		}
		fmt.Fprintf(l.out, "    %s  %s\n", level, indented(strings.Join(words, " ")))
	}
	for _, x := range e.Exceptions {
		text := x.Name + ": " + x.Message
		if x.Stack != "" {
			text += "\n" + x.Stack
		}
		fmt.Fprintf(l.out, "    %s\n", p.red(indented(text)))
	}
}

func (e *traceEvent) outcome(p paint) string {
	switch e.Outcome {
	case "ok":
		return p.green("ok")
	case "canceled", "responseStreamDisconnected":
		return p.yellow("canceled")
	case "exceededCpu":
		return p.red("exceeded CPU limit")
	case "exceededMemory":
		return p.red("exceeded memory limit")
	}
	return p.red(printable(e.Outcome))
}

// what says in a line what happened.
func (e *traceEvent) what() string {
	v := &e.Event
	switch {
	case v.Request != nil && v.Response != nil:
		return fmt.Sprintf("%s %s  %d", v.Request.Method, v.Request.URL, v.Response.Status)
	case v.Request != nil:
		return v.Request.Method + " " + v.Request.URL
	case v.Cron != "":
		return "cron " + v.Cron
	case v.Queue != "":
		return fmt.Sprintf("queue %s, %s", v.Queue, plural(v.BatchSize, "message"))
	case v.RPC != "":
		return strings.TrimPrefix(e.Entrypoint+"."+v.RPC+"()", ".")
	case v.MailFrom != "":
		return "mail from " + v.MailFrom
	case v.Consumed != nil:
		return plural(len(v.Consumed), "trace") + " of others"
	case v.Scheduled != nil:
		return "alarm"
	}
	return "event"
}

// shownArgument prints an argument of console.log: text as it is, anything else as JSON.
func shownArgument(m json.RawMessage) string {
	var text string
	if json.Unmarshal(m, &text) == nil {
		return text
	}
	return string(m)
}

// indented prints text of several lines below each other.
func indented(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n    ")
}

// printable keeps what strangers send, such as the URL of a request, from steering the terminal.
func printable(s string) string {
	if !strings.ContainsFunc(s, steers) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if steers(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// steers tells whether r steers a terminal or the direction of text.
func steers(r rune) bool { return r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) }
