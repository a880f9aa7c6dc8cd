package hyperdrive_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"selvage/product/hyperdrive"
	"selvage/product/hyperdrive/pgtest"
)

func TestPGX(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{})
	a := d.config("one", pg.Port, `"caching":{"disabled":true},"origin_connection_limit":5`)
	modes := map[string]string{"cached statements": "", "described": "default_query_exec_mode=describe_exec", "exec": "default_query_exec_mode=exec", "simple": "default_query_exec_mode=simple_protocol", "cached descriptions": "default_query_exec_mode=cache_describe"}
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			c, other := a.connect(mode), a.connect(mode)
			for i := range 5 {
				for _, c := range []*pgx.Conn{c, other} {
					if got := one(t, c, "SELECT $1::int::text || 'x'", i); got != string(rune('0'+i))+"x" {
						t.Errorf("got %q", got)
					}
				}
			}
			if _, err := ask(c, "SELECT nonsense"); err == nil {
				t.Error("nonsense was answered")
			}
			tx, err := c.Begin(t.Context())
			must(t, err)
			pid := one(t, tx.Conn(), "SELECT pg_backend_pid()::text")
			if again := one(t, tx.Conn(), "SELECT pg_backend_pid()::text"); again != pid {
				t.Errorf("the server changed in a transaction from %s to %s", pid, again)
			}
			must(t, tx.Rollback(t.Context()))
		})
	}
}

func TestSettings(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{})
	a := d.config("one", pg.Port, `"caching":{"disabled":true},"origin_connection_limit":5`)
	c, other := a.connect("application_name=first"), a.connect("application_name=second timezone=Asia/Tokyo")
	run(t, c, "SET search_path TO one, public")
	run(t, c, "SET TIME ZONE 'Europe/Berlin'")
	run(t, c, "SET my.tenant = 'it''s; one'")
	for range 3 {
		for want, got := range map[string]string{
			"first": one(t, c, "SHOW application_name"), "second": one(t, other, "SHOW application_name"),
			"one, public": one(t, c, "SHOW search_path"), `"$user", public`: one(t, other, "SHOW search_path"),
			"Europe/Berlin": one(t, c, "SHOW timezone"), "Asia/Tokyo": one(t, other, "SHOW timezone"),
			"it's; one": one(t, c, "SHOW my.tenant"), "": one(t, other, "SELECT coalesce(current_setting('my.tenant', true), '')"),
		} {
			if got != want {
				t.Errorf("a setting is %q, want %q", got, want)
			}
		}
	}
	tx, err := c.Begin(t.Context())
	must(t, err)
	run(t, c, "SET search_path TO gone")
	run(t, c, "SET LOCAL statement_timeout = '7s'")
	must(t, tx.Rollback(t.Context()))
	if got := one(t, c, "SHOW search_path"); got != "one, public" {
		t.Errorf("after a rollback search_path is %q", got)
	}
	run(t, c, "RESET search_path")
	if got := one(t, c, "SHOW search_path"); got != `"$user", public` {
		t.Errorf("after RESET search_path is %q", got)
	}
	run(t, c, "DISCARD ALL")
	c = a.connect("application_name=first default_query_exec_mode=simple_protocol")
	run(t, c, "SET timezone = 'UTC'")
	run(t, c, "DISCARD ALL")
	if got := one(t, c, "SHOW application_name") + one(t, c, "SHOW timezone"); !strings.HasPrefix(got, "first") {
		t.Errorf("after DISCARD ALL: %q", got)
	}
}

func TestRefusals(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{})
	a := d.config("one", pg.Port, `"origin_connection_limit":5`)
	for _, mode := range []string{"", "default_query_exec_mode=simple_protocol"} {
		c := a.connect(mode)
		for _, sql := range []string{"LISTEN x", "PREPARE p AS SELECT 1", "SELECT pg_advisory_lock(1)", "CREATE TEMP TABLE x (a int)", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "SET SESSION AUTHORIZATION owner", "LOAD 'x'"} {
			if _, err := c.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "0A000") {
				t.Errorf("%s: %v, want it refused", sql, err)
			}
			if got := one(t, c, "SELECT 'fine'"); got != "fine" {
				t.Errorf("after %s: %q", sql, got)
			}
		}
		tx, err := c.Begin(t.Context())
		must(t, err)
		if _, err := c.Exec(t.Context(), "LISTEN x"); err == nil {
			t.Error("LISTEN in a transaction was taken")
		}
		if _, err := c.Exec(t.Context(), "SELECT 1"); err == nil || !strings.Contains(err.Error(), "25P02") {
			t.Errorf("after a refusal the transaction goes on: %v", err)
		}
		must(t, tx.Rollback(t.Context()))
		run(t, c, "SELECT pg_advisory_xact_lock(1)")
		run(t, c, "DEALLOCATE ALL")
	}
}
