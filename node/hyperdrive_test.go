package node_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"selvage/product/hyperdrive/pgtest"
)

// speaksPostgres is a Worker with a client of PostgreSQL of its own, as small as one can be.
const speaksPostgres = `
const text = new TextEncoder(), plain = new TextDecoder();
function message(kind, body) {
	const b = new Uint8Array(body.length + 4 + kind.length), v = new DataView(b.buffer);
	b.set(text.encode(kind));
	v.setInt32(kind.length, body.length + 4);
	b.set(body, kind.length + 4);
	return b;
}
class Client {
	constructor(db) {
		this.socket = db.connect();
		this.out = this.socket.writable.getWriter();
		this.in = this.socket.readable.getReader();
		this.buffer = new Uint8Array();
	}
	async next() {
		for (;;) {
			if (this.buffer.length >= 5) {
				const size = new DataView(this.buffer.buffer, this.buffer.byteOffset).getInt32(1) + 1;
				if (this.buffer.length >= size) {
					const m = [String.fromCharCode(this.buffer[0]), this.buffer.subarray(5, size)];
					this.buffer = this.buffer.slice(size);
					return m;
				}
			}
			const {value, done} = await this.in.read();
			if (done) throw new Error("the database hung up");
			const more = new Uint8Array(this.buffer.length + value.length);
			more.set(this.buffer);
			more.set(value, this.buffer.length);
			this.buffer = more;
		}
	}
	async login(user, password) {
		const body = text.encode("\0\x03\0\0user\0" + user + "\0database\0x\0\0");
		await this.out.write(message("", body));
		for (;;) {
			const [kind, m] = await this.next();
			if (kind == "R" && m[3] == 3) await this.out.write(message("p", text.encode(password + "\0")));
			else if (kind == "E") throw new Error(plain.decode(m).replaceAll("\0", " "));
			else if (kind == "Z") return this;
		}
	}
	async query(sql) {
		await this.out.write(message("Q", text.encode(sql + "\0")));
		for (let row = "", failed = "";;) {
			const [kind, m] = await this.next();
			if (kind == "D") row = plain.decode(m.subarray(6));
			if (kind == "E") failed = plain.decode(m).replaceAll("\0", " ");
			if (kind == "Z" && failed) throw new Error(failed);
			if (kind == "Z") return row;
		}
	}
}
export default {
	async fetch(request, env) {
		const url = new URL(request.url), {user, password} = env.DB;
		try {
			const c = await new Client(env.DB).login(url.searchParams.get("user") ?? user, url.searchParams.get("password") ?? password);
			let last = "";
			for (const sql of url.searchParams.getAll("sql")) last = await c.query(sql);
			return new Response(last);
		} catch (e) {
			return new Response(String(e), {status: 500});
		}
	},
};`

func TestHyperdrive(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t)
	p := up(t, t.TempDir(), "--workers-allow", "127.0.0.1/32")
	var made, access struct{ ID, User, Password string }
	configs := "/accounts/" + p.AccountID + "/hyperdrive/configs"
	body := fmt.Sprintf(`{"name":"one","caching":{"disabled":true},"origin_connection_limit":5,"origin":{"scheme":"postgres","host":"127.0.0.1","port":%d,"database":"postgres","user":"owner","password":%q}}`, pg.Port, pgtest.Password)
	if err := p.call("POST", configs, body, &made); err != nil {
		t.Fatal(err)
	}
	if err := p.call("GET", "/accounts/"+p.AccountID+"/selvage/hyperdrive/configs/"+made.ID+"/credentials", "", &access); err != nil {
		t.Fatal(err)
	}
	bound := script{source: speaksPostgres, meta: `"bindings":[{"type":"hyperdrive","name":"DB","id":"` + made.ID + `"}]`}
	s := p.deploy("db", bound)
	s.expect("/?sql=SELECT+current_user", 200, "owner")
	s.expect("/?sql=SET+my.x=7&sql=SHOW+my.x", 200, "7")
	s.expect("/?sql=LISTEN+x", 500, "0A000")
	s.expect("/?password=wrong&sql=SELECT+1", 500, "28P01")
	s.expect("/?password="+access.Password+"&sql=SELECT+1", 500, "28P01") // that of the private port
	if _, err := p.send("PUT", p.otherAccount(t), "thief", bound); err == nil || !strings.Contains(err.Error(), "not on this account") {
		t.Errorf("another account could bind to the configuration: %v", err)
	}

	// A child that is killed in the middle of a transaction leaves no lock behind.
	s.expect("/?sql=CREATE+TABLE+t+(a+int)", 200, "")
	go s.do("GET", "/?sql=BEGIN&sql=LOCK+TABLE+t&sql=SELECT+pg_sleep(300)", nil)
	direct, err := pgx.Connect(t.Context(), pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close(context.Background())
	sleeps := func() (n int) {
		if err := direct.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	await := func(what string, want int) {
		t.Helper()
		for i := 0; sleeps() != want; i++ {
			if i > 3000 {
				t.Fatal(what)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	await("the query did not begin", 1)
	if err := p.call("POST", "/accounts/"+p.AccountID+"/selvage/workers/scripts/db/kill", "{}", nil); err != nil {
		t.Fatal(err)
	}
	await("the query of a child that was killed goes on", 0)
	s.expect("/?sql=SELECT+count(*)+FROM+t", 200, "0")

	// After a start both ways in are there again.
	dsn := func() string {
		return strings.Replace(p.HyperdrivePostgres, "://", "://"+made.ID+":"+access.Password+"@", 1) + "/postgres?sslmode=disable"
	}
	if c, err := pgx.Connect(t.Context(), dsn()); err != nil {
		t.Error(err)
	} else {
		c.Close(context.Background())
	}
	if err := p.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	q := up(t, p.dir, "--workers-allow", "127.0.0.1/32")
	siteOf(t, q, "db").expect("/?sql=SELECT+current_user", 200, "owner")
	p = q
	if c, err := pgx.Connect(t.Context(), dsn()); err != nil {
		t.Errorf("after a start: %v", err)
	} else {
		c.Close(context.Background())
	}
}
