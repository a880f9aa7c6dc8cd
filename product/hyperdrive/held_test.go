package hyperdrive_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"strings"
	"testing"

	"selvage/engine/mywire/mytest"
	"selvage/product/hyperdrive"
	"selvage/product/hyperdrive/pgtest"
)

// TestClientsCannotHaveAllMemory has clients prepare and set more than they may have us hold. What is closed, or goes
// with its client, makes room.
func TestClientsCannotHaveAllMemory(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{})
	a := d.config("one", pg.Port, `"caching":{"disabled":true},"origin_connection_limit":5`)
	large := func(i, size int) string { return fmt.Sprintf("SELECT %d /* %s */", i, strings.Repeat("x", size)) }
	for range 2 {
		c := a.connect("")
		for i := range 64 { // 32 MiB, of which none is kept
			name := fmt.Sprint("closed", i)
			_, err := c.Prepare(t.Context(), name, large(i, 512<<10))
			must(t, err)
			must(t, c.Deallocate(t.Context(), name))
		}
		var err error
		prepared := 0
		for ; err == nil && prepared < 64; prepared++ {
			_, err = c.Prepare(t.Context(), fmt.Sprint("kept", prepared), large(prepared, 512<<10))
		}
		if err == nil || !strings.Contains(err.Error(), "16 MiB") || prepared < 30 {
			t.Errorf("%d large statements were prepared, then: %v", prepared, err)
		}
	}
	c := a.connect("default_query_exec_mode=simple_protocol")
	var err error
	set := 0
	for ; err == nil && set < 100; set++ {
		_, err = c.Exec(t.Context(), fmt.Sprintf("SET my.v%d = '%s'", set, strings.Repeat("x", 1000)))
	}
	if err == nil || !strings.Contains(err.Error(), "64 KiB") || set < 60 {
		t.Errorf("%d settings of 1,000 bytes were made, then: %v", set, err)
	}
	c = a.connect("default_query_exec_mode=simple_protocol")
	for range 100 { // the same one, again and again
		_, err := c.Exec(t.Context(), "SET my.v = '"+strings.Repeat("x", 1000)+"'")
		must(t, err)
	}
}

// TestMySQLClientsCannotHaveAllMemory is the same for clients of MySQL.
func TestMySQLClientsCannotHaveAllMemory(t *testing.T) {
	server := mytest.Start(t)
	d := newDesk(t, hyperdrive.Options{})
	var made struct{ ID string }
	d.ok("POST", "A/hyperdrive/configs", fmt.Sprintf(`{"name":"shop","origin":{"scheme":"mysql","host":"127.0.0.1","port":%d,"database":"app","user":"app","password":"secret"}}`, server.Port), &made)
	var login struct{ User, Password string }
	d.ok("GET", "A/selvage/hyperdrive/configs/"+made.ID+"/credentials", "", &login)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- d.hd.ServeMySQL(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-served)
	})
	db, err := sql.Open("mysql", fmt.Sprintf("%s:%s@tcp(%s)/any", login.User, login.Password, l.Addr()))
	must(t, err)
	defer db.Close()
	c, err := db.Conn(t.Context())
	must(t, err)
	defer c.Close()
	large := func(i int) string { return fmt.Sprintf("SELECT %d /* %s */", i, strings.Repeat("x", 1<<20)) }
	for i := range 32 { // of which none is kept
		st, err := c.PrepareContext(t.Context(), large(i))
		must(t, err)
		must(t, st.Close())
	}
	prepared := 0
	for ; err == nil && prepared < 32; prepared++ {
		_, err = c.PrepareContext(t.Context(), large(prepared))
	}
	if err == nil || !strings.Contains(err.Error(), "16 MiB") || prepared < 15 {
		t.Errorf("%d statements of a MiB were prepared, then: %v", prepared, err)
	}
	var n int
	if err := c.QueryRowContext(t.Context(), "SELECT 1").Scan(&n); err != nil || n != 1 {
		t.Errorf("the connection afterwards: %d, %v", n, err)
	}
}
