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
)

func TestMySQL(t *testing.T) {
	server := mytest.Start(t)
	d := newDesk(t, hyperdrive.Options{})
	body := func(change func(string) string) string {
		return change(fmt.Sprintf(`{"name":"shop","origin":{"scheme":"mysql","host":"127.0.0.1","port":%d,"database":"app","user":"app","password":"secret"}}`, server.Port))
	}
	for _, c := range []struct {
		from, to string
		code     int
	}{{`"secret"`, `"wrong"`, 2013}, {`"database":"app"`, `"database":"nowhere"`, 2014}, {`"name":"shop"`, `"name":"shop","mtls":{"sslmode":"REQUIRED"}`, 2012}} {
		g := d.call("POST", "A/hyperdrive/configs", body(func(s string) string { return strings.Replace(s, c.from, c.to, 1) }))
		if g.Success || g.Errors[0].Code != c.code {
			t.Errorf("with %s = %s, want code %d", c.to, g.Body, c.code)
		}
	}
	var made struct{ ID string }
	d.ok("POST", "A/hyperdrive/configs", body(func(s string) string { return s }), &made)
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
	var user, database string
	must(t, db.QueryRow("SELECT USER(), DATABASE()").Scan(&user, &database))
	if !strings.HasPrefix(user, "app@") || database != "app" {
		t.Errorf("the client works as %s in %s", user, database)
	}
	var stats struct {
		Transactions int `json:"transactions"`
		Connections  int `json:"server_connections"`
	}
	d.ok("GET", "A/selvage/hyperdrive/configs/"+made.ID+"/stats", "", &stats)
	if stats.Transactions == 0 || stats.Connections != 1 {
		t.Errorf("stats = %+v", stats)
	}
	wrong, err := sql.Open("mysql", fmt.Sprintf("%s:wrong@tcp(%s)/any", login.User, l.Addr()))
	must(t, err)
	defer wrong.Close()
	if err := wrong.Ping(); err == nil || !strings.Contains(err.Error(), "1045") {
		t.Errorf("with a wrong password: %v", err)
	}
	// A client of MySQL has no business with a database that is PostgreSQL, nor the other way.
	d.ok("DELETE", "A/hyperdrive/configs/"+made.ID, "", nil)
	if err := db.Ping(); err == nil {
		if _, err = db.Exec("DO 1"); err == nil {
			t.Error("the pool works though its configuration is gone")
		}
	}
}
