package hyperdrive_test

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"selvage/product/hyperdrive"
	"selvage/product/hyperdrive/pgtest"
	"selvage/product/hyperdrive/postgres"
)

func (a *account) stats() (s postgres.Stats) {
	a.d.t.Helper()
	a.d.ok("GET", "A/selvage/hyperdrive/configs/"+a.ID+"/stats", "", &s)
	return s
}

func TestCache(t *testing.T) {
	pg := pgtest.Start(t)
	direct, err := pgx.Connect(t.Context(), pg.URL())
	must(t, err)
	defer direct.Close(t.Context())
	run(t, direct, "CREATE TABLE items (id int PRIMARY KEY, name text, at timestamptz DEFAULT now())")
	run(t, direct, "INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 100) i")
	run(t, direct, "CREATE VIEW recent AS SELECT * FROM items WHERE at > now() - interval '1 day'")
	run(t, direct, "CREATE FUNCTION wobbly(int) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT name FROM items WHERE id = $1'")
	d := newDesk(t, hyperdrive.Options{})
	a := d.config("one", pg.Port, "")
	for _, mode := range []string{"", "default_query_exec_mode=simple_protocol", "default_query_exec_mode=exec", "default_query_exec_mode=cache_describe"} {
		c, other := a.connect(mode), a.connect(mode)
		for sql, cached := range map[string]bool{
			"SELECT name FROM items WHERE id = $1":                                      true,
			"select upper(i.name) from items i where i.id = $1::int order by 1 limit 1": true,
			"WITH x AS (SELECT * FROM items) SELECT max(name) FROM x WHERE id = $1":     true,
			"SELECT name FROM items WHERE id = $1 FOR UPDATE":                           false,
			"SELECT name FROM recent WHERE id = $1":                                     false,
			"SELECT wobbly($1)":                                                         false,
			"SELECT name FROM items WHERE id = $1 AND at <= now()":                      false,
			"SELECT name FROM items WHERE id = $1 AND at <= CURRENT_TIMESTAMP":          false,
			"UPDATE items SET name = name WHERE id = $1 RETURNING name":                 false,
		} {
			one(t, c, sql, 7) // once for pgx to prepare it
			one(t, c, sql, 7)
			before := a.stats()
			for _, c := range []*pgx.Conn{c, other, c} {
				one(t, c, sql, 7)
			}
			after := a.stats()
			if hits := after.Cache.Hits - before.Cache.Hits; cached != (hits >= 2) || !cached && hits > 0 {
				t.Errorf("%s %q: %d hits, want them: %v", mode, sql, hits, cached)
			}
		}
	}
	// Answers are those of the values, the settings and the formats asked with.
	c := a.connect("")
	for i := range 20 {
		if got := one(t, c, "SELECT name FROM items WHERE id = $1", i%4+1); got != "item "+string(rune('1'+i%4)) {
			t.Errorf("item %d is %q", i%4+1, got)
		}
	}
	tokyo := a.connect("timezone=Asia/Tokyo default_query_exec_mode=simple_protocol")
	utc := a.connect("timezone=UTC default_query_exec_mode=simple_protocol")
	for range 3 {
		if x, y := one(t, tokyo, "SELECT at::text FROM items WHERE id = 1"), one(t, utc, "SELECT at::text FROM items WHERE id = 1"); x == y {
			t.Errorf("two time zones see %s", x)
		}
	}
	// In a transaction, what was just written is there.
	tx, err := c.Begin(t.Context())
	must(t, err)
	run(t, c, "UPDATE items SET name = 'new' WHERE id = 7")
	if got := one(t, c, "SELECT name FROM items WHERE id = $1", 7); got != "new" {
		t.Errorf("in the transaction: %q", got)
	}
	must(t, tx.Commit(t.Context()))
	if got := one(t, c, "SELECT name FROM items WHERE id = $1", 7); got != "item 7" {
		t.Errorf("a write took the answer away: %q", got)
	}
}

func TestCacheWithoutDatabase(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{Wait: time.Second})
	a := d.config("one", pg.Port, `"caching":{"max_age":3600}`)
	c := a.connect("default_query_exec_mode=simple_protocol")
	one(t, c, "SELECT 'kept' || 'x'")
	pg.Kill()
	var all sync.WaitGroup
	for range 8 {
		c := a.connect("default_query_exec_mode=simple_protocol")
		all.Go(func() {
			if got, err := ask(c, "SELECT 'kept' || 'x'"); err != nil || got != "keptx" {
				t.Errorf("while the database is away: %q %v", got, err)
			}
		})
	}
	all.Wait()
	if _, err := ask(c, "SELECT 'fresh'"); err == nil {
		t.Error("a database that is away answered")
	}
}

func TestStale(t *testing.T) {
	pg := pgtest.Start(t)
	direct, err := pgx.Connect(t.Context(), pg.URL())
	must(t, err)
	defer direct.Close(t.Context())
	run(t, direct, "CREATE TABLE n (n int)")
	run(t, direct, "INSERT INTO n VALUES (1)")
	d := newDesk(t, hyperdrive.Options{})
	a := d.config("one", pg.Port, `"caching":{"max_age":0,"stale_while_revalidate":3600}`)
	for _, mode := range []string{"", "default_query_exec_mode=simple_protocol"} {
		run(t, direct, "UPDATE n SET n = 1")
		c := a.connect(mode)
		one(t, c, "SELECT n::text FROM n")
		run(t, direct, "UPDATE n SET n = 2")
		seen := ""
		for i := 0; seen != "2" && i < 2000; i++ { // each answer is stale and asks for the next
			seen = one(t, c, "SELECT n::text FROM n")
		}
		if seen != "2" {
			t.Errorf("%s: the answer was never refreshed", mode)
		}
	}
	text, _ := json.Marshal(a.stats())
	if a.stats().Cache.Stale == 0 {
		t.Errorf("no stale answers: %s", text)
	}
}
