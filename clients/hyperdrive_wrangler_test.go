package clients

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloudflare/cloudflare-go/v6"
	"github.com/cloudflare/cloudflare-go/v6/hyperdrive"
)

// postgresql is a PostgreSQL of Debian's that a test started; its superuser is owner.
type postgresql struct {
	port int
	url  string // with the password
}

// startPostgreSQL runs a server, as a user without rights, until the test ends.
func startPostgreSQL(t *testing.T) *postgresql {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(found) == 0 {
		t.Fatal("PostgreSQL is not installed: run make test-setup")
	}
	bin, dir := found[len(found)-1], filepath.Join(os.TempDir(), fmt.Sprintf("pg%d-%d", os.Getpid(), time.Now().UnixNano()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	attr := &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		u, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.SysProcAttr = dir, attr
		return cmd
	}
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte("the origin's secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := command("initdb", "-D", dir+"/data", "-U", "owner", "--pwfile="+secret, "--auth=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "-N").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	port, err := strconv.Atoi(freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	server := command("postgres", "-D", dir+"/data", "-p", strconv.Itoa(port), "-h", "127.0.0.1", "-k", dir, "-F", "-c", "shared_buffers=16MB")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Signal(syscall.SIGQUIT); server.Wait() })
	within(t, time.Minute, "the start of PostgreSQL", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return exec.CommandContext(ctx, filepath.Join(bin, "pg_isready"), "-h", "127.0.0.1", "-p", strconv.Itoa(port)).Run() == nil
	})
	u := url.URL{Scheme: "postgres", Host: fmt.Sprintf("127.0.0.1:%d", port), User: url.UserPassword("owner", "the origin's secret"), Path: "/postgres"}
	return &postgresql{port, u.String()}
}

var configID = regexp.MustCompile(`[0-9a-f]{32}`)

// TestHyperdrive has wrangler make a configuration, and Workers, psql and pgbench use it.
func TestHyperdrive(t *testing.T) {
	pg := startPostgreSQL(t)
	n := startNode(t, "--workers-allow", "127.0.0.0/8")
	for _, w := range wranglers {
		t.Run("wrangler "+w.name, func(t *testing.T) {
			p := newProject(t, n, w.folder, "hyperdrive", "hd-"+strings.ReplaceAll(w.name, ".", "-"))
			out := p.wrangler(t, "hyperdrive", "create", p.name, "--connection-string", pg.url, "--max-age", "30", "--swr", "10", "--origin-connection-limit", "10")
			id := configID.FindString(out)
			if id == "" {
				t.Fatalf("wrangler hyperdrive create shows no ID:\n%s", out)
			}
			if out := p.wrangler(t, "hyperdrive", "list"); !strings.Contains(out, id) {
				t.Errorf("wrangler hyperdrive list does not show %s:\n%s", id, out)
			}
			p.wrangler(t, "hyperdrive", "update", id, "--caching-disabled", "true")
			if out := p.wrangler(t, "hyperdrive", "get", id); !strings.Contains(out, `"disabled": true`) || strings.Contains(out, "secret") {
				t.Errorf("wrangler hyperdrive get:\n%s", out)
			}
			p.refused(t, []string{"2013"}, "hyperdrive", "update", id, "--origin-password", "wrong")
			p.refused(t, []string{"2014"}, "hyperdrive", "create", p.name+"-no", "--connection-string", strings.Replace(pg.url, "/postgres", "/nowhere", 1))
			p.refused(t, []string{"2011"}, "hyperdrive", "create", p.name+"-no", "--connection-string", strings.Replace(pg.url, strconv.Itoa(pg.port), freePort(t), 1))
			p.rewrite(t, "wrangler.jsonc", "CONFIG_ID", id)
			p.wrangler(t, "deploy")
			testDrivers(t, p, id)
			p.wrangler(t, "hyperdrive", "delete", id)
			p.refused(t, nil, "hyperdrive", "get", id)
			if got := p.get(t, "/pg"); got.status != 500 {
				t.Errorf("a deleted configuration answers %d %s", got.status, got.body)
			}
		})
	}
	t.Run("psql and pgbench", func(t *testing.T) { testPrivatePort(t, n, pg) })
	t.Run("cloudflare-go", func(t *testing.T) { testHyperdriveSDK(t, n, pg) })
}

// testDrivers has the npm packages pg and postgres talk to the database from a Worker.
func testDrivers(t *testing.T, p *project, id string) {
	for path, want := range map[string]string{
		"/login":       `{"user":"` + id + `","database":"` + id + `","port":5432,"password":48,"host":true}`,
		"/pg":          `[{"who":"pg","sum":42}]`,
		"/pg-fields":   `[{"how":"fields"}]`,
		"/pg-named":    `[0,2,4]`,
		"/pg-error":    `["42P01","after"]`,
		"/postgres":    `[{"who":"postgres","sum":42}]`,
		"/postgres-tx": `[6,[1,2,3,4,5,6,7,8]]`,
		"/large":       `3000000`,
	} {
		p.expect(t, path, want)
	}
	if got := p.get(t, "/pg-tx"); !strings.Contains(got.body, "kept") || strings.Contains(got.body, "lost") {
		t.Errorf("/pg-tx: %d %s", got.status, got.body)
	}
	if got := p.get(t, "/secrets"); strings.Contains(got.body, "secret") || strings.Contains(got.body, "owner") || strings.Contains(got.body, "127.0.0.1") {
		t.Errorf("the Worker sees the database's own credentials: %s", got.body)
	}
}

func testPrivatePort(t *testing.T, n *node, pg *postgresql) {
	cli := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(run(t, nil, os.Getenv("SELVAGE_BIN"), append(args, "--data", n.dir)...))
	}
	cli("hyperdrive", "create", "private", "--connection-string", pg.url, "--sslmode", "disable")
	dsn := cli("hyperdrive", "url", "private")
	if got := run(t, nil, "psql", dsn, "-XAtc", "SELECT 'a' || 1; SELECT current_user"); got != "a1\nowner\n" {
		t.Errorf("psql: %q", got)
	}
	if got := run(t, nil, "psql", dsn, "-XAtc", `\d pg_class`); !strings.Contains(got, "relname") {
		t.Errorf("psql \\d: %q", got)
	}
	if out, err := try(t, nil, "psql", strings.Replace(dsn, "@", "x@", 1), "-XAtc", "SELECT 1"); err == nil || !strings.Contains(out, "password authentication failed") {
		t.Errorf("psql with a wrong password: %v %s", err, out)
	}
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	env := []string{"PGHOST=" + u.Hostname(), "PGPORT=" + u.Port(), "PGUSER=" + u.User.Username(), "PGPASSWORD=" + password, "PGDATABASE=postgres"}
	run(t, env, "pgbench", "-i", "-q", "-s", "1")
	for _, args := range [][]string{{"-S", "-c", "8"}, {"-S", "-M", "prepared", "-c", "8"}, {"-M", "extended", "-c", "4"}, {"-S", "-C", "-c", "2"}} {
		out := run(t, env, "pgbench", append(args, "-n", "-t", "20")...)
		if !strings.Contains(out, "number of failed transactions: 0") {
			t.Errorf("pgbench %v:\n%s", args, out)
		}
	}
	if got := cli("hyperdrive", "stats", "private"); !strings.Contains(got, "transactions") {
		t.Errorf("selvage hyperdrive stats: %s", got)
	}
	renewed := cli("hyperdrive", "url", "private", "--renew")
	if out, err := try(t, nil, "psql", dsn, "-XAtc", "SELECT 1"); err == nil {
		t.Errorf("the old password still works: %s", out)
	}
	run(t, nil, "psql", renewed, "-XAtc", "SELECT 1")
	if got := cli("hyperdrive", "list"); !strings.Contains(got, "private") {
		t.Errorf("selvage hyperdrive list: %s", got)
	}
	cli("hyperdrive", "delete", "private", "--yes")
	if out, err := try(t, nil, "psql", renewed, "-XAtc", "SELECT 1"); err == nil {
		t.Errorf("a deleted configuration still works: %s", out)
	}
}

// testHyperdriveSDK walks the life of a configuration with Cloudflare's Go SDK.
func testHyperdriveSDK(t *testing.T, n *node, pg *postgresql) {
	c, ctx := sdk(n), t.Context()
	account := cloudflare.F(n.AccountID)
	made, err := c.Hyperdrive.Configs.New(ctx, hyperdrive.ConfigNewParams{AccountID: account, Hyperdrive: hyperdrive.HyperdriveParam{
		Name: cloudflare.F("sdk"),
		Origin: cloudflare.F[hyperdrive.HyperdriveOriginUnionParam](hyperdrive.HyperdriveOriginPublicDatabaseParam{
			Database: cloudflare.F("postgres"), Host: cloudflare.F("127.0.0.1"), Port: cloudflare.F(int64(pg.port)), User: cloudflare.F("owner"),
			Password: cloudflare.F("the origin's secret"), Scheme: cloudflare.F(hyperdrive.HyperdriveOriginPublicDatabaseSchemePostgres),
		}),
		OriginConnectionLimit: cloudflare.F(int64(60)),
	}})
	if err != nil || made.Name != "sdk" || made.OriginConnectionLimit != 60 || made.Origin.Port != int64(pg.port) {
		t.Fatalf("New() = %+v, %v", made, err)
	}
	edited, err := c.Hyperdrive.Configs.Edit(ctx, made.ID, hyperdrive.ConfigEditParams{AccountID: account, Name: cloudflare.F("renamed")})
	if err != nil || edited.Name != "renamed" || edited.Origin.User != "owner" {
		t.Errorf("Edit() = %+v, %v", edited, err)
	}
	got, err := c.Hyperdrive.Configs.Get(ctx, made.ID, hyperdrive.ConfigGetParams{AccountID: account})
	if err != nil || got.Name != "renamed" || got.Caching.MaxAge != 60 {
		t.Errorf("Get() = %+v, %v", got, err)
	}
	page, err := c.Hyperdrive.Configs.List(ctx, hyperdrive.ConfigListParams{AccountID: account})
	if err != nil || len(page.Result) != 1 {
		t.Errorf("List() = %+v, %v", page, err)
	}
	if _, err := c.Hyperdrive.Configs.Delete(ctx, made.ID, hyperdrive.ConfigDeleteParams{AccountID: account}); err != nil {
		t.Errorf("Delete() = %v", err)
	}
}
