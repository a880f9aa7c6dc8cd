package hyperdrive_test

import (
	"testing"

	"selvage/product/hyperdrive"
	"selvage/product/hyperdrive/pgtest"
)

// BenchmarkQuery asks PostgreSQL through the pool, from one client, and from memory.
func BenchmarkQuery(b *testing.B) {
	pg := pgtest.Start(b)
	d := newDesk(b, hyperdrive.Options{})
	for name, caching := range map[string]string{"pool": `"caching":{"disabled":true}`, "memory": `"caching":{"max_age":3600}`} {
		a := d.config(name, pg.Port, caching)
		for mode, dsn := range map[string]string{"simple": "default_query_exec_mode=simple_protocol", "prepared": ""} {
			b.Run(name+"/"+mode, func(b *testing.B) {
				c := a.connect(dsn)
				b.ReportAllocs()
				for b.Loop() {
					one(b, c, "SELECT lower('A') || $1::text", "x")
				}
			})
		}
	}
}
