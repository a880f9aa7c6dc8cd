package cli_test

import (
	"strings"
	"testing"
)

func TestQueues(t *testing.T) {
	const one = `{"queue_id":"fedcba9876543210fedcba9876543210","queue_name":"orders","settings":{"delivery_delay":60,"message_retention_period":345600}}`
	const path = "/accounts/A/queues/fedcba9876543210fedcba9876543210"
	a := newAPI(t, map[string]string{
		"GET /accounts/A/queues": "[" + one + "]", "POST /accounts/A/queues": one, "DELETE " + path: "null",
		"GET " + path + "/metrics":   `{"backlog_count":3,"backlog_bytes":2048,"oldest_message_timestamp_ms":0}`,
		"POST " + path + "/messages": "null",
	})
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"list"}, 0, []string{"NAME", "orders", "delivering"}},
		{[]string{"create", "orders"}, 0, []string{"Made the queue orders"}},
		{[]string{"info", "orders"}, 0, []string{"name       orders", "messages   3 (2.0 KiB)", "delay      1m", "consumer   -"}},
		{[]string{"info", "orders", "--json"}, 0, []string{`"backlog_count": 3`}},
		{[]string{"send", "orders", `{"n":1}`}, 0, []string{"Sent to orders"}},
		{[]string{"send", "orders", "plain"}, 1, []string{"--type text"}},
		{[]string{"delete", "orders"}, 1, []string{"--yes"}},
		{[]string{"delete", "orders", "--yes"}, 0, []string{"orders"}},
	} {
		code, out, errors := a.run(t.Context(), append([]string{"queues"}, c.args...)...)
		for _, want := range c.want {
			if !strings.Contains(out+errors, want) {
				t.Errorf("queues %v printed no %q:\n%s%s", c.args, want, out, errors)
			}
		}
		if code != c.code {
			t.Errorf("queues %v ended with %d, want %d: %s", c.args, code, c.code, errors)
		}
	}
}
