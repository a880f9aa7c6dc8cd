package hyperdrive_test

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"selvage/product/hyperdrive"
	"selvage/product/hyperdrive/pgtest"
)

// TestDrain: who is in a transaction may end it, but not take for ever.
func TestDrain(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{Drain: time.Second})
	a := d.config("one", pg.Port, `"caching":{"disabled":true}`)
	idle, stuck, asleep := a.connect(""), a.connect(""), a.connect("")
	run(t, stuck, "BEGIN")
	run(t, stuck, "SELECT 1")
	ended := make(chan error, 1)
	go func() { _, err := asleep.Exec(context.Background(), "SELECT pg_sleep(600)"); ended <- err }()
	for one(t, idle, "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'") == "0" {
		time.Sleep(10 * time.Millisecond)
	}
	d.end() // returns
	if err := <-ended; err == nil {
		t.Error("a query that takes for ever ended well")
	}
	if _, err := ask(stuck, "SELECT 'x'"); err == nil {
		t.Error("a transaction was not ended")
	}
	_, err := ask(idle, "SELECT 'x'")
	if said, ok := err.(*pgconn.PgError); !ok || said.Code != "57P01" {
		t.Errorf("an idle client was told %v, want SQLSTATE 57P01", err)
	}
}

// TestPass has clients go on in another process, which here is another Hyperdrive over the same store.
func TestPass(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{})
	a := d.config("one", pg.Port, `"caching":{"disabled":true}`)
	idle, open := a.connect(""), a.connect("application_name=mine")
	run(t, idle, "SET my.x = 'it''s kept'")
	if _, err := idle.Prepare(t.Context(), "named", "SELECT 'named ' || $1::text"); err != nil {
		t.Fatal(err)
	}
	run(t, open, "BEGIN")
	run(t, open, "SET LOCAL my.y = 'local'")

	path := filepath.Join(t.TempDir(), "clients")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	end := d.end
	d.hd.PassTo(func() (*net.UnixConn, error) {
		return net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	})
	next := d.another(t)
	ctx, cancel := context.WithCancel(context.Background())
	adopts := make(chan struct{})
	go func() { next.Adopt(ctx, l); close(adopts) }()
	t.Cleanup(func() { cancel(); <-adopts })
	go end()
	if got := one(t, idle, "SHOW my.x"); got != "it's kept" {
		t.Errorf("my.x = %q", got)
	}
	if got := one(t, idle, "named", "statement"); got != "named statement" {
		t.Errorf("the prepared statement says %q", got)
	}
	if got := one(t, open, "SHOW my.y"); got != "local" {
		t.Errorf("in the transaction my.y = %q", got)
	}
	run(t, open, "COMMIT")
	if got := one(t, open, "SHOW application_name"); got != "mine" {
		t.Errorf("application_name = %q", got)
	}
	end() // waits until all have left
	if got := one(t, open, "SELECT 'still'"); got != "still" {
		t.Error(got)
	}
	var stats struct {
		Clients int64 `json:"clients"`
	}
	if d.ok("GET", "A/selvage/hyperdrive/configs/"+a.ID+"/stats", "", &stats); stats.Clients != 0 {
		t.Errorf("the old process counts %d clients", stats.Clients)
	}
}
