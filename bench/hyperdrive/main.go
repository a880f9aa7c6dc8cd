// Command hyperdrive measures pools of connections to PostgreSQL with pgbench: Selvage beside
// PgBouncer in transaction mode and the database alone. bench/hyperdrive/run runs it.
package main

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"selvage/bench/rig"
)

// cpus is where everything runs: client, pool and database share the machine, as they mostly do.
const cpus = "0,1"

const (
	owner    = "owner"
	password = "secret"
	servers  = 20 // connections that pools have to the database
	idleSome = 400
)

func main() {
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "selvage-bench-hyperdrive-")
	if err != nil {
		log.Fatal(err)
	}
	b := &bench{dir: dir, runs: rig.Number("BENCH_RUNS", 3), seconds: rig.Number("BENCH_SECONDS", 5)}
	err = b.run()
	for i := len(b.stop) - 1; i >= 0; i-- {
		b.stop[i]()
	}
	os.RemoveAll(dir)
	if err != nil {
		log.Fatal(err)
	}
}

// bench is one run of this program.
type bench struct {
	dir           string
	runs, seconds int
	stop          []func()
	results       []rig.Result
	median        map[string]float64 // transactions per second, by case and peer
}

// peer is a way to the database.
type peer struct {
	name string
	env  []string
	pid  int // of the pool; 0 if there is none
}

func (b *bench) run() error {
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	direct, err := b.postgres()
	if err != nil {
		return fmt.Errorf("PostgreSQL: %w", err)
	}
	bouncer, err := b.pgbouncer(direct)
	if err != nil {
		return fmt.Errorf("PgBouncer: %w", err)
	}
	node, err := rig.StartNode(cpus, filepath.Join(b.dir, "data"), "--workers-allow", "127.0.0.0/8")
	if err != nil {
		return err
	}
	b.stop = append(b.stop, node.Stop)
	idle := rig.MemoryOf(node.PID()).RSS // without the children that run Workers
	plain, err := b.config(node, direct, "plain", map[string]any{"disabled": true})
	if err != nil {
		return err
	}
	cached, err := b.config(node, direct, "cached", map[string]any{"max_age": 3600})
	if err != nil {
		return err
	}
	b.median = map[string]float64{}
	for _, c := range []string{"1", "50", "400"} {
		if err := b.compare("pgbench -S, "+c+" clients", []peer{direct, bouncer, plain}, "-S", "-c", c); err != nil {
			return err
		}
		// PgBouncer before 1.21 knows no prepared statements in transaction mode.
		if err := b.compare("pgbench -S -M prepared, "+c+" clients", []peer{direct, plain}, "-S", "-M", "prepared", "-c", c); err != nil {
			return err
		}
	}
	if err := b.compare("pgbench -S -C (a connection each), 10 clients", []peer{direct, bouncer, plain}, "-S", "-C", "-c", "10"); err != nil {
		return err
	}
	if err := b.cached(direct, cached); err != nil {
		return err
	}
	if err := b.memory(idle, bouncer, plain); err != nil {
		return err
	}
	b.targets()
	return rig.Save(b.results)
}

// command runs a program of PostgreSQL's server as a user without rights.
func command(dir, name string, args ...string) (*exec.Cmd, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) == 0 {
		return nil, fmt.Errorf("%s is not installed: run make test-setup", name)
	}
	return unprivileged(dir, found[len(found)-1], args...)
}

func unprivileged(dir, path string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	if os.Getuid() != 0 {
		return cmd, nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return cmd, os.Chown(dir, uid, gid)
}

// start starts a server and ends it with the bench.
func (b *bench) start(cmd *exec.Cmd, port int, sig os.Signal) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	b.stop = append(b.stop, func() { cmd.Process.Signal(sig); cmd.Wait() })
	return (&rig.Program{}).AwaitPort("127.0.0.1:" + strconv.Itoa(port))
}

func environment(port int, user, password string) []string {
	return append(os.Environ(), "PGHOST=127.0.0.1", "PGPORT="+strconv.Itoa(port), "PGUSER="+user, "PGPASSWORD="+password, "PGDATABASE=postgres")
}

func (b *bench) postgres() (peer, error) {
	dir := filepath.Join(b.dir, "pg")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return peer{}, err
	}
	secret := filepath.Join(b.dir, "password")
	if err := os.WriteFile(secret, []byte(password), 0o644); err != nil {
		return peer{}, err
	}
	initdb, err := command(dir, "initdb", "-D", dir+"/data", "-U", owner, "--pwfile="+secret, "--auth=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "-N")
	if err != nil {
		return peer{}, err
	}
	if out, err := initdb.CombinedOutput(); err != nil {
		return peer{}, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	port := rig.FreePort()
	cmd, err := command(dir, "postgres", "-D", dir+"/data", "-p", strconv.Itoa(port), "-h", "127.0.0.1", "-k", dir, "-F", "-c", "shared_buffers=256MB", "-c", "max_connections=500")
	if err != nil {
		return peer{}, err
	}
	if err := b.start(cmd, port, syscall.SIGINT); err != nil {
		return peer{}, err
	}
	p := peer{name: "PostgreSQL", env: environment(port, owner, password)}
	_, err = pgbench(p.env, "-i", "-q", "-s", strconv.Itoa(rig.Number("BENCH_SCALE", 10)))
	return p, err
}

func (b *bench) pgbouncer(direct peer) (peer, error) {
	dir, port := filepath.Join(b.dir, "bouncer"), rig.FreePort()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return peer{}, err
	}
	config := fmt.Sprintf(`[databases]
postgres = host=127.0.0.1 %s dbname=postgres user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s/users
pool_mode = transaction
default_pool_size = %d
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
`, strings.Replace(value(direct.env, "PGPORT"), "PGPORT", "port", 1), owner, password, port, dir, servers)
	for name, text := range map[string]string{"users": fmt.Sprintf("%q %q\n", owner, password), "ini": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return peer{}, err
		}
	}
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		return peer{}, fmt.Errorf("run make test-setup: %w", err)
	}
	cmd, err := unprivileged(dir, path, dir+"/ini")
	if err != nil {
		return peer{}, err
	}
	if err := b.start(cmd, port, syscall.SIGTERM); err != nil {
		return peer{}, err
	}
	return peer{"PgBouncer", environment(port, owner, password), cmd.Process.Pid}, nil
}

// value returns the last NAME=value of env.
func value(env []string, name string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if strings.HasPrefix(env[i], name+"=") {
			return env[i]
		}
	}
	return ""
}

func (b *bench) config(n *rig.Node, direct peer, name string, caching map[string]any) (peer, error) {
	port, _ := strconv.Atoi(strings.TrimPrefix(value(direct.env, "PGPORT"), "PGPORT="))
	made, err := n.Call("POST", "/accounts/"+n.AccountID+"/hyperdrive/configs", map[string]any{
		"name": name, "caching": caching, "origin_connection_limit": servers, "mtls": map[string]any{"sslmode": "disable"},
		"origin": map[string]any{"scheme": "postgres", "host": "127.0.0.1", "port": port, "database": "postgres", "user": owner, "password": password},
	})
	if err != nil {
		return peer{}, err
	}
	id := made["id"].(string)
	login, err := n.Call("GET", "/accounts/"+n.AccountID+"/selvage/hyperdrive/configs/"+id+"/credentials", nil)
	if err != nil {
		return peer{}, err
	}
	own, err := strconv.Atoi(n.HyperdrivePostgres[strings.LastIndexByte(n.HyperdrivePostgres, ':')+1:])
	if err != nil {
		return peer{}, err
	}
	return peer{"Selvage", environment(own, id, login["password"].(string)), n.PID()}, nil
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

// pgbench returns transactions per second; none of them may fail.
func pgbench(env []string, args ...string) (float64, error) {
	cmd := exec.Command("taskset", append([]string{"-c", cpus, "pgbench"}, args...)...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench %v: %w\n%s", args, err, out)
	}
	if strings.Contains(string(out), "number of failed transactions") && !strings.Contains(string(out), "number of failed transactions: 0 ") {
		return 0, fmt.Errorf("pgbench %v: transactions failed\n%s", args, out)
	}
	m := tps.FindSubmatch(out)
	if m == nil {
		return 0, nil
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// compare runs one load with all peers in turn, several times.
func (b *bench) compare(name string, peers []peer, args ...string) error {
	all := map[string][]map[string]float64{}
	for range b.runs {
		for _, p := range peers {
			before := rig.CPU(p.pid)
			got, err := pgbench(p.env, append(args, "-n", "-j", "2", "-T", strconv.Itoa(b.seconds))...)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", name, p.name, err)
			}
			values := map[string]float64{"transactions/s": got}
			if p.pid != 0 && got > 0 {
				values["CPU us"] = float64((rig.CPU(p.pid) - before).Microseconds()) / (got * float64(b.seconds))
			}
			all[p.name] = append(all[p.name], values)
		}
	}
	for _, p := range peers {
		r := rig.Result{Bench: "hyperdrive", Case: name, Peer: p.name, Values: rig.Median(all[p.name]), Runs: b.runs}
		b.median[name+"/"+p.name] = r.Values["transactions/s"]
		b.add(r)
	}
	return nil
}

func (b *bench) add(r rig.Result) {
	line := fmt.Sprintf("%-48s %-12s", r.Case, r.Peer)
	for _, name := range rig.Keys(r.Values) {
		line += fmt.Sprintf("  %s %.5g", name, r.Values[name])
	}
	log.Print(line)
	b.results = append(b.results, r)
}

// cachedCase is a query that costs the database something, as those do that are worth remembering.
const cachedCase = "100 queries again and again, 50 clients"

func (b *bench) cached(direct, cached peer) error {
	script := filepath.Join(b.dir, "cached.sql")
	if err := os.WriteFile(script, []byte("\\set aid random(1, 100)\nSELECT abalance, bid FROM pgbench_accounts WHERE aid = :aid;\n"), 0o644); err != nil {
		return err
	}
	return b.compare(cachedCase, []peer{direct, cached}, "-f", script, "-c", "50")
}

// memory measures what clients that are connected add to a pool.
func (b *bench) memory(idle int64, bouncer, plain peer) error {
	for _, p := range []peer{bouncer, plain} {
		var most int64
		done := make(chan error, 1)
		go func() {
			_, err := pgbench(p.env, "-S", "-n", "-j", "2", "-c", strconv.Itoa(idleSome), "-T", strconv.Itoa(b.seconds))
			done <- err
		}()
		for running := true; running; {
			select {
			case err := <-done:
				if err != nil {
					return err
				}
				running = false
			case <-time.After(200 * time.Millisecond):
				most = max(most, rig.MemoryOf(p.pid).RSS)
			}
		}
		values := map[string]float64{"RSS MB": float64(most) / (1 << 20)}
		if p.name == plain.name {
			values["above idle MB"] = float64(most-idle) / (1 << 20)
		}
		b.add(rig.Result{Bench: "hyperdrive", Case: fmt.Sprintf("memory, %d clients", idleSome), Peer: p.name, Values: values, Runs: 1})
	}
	return nil
}

// targets says how Selvage does beside the others.
func (b *bench) targets() {
	for _, t := range []struct {
		name, peer string
		limit      float64
	}{{"pgbench -S, 1 clients", "PgBouncer", 0.8}, {"pgbench -S, 50 clients", "PgBouncer", 1}, {"pgbench -S, 400 clients", "PgBouncer", 1}, {cachedCase, "PostgreSQL", 3}} {
		theirs := b.median[t.name+"/"+t.peer]
		if theirs == 0 { // in so short a run 400 clients are not even connected
			continue
		}
		ratio := b.median[t.name+"/Selvage"] / theirs
		b.add(rig.Result{Bench: "hyperdrive targets", Case: t.name + ", of " + t.peer, Peer: "Selvage", Values: map[string]float64{"measured": ratio, "limit": t.limit}, Runs: b.runs})
	}
}
