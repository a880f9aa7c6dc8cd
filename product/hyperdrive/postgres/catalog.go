package postgres

import (
	"context"
	"sync"
	"time"

	"selvage/product/hyperdrive/pgsql"
	"selvage/product/hyperdrive/pool"
)

// catalog is what an upstream's own catalogue says may be remembered: functions all of which by that
// name are immutable, and plain tables without row security.
type catalog struct {
	mu     sync.Mutex // guards the fields below; held while the catalogue is read
	at     time.Time
	loaded bool
	safe   map[string]bool // "f" + name of a function, "r" + name of a relation
}

// Bounds of the catalogue.
const (
	catalogAge  = time.Minute
	catalogSize = 100_000
)

// catalogSQL leaves out what is not safe: names in several schemas count as one.
const catalogSQL = `SELECT 'f' || proname FROM pg_catalog.pg_proc GROUP BY proname HAVING bool_and(provolatile = 'i')
UNION ALL SELECT 'r' || relname FROM pg_catalog.pg_class WHERE relkind NOT IN ('i', 'I', 'S', 't', 'c') GROUP BY relname
HAVING bool_and(relkind IN ('r', 'p', 'm') AND NOT relrowsecurity AND relpersistence <> 't') LIMIT 100000`

// cacheable tells whether answers to a query depend on nothing but tables.
func (u *Upstream) cacheable(ctx context.Context, query string) bool {
	r, ok := pgsql.Reads(query)
	if !ok {
		return false
	}
	c := &u.catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) > catalogAge {
		c.at = time.Now()
		if safe, err := u.load(ctx); err == nil {
			c.safe, c.loaded = safe, true
		} else {
			c.loaded = false
		}
	}
	if !c.loaded {
		return false
	}
	for _, f := range r.Functions {
		if !c.safe["f"+f] {
			return false
		}
	}
	for _, name := range r.Relations {
		if !c.safe["r"+name] {
			return false
		}
	}
	return true
}

func (u *Upstream) load(ctx context.Context) (map[string]bool, error) {
	l, err := u.pool.Get(ctx, pool.NewWaiter("catalogue"))
	if err != nil {
		return nil, err
	}
	srv := l.Conn.(*server)
	safe := map[string]bool{}
	if err = srv.ready(u, noSettings); err == nil {
		err = srv.ask(catalogSQL, func(name string) {
			if len(safe) < catalogSize {
				safe[name] = true
			}
		})
	}
	u.pool.Put(l, err == nil)
	return safe, err
}
