package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startMariaDB runs a server until the test ends and returns its port; the user app has the password "the
// origin's secret" and the database app.
func startMariaDB(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "my")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	options := []string{"--no-defaults", "--datadir=" + filepath.Join(dir, "data")}
	if os.Getuid() == 0 {
		options = append(options, "--user=root")
	}
	if out, err := exec.Command("mariadb-install-db", append(options, "--auth-root-authentication-method=normal", "--skip-test-db")...).CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	port, socket := freePort(t), filepath.Join(dir, "s")
	server := exec.Command("mariadbd", append(options, "--socket="+socket, "--bind-address=127.0.0.1", "--port="+port)...)
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait() })
	setup := "CREATE DATABASE app; CREATE USER app IDENTIFIED BY 'the origin''s secret'; GRANT ALL ON app.* TO app"
	within(t, time.Minute, "the start of MariaDB", func() bool {
		return exec.Command("mariadb", "--no-defaults", "-S", socket, "-uroot", "-e", setup).Run() == nil
	})
	return port
}

// TestHyperdriveMySQL has a Worker use npm's mysql2, and mariadb's own client the private port.
func TestHyperdriveMySQL(t *testing.T) {
	port := startMariaDB(t)
	n := startNode(t, "--workers-allow", "127.0.0.0/8")
	p := newProject(t, n, wranglers[0].folder, "hyperdrive-mysql", "hd-mysql")
	out := p.wrangler(t, "hyperdrive", "create", p.name, "--connection-string", fmt.Sprintf("mysql://app:the%%20origin's%%20secret@127.0.0.1:%s/app", port))
	id := configID.FindString(out)
	if id == "" {
		t.Fatalf("wrangler hyperdrive create shows no ID:\n%s", out)
	}
	p.rewrite(t, "wrangler.jsonc", "CONFIG_ID", id)
	p.wrangler(t, "deploy")
	for path, want := range map[string]string{
		"/query": `[{"who":"mysql2","sum":42}]`, "/prepared": `[2,4,6]`, "/transaction": `[1,["kept"]]`, "/error": `["ER_NO_SUCH_TABLE",1]`, "/large": "3000000",
	} {
		p.expect(t, path, want)
	}
	dsn := strings.TrimSpace(run(t, nil, os.Getenv("SELVAGE_BIN"), "hyperdrive", "url", p.name, "--data", n.dir))
	rest, ok := strings.CutPrefix(dsn, "mysql://")
	login, at, _ := strings.Cut(rest, "@")
	user, password, _ := strings.Cut(login, ":")
	host, _, _ := strings.Cut(at, "/")
	host, port, _ = strings.Cut(host, ":")
	if !ok || host == "" {
		t.Fatalf("selvage hyperdrive url says %q", dsn)
	}
	got := run(t, nil, "mariadb", "--no-defaults", "-h", host, "-P", port, "-u", user, "-p"+password, "-N", "-e", "SELECT page FROM visits; SELECT 6 * 7")
	if got != "kept\n42\n" {
		t.Errorf("mariadb's client says %q", got)
	}
}
