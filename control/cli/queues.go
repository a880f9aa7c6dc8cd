package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func queuesCommand(s *session) *cobra.Command {
	return group("queues", "Make queues, and see what is in them",
		`Queues keep messages until somebody has worked them off: a Worker that gets them in batches, or whoever
pulls them over HTTP. Workers send to them as env.NAME, everybody else through the API.`,
		queuesList(s), queuesCreate(s), queuesInfo(s), queuesDelete(s), queuesSend(s), queuesPull(s), queuesPurge(s),
		queuesPause(s, true), queuesPause(s, false))
}

// queue is what the API shows of a queue.
type queue struct {
	ID        string    `json:"queue_id"`
	Name      string    `json:"queue_name"`
	Created   time.Time `json:"created_on"`
	Producers []struct {
		Type   string `json:"type"`
		Script string `json:"script"`
		Bucket string `json:"bucket_name"`
	} `json:"producers"`
	Consumers []struct {
		Type       string `json:"type"`
		Script     string `json:"script"`
		DeadLetter string `json:"dead_letter_queue"`
	} `json:"consumers"`
	Settings struct {
		Delay     int  `json:"delivery_delay"`
		Paused    bool `json:"delivery_paused"`
		Retention int  `json:"message_retention_period"`
	} `json:"settings"`
}

// queueBacklog is how full a queue is.
type queueBacklog struct {
	Bytes  int64 `json:"backlog_bytes"`
	Count  int64 `json:"backlog_count"`
	Oldest int64 `json:"oldest_message_timestamp_ms"`
}

// queueMessage is a message that was pulled.
type queueMessage struct {
	ID       string            `json:"id"`
	Body     string            `json:"body"`
	Attempts int               `json:"attempts"`
	Sent     int64             `json:"timestamp_ms"`
	Metadata map[string]string `json:"metadata"`
	Lease    string            `json:"lease_id,omitempty"`
}

// queues is where the paths of an account's queues begin.
type queues struct {
	*client
	root string
}

func (s *session) queues(ctx context.Context) (*queues, error) {
	c, account, err := s.inAccount(ctx)
	return &queues{c, "/accounts/" + account + "/queues"}, err
}

// one returns a queue by its name.
func (q *queues) one(ctx context.Context, name string) (*queue, error) {
	var found []queue
	if _, err := q.call(ctx, "GET", q.root+"?name="+url.QueryEscape(name), nil, &found); err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("there is no queue %q: `selvage queues list` shows those that there are, `selvage queues create %s` makes it", name, name)
	}
	return &found[0], nil
}

func (q *queues) path(one *queue, rest string) string { return q.root + "/" + one.ID + rest }

// onQueue returns a command's function that works on the queue named by the first argument.
func onQueue(s *session, do func(cmd *cobra.Command, q *queues, one *queue, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		q, err := s.queues(cmd.Context())
		if err != nil {
			return err
		}
		one, err := q.one(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return do(cmd, q, one, args[1:])
	}
}

func queuesList(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the queues",
		Example: `  selvage queues list
  selvage queues list --json | jq -r '.[].queue_name'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := s.queues(cmd.Context())
			if err != nil {
				return err
			}
			all, err := list[queue](cmd.Context(), q.client, q.root, url.Values{})
			if err != nil {
				return err
			}
			t := table{head: []string{"NAME", "ID", "PRODUCERS", "CONSUMER", "STATE"}, none: "There are no queues yet: `selvage queues create NAME` makes one."}
			return printList(s, cmd.OutOrStdout(), t, all, func(one *queue) []string {
				return []string{one.Name, one.ID, orDash(one.producers()), orDash(one.consumer()), one.state()}
			})
		},
	}
}

func (q *queue) producers() string {
	var names []string
	for _, p := range q.Producers {
		names = append(names, p.Script+p.Bucket)
	}
	return strings.Join(names, ", ")
}

func (q *queue) consumer() string {
	var names []string
	for _, c := range q.Consumers {
		name := c.Script
		if name == "" {
			name = "HTTP pull"
		}
		if c.DeadLetter != "" {
			name += ", then " + c.DeadLetter
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func (q *queue) state() string {
	if q.Settings.Paused {
		return "paused"
	}
	return "delivering"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func queuesCreate(s *session) *cobra.Command {
	var delay, retention time.Duration
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a queue",
		Example: `  selvage queues create orders
  selvage queues create reminders --delay 10m --retention 336h`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := s.queues(cmd.Context())
			if err != nil {
				return err
			}
			settings := map[string]any{}
			if delay > 0 {
				settings["delivery_delay"] = int(delay / time.Second)
			}
			if retention > 0 {
				settings["message_retention_period"] = int(retention / time.Second)
			}
			var made queue
			if _, err := q.call(cmd.Context(), "POST", q.root, map[string]any{"queue_name": args[0], "settings": settings}, &made); err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), made)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Made the queue %s (%s).\n", made.Name, made.ID)
			return nil
		},
	}
	c.Flags().DurationVar(&delay, "delay", 0, "how long messages wait before they are delivered")
	c.Flags().DurationVar(&retention, "retention", 0, "how long messages are kept that nobody takes (four days)")
	return c
}

func queuesInfo(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "info NAME",
		Short:   "Show a queue and how full it is",
		Example: `  selvage queues info orders`,
		Args:    cobra.ExactArgs(1),
		RunE: onQueue(s, func(cmd *cobra.Command, q *queues, one *queue, _ []string) error {
			var b queueBacklog
			if _, err := q.call(cmd.Context(), "GET", q.path(one, "/metrics"), nil, &b); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if s.json {
				return printJSON(out, struct {
					*queue
					queueBacklog
				}{one, b})
			}
			oldest := "-"
			if b.Oldest > 0 {
				oldest = time.UnixMilli(b.Oldest).Local().Format("2006-01-02 15:04:05")
			}
			t := table{}
			t.add("name", one.Name)
			t.add("id", one.ID)
			t.add("state", one.state())
			t.add("producers", orDash(one.producers()))
			t.add("consumer", orDash(one.consumer()))
			t.add("messages", fmt.Sprintf("%d (%s)", b.Count, shownBytes(b.Bytes)))
			t.add("oldest", oldest)
			t.add("delay", shownDuration(time.Duration(one.Settings.Delay)*time.Second))
			t.add("kept for", shownDuration(time.Duration(one.Settings.Retention)*time.Second))
			t.print(out)
			return nil
		}),
	}
}

func queuesDelete(s *session) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:     "delete NAME --yes",
		Short:   "Delete a queue with its messages",
		Example: `  selvage queues delete orders --yes`,
		Args:    cobra.ExactArgs(1),
		RunE: onQueue(s, func(cmd *cobra.Command, q *queues, one *queue, _ []string) error {
			if !yes {
				return errors.New("this deletes the queue and all its messages for good: say --yes to do it")
			}
			if _, err := q.call(cmd.Context(), "DELETE", q.path(one, ""), nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Deleted the queue %s.\n", one.Name)
			return nil
		}),
	}
	c.Flags().BoolVar(&yes, "yes", false, "really do it")
	return c
}

func queuesSend(s *session) *cobra.Command {
	var kind string
	var delay time.Duration
	c := &cobra.Command{
		Use:   "send NAME [MESSAGE]",
		Short: "Send a message to a queue",
		Long:  `Send a message to a queue. Without MESSAGE it is read from standard input.`,
		Example: `  selvage queues send orders '{"order":7}'
  selvage queues send orders --type text "hello" --delay 1m
  selvage queues send pictures --type bytes < picture.png`,
		Args: cobra.RangeArgs(1, 2),
		RunE: onQueue(s, func(cmd *cobra.Command, q *queues, one *queue, args []string) error {
			body, err := messageOf(cmd, kind, args)
			if err != nil {
				return err
			}
			message := map[string]any{"body": body, "content_type": kind}
			if cmd.Flags().Changed("delay") {
				message["delay_seconds"] = int(delay / time.Second)
			}
			if _, err := q.call(cmd.Context(), "POST", q.path(one, "/messages"), message, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Sent to %s.\n", one.Name)
			return nil
		}),
	}
	c.Flags().StringVar(&kind, "type", "json", "what the message is: json, text or bytes")
	c.Flags().DurationVar(&delay, "delay", 0, "how long it waits before it is delivered")
	return c
}

// messageOf returns the body of a message as the API takes it.
func messageOf(cmd *cobra.Command, kind string, args []string) (any, error) {
	var raw []byte
	var err error
	if len(args) > 0 {
		raw = []byte(args[0])
	} else if raw, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), 1<<20)); err != nil {
		return nil, err
	}
	switch kind {
	case "json":
		if !json.Valid(raw) {
			return nil, fmt.Errorf("the message is not JSON; say --type text to send it as it is")
		}
		return json.RawMessage(raw), nil
	case "bytes":
		return base64.StdEncoding.EncodeToString(raw), nil
	}
	return string(raw), nil
}

func queuesPull(s *session) *cobra.Command {
	var count int
	var ack, peek bool
	c := &cobra.Command{
		Use:   "pull NAME",
		Short: "Take messages from a queue, or look at them",
		Long: `Take messages from a queue that has an http_pull consumer. They come back to the queue unless they are
acknowledged: --ack does that at once. --peek shows the first messages of any queue and takes none.`,
		Example: `  selvage queues pull orders --peek
  selvage queues pull orders --count 10 --ack --json`,
		Args: cobra.ExactArgs(1),
		RunE: onQueue(s, func(cmd *cobra.Command, q *queues, one *queue, _ []string) error {
			rest := "/messages/pull"
			if peek {
				rest = "/messages/preview"
			}
			var got struct {
				Messages []queueMessage `json:"messages"`
			}
			if _, err := q.call(cmd.Context(), "POST", q.path(one, rest), map[string]any{"batch_size": count}, &got); err != nil {
				return err
			}
			if err := s.printMessages(cmd, got.Messages); err != nil || !ack || peek {
				return err
			}
			return q.ack(cmd.Context(), one, got.Messages)
		}),
	}
	c.Flags().IntVar(&count, "count", 5, "how many messages at most")
	c.Flags().BoolVar(&ack, "ack", false, "acknowledge them once they are printed")
	c.Flags().BoolVar(&peek, "peek", false, "only look")
	return c
}

func (q *queues) ack(ctx context.Context, one *queue, messages []queueMessage) error {
	acks := []map[string]string{}
	for _, m := range messages {
		acks = append(acks, map[string]string{"lease_id": m.Lease})
	}
	_, err := q.call(ctx, "POST", q.path(one, "/messages/ack"), map[string]any{"acks": acks}, nil)
	return err
}

func (s *session) printMessages(cmd *cobra.Command, messages []queueMessage) error {
	out := cmd.OutOrStdout()
	if s.json {
		return printJSON(out, messages)
	}
	if len(messages) == 0 {
		fmt.Fprintln(out, "There is no message to be had.")
		return nil
	}
	t := table{head: []string{"ID", "SENT", "ATTEMPTS", "TYPE", "BODY"}}
	for _, m := range messages {
		kind, body := m.Metadata["CF-Content-Type"], m.Body
		if kind == "json" {
			if raw, err := base64.StdEncoding.DecodeString(body); err == nil {
				body = string(raw)
			}
		}
		if len(body) > 60 {
			body = strings.ToValidUTF8(body[:60], "") + "..."
		}
		t.add(m.ID, time.UnixMilli(m.Sent).Local().Format("2006-01-02 15:04:05"), fmt.Sprint(m.Attempts), kind, fmt.Sprintf("%q", body))
	}
	t.print(out)
	return nil
}

func queuesPurge(s *session) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:     "purge NAME --yes",
		Short:   "Delete all messages of a queue",
		Example: `  selvage queues purge orders --yes`,
		Args:    cobra.ExactArgs(1),
		RunE: onQueue(s, func(cmd *cobra.Command, q *queues, one *queue, _ []string) error {
			if !yes {
				return errors.New("this deletes all messages of the queue for good: say --yes to do it")
			}
			if _, err := q.call(cmd.Context(), "POST", q.path(one, "/purge"), map[string]any{"delete_messages_permanently": true}, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Purged the queue %s.\n", one.Name)
			return nil
		}),
	}
	c.Flags().BoolVar(&yes, "yes", false, "really do it")
	return c
}

func queuesPause(s *session, paused bool) *cobra.Command {
	verb, short, done := "pause", "Stop delivering a queue's messages; they wait", "Paused"
	if !paused {
		verb, short, done = "resume", "Deliver a paused queue's messages again", "Resumed"
	}
	return &cobra.Command{
		Use:     verb + " NAME",
		Short:   short,
		Example: "  selvage queues " + verb + " orders",
		Args:    cobra.ExactArgs(1),
		RunE: onQueue(s, func(cmd *cobra.Command, q *queues, one *queue, _ []string) error {
			if _, err := q.call(cmd.Context(), "PATCH", q.path(one, ""), map[string]any{"settings": map[string]any{"delivery_paused": paused}}, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s the queue %s.\n", done, one.Name)
			return nil
		}),
	}
}
