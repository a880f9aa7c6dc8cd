package hyperdrive_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"selvage/product/hyperdrive"
	"selvage/product/hyperdrive/pgtest"
)

// TestMixed has many clients do all that clients do, over few connections: each gets its own answers,
// sees its own settings, and is not disturbed by those that err, cancel or vanish.
func TestMixed(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{Wait: time.Minute})
	a := d.config("one", pg.Port, `"origin_connection_limit":5`)
	setup := a.connect("")
	run(t, setup, "CREATE TABLE heap (who text, body text)")
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			m := &mixer{t: t, a: a, who: fmt.Sprint("client ", i), random: rand.New(rand.NewPCG(1, uint64(i)))}
			for n := range 25 {
				if !m.step(n) {
					return
				}
			}
			if m.c != nil {
				m.c.Close(context.Background())
			}
		})
	}
	all.Wait()
	if s := a.stats(); s.Connections > 5 || s.Waiting != 0 {
		t.Errorf("in the end: %+v", s)
	}
}

// mixer is one client of TestMixed.
type mixer struct {
	t      *testing.T
	a      *account
	who    string
	random *rand.Rand
	c      *pgx.Conn
}

// step does one thing at random; false if the test is over.
func (m *mixer) step(n int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if m.c == nil || m.c.IsClosed() {
		c, err := pgx.Connect(ctx, m.a.dsn([]string{"", "default_query_exec_mode=simple_protocol", "default_query_exec_mode=exec"}[m.random.IntN(3)]))
		if err == nil {
			_, err = c.Exec(ctx, "SET my.who = '"+m.who+"'")
		}
		if err != nil {
			m.t.Errorf("%s: connect: %v", m.who, err)
			return false
		}
		m.c = c
	}
	mine := fmt.Sprintf("%s at %d", m.who, n)
	var err error
	var got string
	switch what := m.random.IntN(8); what {
	case 0, 1:
		got, err = ask(m.c, "SELECT $1::text", mine)
	case 2:
		got, err = ask(m.c, "SELECT current_setting('my.who') || $1::text", strings.TrimPrefix(mine, m.who))
	case 3:
		got, err = m.transaction(ctx, mine)
	case 4:
		got, err = m.batch(ctx, mine)
	case 5:
		_, err = m.c.CopyFrom(ctx, pgx.Identifier{"heap"}, []string{"who", "body"}, pgx.CopyFromSlice(50, func(int) ([]any, error) { return []any{mine, strings.Repeat("b", 500)}, nil }))
		if err == nil {
			got, err = ask(m.c, "SELECT min(who) || CASE count(*) WHEN 50 THEN '' ELSE '?' END FROM heap WHERE who = $1 AND random() >= 0", mine)
		}
	case 6:
		short, cancel := context.WithTimeout(ctx, time.Duration(m.random.IntN(30))*time.Millisecond)
		_, _ = m.c.Exec(short, "SELECT pg_sleep(30)") // pgx cancels, and hangs up
		cancel()
		return true
	case 7:
		if m.random.IntN(4) == 0 {
			_, _ = m.c.Exec(ctx, "BEGIN")
			m.c.PgConn().Conn().Close()
			m.c = nil
			return true
		}
		if _, err = m.c.Exec(ctx, "SELECT 1/0"); err == nil || !strings.Contains(err.Error(), "22012") {
			m.t.Errorf("%s: 1/0 gives %v", m.who, err)
		}
		return true
	}
	if err != nil || got != mine {
		m.t.Errorf("%s got %q, %v; want %q", m.who, got, err, mine)
		return err == nil
	}
	return true
}

func (m *mixer) transaction(ctx context.Context, mine string) (got string, err error) {
	tx, err := m.c.Begin(ctx)
	if err != nil {
		return "", err
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, "SELECT set_config('my.now', $1, true)", mine); err != nil {
		return "", err
	}
	if err := tx.QueryRow(ctx, "SELECT current_setting('my.now')").Scan(&got); err != nil {
		return "", err
	}
	return got, tx.Commit(ctx)
}

func (m *mixer) batch(ctx context.Context, mine string) (string, error) {
	b := &pgx.Batch{}
	for i := range 60 {
		b.Queue("SELECT $1::text || $2::int", mine, i)
	}
	res := m.c.SendBatch(ctx, b)
	for i := range 60 {
		var got string
		if err := res.QueryRow().Scan(&got); err != nil {
			return "", err
		}
		if got != mine+fmt.Sprint(i) {
			return got, nil
		}
	}
	return mine, res.Close()
}
