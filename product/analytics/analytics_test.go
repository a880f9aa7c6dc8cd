package analytics_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"selvage/engine/isolate"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/analytics"
	"selvage/product/producttest"
	"selvage/spec"
)

const account = "0123456789abcdef0123456789abcdef"

// lab is a running Analytics with a clock of its own.
type lab struct {
	t    testing.TB
	a    *analytics.Analytics
	now  atomic.Int64 // unix seconds
	stop func()
}

func newLab(t testing.TB, o analytics.Options) *lab {
	t.Helper()
	l := &lab{t: t}
	l.now.Store(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC).Unix())
	o.Clock = clock.Fixed(func() time.Time { return time.Unix(l.now.Load(), 0) })
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	var err error
	if l.a, err = analytics.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.a.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(l.stop)
	return l
}

// sink is a binding's socket, without a runtime.
type sink struct {
	t    testing.TB
	conn *http.Client
}

func (l *lab) sink(accountID, dataset string) *sink {
	return &sink{l.t, producttest.Bind(l.t, l.a, product.BindingUser{AccountID: accountID}, &spec.WorkerBinding{Type: "analytics_engine", Dataset: dataset})}
}

// write writes a point as the runtime does.
func (s *sink) write(index string, blobs []string, doubles ...any) {
	s.t.Helper()
	p := map[string]any{"accountId": "7", "dataset": []int{120}, "index1": numbers(index), "timestamp": "1"}
	for i, b := range blobs {
		p[fmt.Sprintf("blob%d", i+1)] = numbers(b)
	}
	for i, d := range doubles {
		p[fmt.Sprintf("double%d", i+1)] = d
	}
	body, err := json.Marshal(p)
	if err != nil {
		s.t.Fatal(err)
	}
	s.post(string(body))
}

func (s *sink) post(body string) {
	s.t.Helper()
	res, err := s.conn.Post("http://fake-host/", "", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		s.t.Errorf("the runtime is told %s", res.Status)
	}
}

func numbers(s string) []int {
	out := make([]int, len(s))
	for i := range len(s) {
		out[i] = int(s[i])
	}
	return out
}

// ask runs a query by the API.
func (l *lab) ask(accountID, query string) (string, error) {
	l.t.Helper()
	for _, r := range l.a.Routes() {
		if r.Method != "POST" {
			continue
		}
		reply, err := r.Handle(context.Background(), &product.Call{Account: &spec.Account{ID: accountID}, Body: strings.NewReader(query)})
		if err != nil {
			return "", err
		}
		var b bytes.Buffer
		err = reply.Raw.Write(context.Background(), &b)
		return b.String(), err
	}
	l.t.Fatal("no route")
	return "", nil
}

// rows checks what a query answers, tab-separated, waiting for points on their way.
func (l *lab) rows(query, want string) {
	l.t.Helper()
	var got string
	var err error
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got, err = l.ask(account, query+" FORMAT TabSeparated"); err == nil && got == want {
			return
		}
		if err != nil && !strings.Contains(err.Error(), "no dataset") && fault.KindOf(err) != fault.Unavailable {
			break
		}
	}
	l.t.Errorf("%s\n got %q, %v\nwant %q", query, got, err, want)
}

func TestContract(t *testing.T) {
	producttest.Run(t, func(t *testing.T) product.Product {
		a, err := analytics.New(analytics.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		return a
	})
}

func TestQueries(t *testing.T) {
	l := newLab(t, analytics.Options{})
	s := l.sink(account, "weather")
	s.write("a", []string{"Berlin", "it's"}, 1.5, 10)
	s.write("b", []string{"Paris", "2026-01-01"}, 2, 20)
	s.write("a", []string{"Berlin", "50%"}, 4, "NaN")
	l.rows("SELECT count() FROM weather", "3\n")
	for _, c := range [][2]string{
		{"SELECT blob1 AS city, SUM(_sample_interval * double1) / SUM(_sample_interval) AS mean FROM weather GROUP BY city ORDER BY city", "Berlin\t2.75\nParis\t2\n"},
		{"SELECT dataset, timestamp, index1, _sample_interval, blob1, blob20, double1, double20 FROM weather WHERE index1 = 'b'", "weather\t2026-03-04 05:06:07\tb\t1\tParis\t\t2\t0\n"},
		{"SELECT count() AS n FROM weather WHERE timestamp > NOW() - INTERVAL '1' DAY", "3\n"},
		{"SELECT count() FROM weather WHERE timestamp > now() + INTERVAL '1' SECOND", "0\n"},
		{"SELECT count() FROM weather WHERE timestamp >= toDateTime('2026-03-04 05:06:07') AND timestamp <= toDateTime(1772600767)", "3\n"},
		{"SELECT now() - INTERVAL '1' MONTH - INTERVAL '2' HOUR, today(), toUnixTimestamp(now())", "2026-02-04 03:06:07\t2026-03-04 00:00:00\t1772600767\n"},
		{"SELECT intDiv(toUInt32(timestamp), 300) * 300 AS t, count() FROM weather GROUP BY t", "1772600700\t3\n"},
		{"SELECT toStartOfInterval(timestamp, INTERVAL '15' MINUTE) AS t, count() FROM weather GROUP BY t", "2026-03-04 05:00:00\t3\n"},
		{"SELECT toStartOfInterval(timestamp, INTERVAL '1' DAY, 'America/New_York') FROM weather LIMIT 1", "2026-03-04 00:00:00\n"},
		{"SELECT toStartOfHour(now()), toStartOfWeek(now()), toStartOfMonth(now()), toYear(now()), toDayOfWeek(now()), toYYYYMM(now())", "2026-03-04 05:00:00\t2026-03-02 00:00:00\t2026-03-01 00:00:00\t2026\t3\t202603\n"},
		{"SELECT formatDateTime(now(), '%Y/%m/%d %H:%M'), toDateTime('2026-03-04 05:06:07', 'Asia/Tokyo')", "2026/03/04 05:06\t2026-03-04 14:06:07\n"},
		{"SELECT quantileExactWeighted(0.5)(double1, _sample_interval), quantileWeighted(0.9, double1, _sample_interval) FROM weather", "2\t4\n"},
		{"SELECT topK(1)(blob1), argMax(blob1, double1), argMin(blob1, double1) FROM weather", "[\"Berlin\"]\tBerlin\tBerlin\n"},
		{"SELECT sumIf(double1, blob1 = 'Berlin'), countIf(double1 > 1.5), avgIf(double1, index1 = 'a') FROM weather", "5.5\t2\t2.75\n"},
		{"SELECT length(blob1) FROM weather WHERE blob1 LIKE 'P!%' ESCAPE '!' OR (blob1 LIKE 'P%')", "5\n"},
		{"SELECT count(DISTINCT blob1), uniq FROM (SELECT blob1, 1 AS uniq FROM weather)", "2\t1\n"},
		{"SELECT if(double1 > 3, 'warm', 'cold') AS w, count() FROM weather GROUP BY w HAVING count() > 1 ORDER BY w", "cold\t2\n"},
		{"SELECT blob2 FROM weather WHERE blob2 LIKE '%''s' OR blob2 = '50%' ORDER BY double1", "it's\n50%\n"},
		{"SELECT count() FROM weather WHERE blob1 LIKE 'berlin'", "0\n"},
		{"SELECT count() FROM weather WHERE blob1 ILIKE 'ber%N'", "2\n"},
		{"SELECT count() FROM weather WHERE blob1 NOT ILIKE '_ER%'", "1\n"},
		{"SELECT `blob1` FROM \"weather\" WHERE index1 IN ('b') -- a comment\n", "Paris\n"},
		{"SELECT length(blob1), empty(blob3), upper(blob1), startsWith(blob1, 'Pa'), position(blob1, 'ri'), substring(blob1, 2, 3), format('{}-{1}', blob1, index1) FROM weather WHERE blob1 = 'Paris'", "5\t1\tPARIS\t1\t3\tari\tParis-b\n"},
		{"SELECT 7 / 2, intDiv(7, 2), 7 % 4, pow(2, 3), least(1, 2), greatest(1, 2.5), bitAnd(6, 3), bitCount(7), round(2.567, 1)", "3.5\t3\t3\t8\t1\t2.5\t2\t3\t2.6\n"},
		{"SELECT 'tab\\there', 'it\\'s', \"weather\".blob1 FROM weather LIMIT 1 OFFSET 2", "tab\\there\tit's\tBerlin\n"},
		{"SHOW TABLES", "weather\tregular\n"},
	} {
		l.rows(c[0], c[1])
	}
}

func TestFormats(t *testing.T) {
	l := newLab(t, analytics.Options{})
	s := l.sink(account, "d")
	s.write("", []string{"x\ty"}, 1.5)
	l.rows("SELECT count() FROM d", "1\n")
	for query, want := range map[string]string{
		"SELECT blob1, double1, count() AS n, timestamp, max(timestamp) AS m, _sample_interval FROM d": `{"meta":[{"name":"blob1","type":"String"},{"name":"double1","type":"Float64"},{"name":"n","type":"UInt64"},{"name":"timestamp","type":"DateTime"},{"name":"m","type":"DateTime"},{"name":"_sample_interval","type":"UInt32"}],` +
			`"data":[{"blob1":"x\ty","double1":1.5,"n":"1","timestamp":"2026-03-04 05:06:07","m":"2026-03-04 05:06:07","_sample_interval":1}],"rows":1,"rows_before_limit_at_least":1}` + "\n",
		"SELECT blob1 FROM d WHERE blob1 = 'none'":                   `{"meta":[{"name":"blob1","type":"String"}],"data":[],"rows":0,"rows_before_limit_at_least":0}` + "\n",
		"SELECT count(), sum(double1 * 2) FROM d FORMAT JSONEachRow": `{"count()":"1","sum(double1 * 2)":3}` + "\n",
		"SELECT topK(2)(blob1) AS top, -1 AS n FROM d FORMAT JSON;":  `{"meta":[{"name":"top","type":"Array(String)"},{"name":"n","type":"Int64"}],"data":[{"top":["x\ty"],"n":"-1"}],"rows":1,"rows_before_limit_at_least":1}` + "\n",
		"SELECT blob1, NULL AS no FROM d format jsoneachrow":         `{"blob1":"x\ty","no":null}` + "\n",
		"SELECT blob1, NULL FROM d FORMAT TabSeparated":              "x\\ty\t\\N\n",
	} {
		if got, err := l.ask(account, query); got != want || err != nil {
			t.Errorf("%s\n got %s, %v\nwant %s", query, got, err, want)
		}
	}
}

func TestNobodySeesOthersNorChangesAnything(t *testing.T) {
	l := newLab(t, analytics.Options{})
	other := strings.Repeat("f", 32)
	l.sink(account, "mine").write("", nil, 1)
	l.sink(other, "theirs").write("", nil, 1)
	l.rows("SELECT count() FROM mine", "1\n")
	for _, query := range []string{
		"SELECT * FROM theirs",
		"DELETE FROM mine", "SELECT 1; DELETE FROM mine", "SELECT 1;;SELECT 2", "INSERT INTO mine VALUES (1)", "ATTACH 'x' AS y", "PRAGMA query_only = 0", "VACUUM INTO 'x'", "DROP TABLE mine", "WITH x AS (SELECT 1) SELECT * FROM x",
		"SELECT * FROM sqlite_schema", "SELECT * FROM sqlite_master", "SELECT * FROM pragma_database_list", "SELECT * FROM pragma_table_info('mine')", "SELECT load_extension('x')", "SELECT * FROM (WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r)",
		"", ";", "SELECT", "SELECT FROM", "SELECT 'x", "SELECT /* x", "SELECT nothing() FROM mine", "SELECT 1 FORMAT XML", "SELECT now() - INTERVAL '1' EON", "SELECT 1 - INTERVAL", "SELECT INTERVAL 'x' DAY + now()", "SELECT - INTERVAL '1' DAY", "SELECT zeroblob(1000000000)", "SELECT #", "SELECT $1 \x00", "SHOW GRANTS",
		"SELECT " + strings.Repeat("-", 100) + strings.Repeat("- ", 500) + "1", "SELECT " + strings.Repeat("- ", 500) + "1", strings.Repeat("x", 1<<20),
	} {
		got, err := l.ask(account, query)
		if err == nil && query != "SELECT INTERVAL 'x' DAY + now()" {
			t.Errorf("%.80q = %q, want an error", query, got)
		}
		if err != nil && fault.KindOf(err) == fault.Internal {
			t.Errorf("%.80q = %v, which has no kind", query, err)
		}
	}
	l.rows("SELECT count() FROM mine", "1\n")
}

func TestEndlessQueriesEnd(t *testing.T) {
	l := newLab(t, analytics.Options{Timeout: 300 * time.Millisecond})
	s := l.sink(account, "d")
	for range 200 {
		s.write("", []string{"x"}, 1)
	}
	l.rows("SELECT count() FROM d", "200\n")
	began := time.Now()
	_, err := l.ask(account, "SELECT count() FROM d AS a, d AS b, d AS c, d AS e WHERE a.double1 + b.double1 + c.double1 + e.double1 = 5")
	if fault.KindOf(err) != fault.TooMuch || time.Since(began) > 5*time.Second {
		t.Errorf("endless query: %v after %s", err, time.Since(began))
	}
	if _, err := l.ask(account, "SELECT a.blob1 FROM d AS a, d AS b, d AS c"); fault.KindOf(err) != fault.TooMuch {
		t.Errorf("endless answer: %v", err)
	}
}

func TestBadPointsAreCountedAndHarmNothing(t *testing.T) {
	l := newLab(t, analytics.Options{})
	s := l.sink(account, "d")
	for _, body := range []string{"", "x", "{", `{"index1":"text"}`, `{"index1":[256]}`, `{"blob1":[-1]}`, `{"double1":{}`, `{"blob1":[` + strings.Repeat("97,", 60_000) + `97]}`, "[]"} {
		s.post(body)
	}
	l.sink(account, "sqlite_x").write("", nil, 1)
	l.sink("../../etc", "d").write("", nil, 1)
	s.write("\xff", []string{"\xff\xfe"}, 1)
	l.rows("SELECT index1, blob1, count() FROM d", "\uFFFD\t\uFFFD\t1\n")
}

func TestPointsAreKeptOverRestartsAndForgottenInTime(t *testing.T) {
	dir := t.TempDir()
	l := newLab(t, analytics.Options{Dir: dir})
	l.sink(account, "d").write("old", nil, 1)
	l.stop() // writes what has come
	l = newLab(t, analytics.Options{Dir: dir})
	l.rows("SELECT index1 FROM d", "old\n")
	l.now.Add(89 * 86400)
	l.sink(account, "d").write("new", nil, 1)
	l.rows("SELECT count() FROM d", "2\n")
	l.stop()

	next := &lab{t: t}
	next.now.Store(l.now.Load() + 2*86400)
	a, err := analytics.New(analytics.Options{Dir: dir, Clock: clock.Fixed(func() time.Time { return time.Unix(next.now.Load(), 0) })})
	if err != nil {
		t.Fatal(err)
	}
	next.a = a
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	next.rows("SELECT index1 FROM d", "new\n")
	// The account is deleted: with the next start its points go.
	cancel()
	<-done
	change, err := a.Prepare(t.Context(), producttest.Snapshot(1))
	if err != nil {
		t.Fatal(err)
	}
	change.Commit()
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	a.Run(ctx)
	ctx, cancel = context.WithCancel(t.Context())
	go func() { done <- a.Run(ctx) }()
	next.rows("SHOW TABLES", "")
	cancel()
	<-done
}

func TestFullSpaceDropsPoints(t *testing.T) {
	l := newLab(t, analytics.Options{MaxBytes: 256 << 10})
	s := l.sink(account, "d")
	for range 100 {
		s.write("", []string{strings.Repeat("x", 12_000)}, 1)
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got, err := l.ask(account, "SELECT count() FROM d FORMAT TabSeparated"); err == nil && got != "0\n" {
			break
		}
	}
	l.sink(strings.Repeat("e", 32), "d").write("", nil, 1) // others go on
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if got, _ := l.ask(strings.Repeat("e", 32), "SELECT count() FROM d FORMAT TabSeparated"); got == "1\n" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("another account's points are not kept")
		}
	}
}

func TestBinding(t *testing.T) {
	l := newLab(t, analytics.Options{})
	b := l.a.Bindings()[0]
	if b.Type != "analytics_engine" || b.Kind != isolate.Analytics {
		t.Errorf("binding type %+v", b)
	}
	for name, ok := range map[string]bool{"good": true, "Good_1-x": true, "": false, "1x": false, "sqlite_x": false, "a b": false, "x\"y": false, strings.Repeat("x", 101): false} {
		if err := b.Check(t.Context(), account, &spec.WorkerBinding{Dataset: name}); (err == nil) != ok {
			t.Errorf("Check(%q) = %v", name, err)
		}
	}
}

// The real runtime writes points through its own client.
func TestRuntimeWritesPoints(t *testing.T) {
	l := newLab(t, analytics.Options{})
	runtime, err := isolate.FindRuntime(os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "an")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := fmt.Sprintf(`using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "internet", network = (allow = [])),
    (name = "points", external = (address = "unix:%s", http = (style = proxy, cfBlobHeader = %q))),
    (name = "main", worker = (modules = [(name = "main.js", esModule = embed "main.js")], compatibilityDate = "2026-08-01", bindings = [(name = "AE", analyticsEngine = "points")]))],
  sockets = [(name = "http", address = "unix:%s/http", http = (style = proxy), service = "main")]);
`, producttest.BindSocket(l.t, l.a, product.BindingUser{AccountID: account}, &spec.WorkerBinding{Type: "analytics_engine", Dataset: "visits"}), isolate.CFHeader, dir)
	source := `export default { fetch(req, env) {
  try {
    env.AE.writeDataPoint(JSON.parse(new URL(req.url).searchParams.get("p"), (k, v) => v === "bytes" ? new Uint8Array([104, 105]) : v));
    return new Response("ok");
  } catch (e) { return new Response(e.message); }
} }`
	for name, text := range map[string]string{"c.capnp": config, "main.js": source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(runtime, "serve", "--experimental", filepath.Join(dir, "c.capnp"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	proxy, _ := url.Parse("http://proxy.test")
	tr := &http.Transport{Proxy: http.ProxyURL(proxy), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		for {
			c, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "http"))
			if err == nil || ctx.Err() != nil {
				return c, err
			}
			time.Sleep(5 * time.Millisecond)
		}
	}}
	t.Cleanup(tr.CloseIdleConnections)
	client := &http.Client{Transport: tr, Timeout: 20 * time.Second}
	write := func(p, want string) {
		t.Helper()
		res, err := client.Get("http://script.test/?p=" + url.QueryEscape(p))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if got, _ := io.ReadAll(res.Body); !strings.HasPrefix(string(got), want) {
			t.Errorf("%s: script says %q, want %q", p, got, want)
		}
	}
	write(`{"indexes":["i"],"blobs":["Gr\u00fc\u00dfe","bytes",null],"doubles":[1.25,-3,1e300]}`, "ok")
	write(`{}`, "ok")
	l.rows("SELECT index1, blob1, blob2, blob3, double1, double2, double3 FROM visits ORDER BY double1 DESC", "i\tGrüße\thi\t\t1.25\t-3\t1e+300\n\t\t\t\t0\t0\t0\n")
}

func BenchmarkPoint(b *testing.B) {
	l := newLab(b, analytics.Options{})
	s := l.sink(account, "d")
	b.ReportAllocs()
	for b.Loop() {
		s.write("index", []string{"a blob", "another"}, 1, 2, 3)
	}
}
