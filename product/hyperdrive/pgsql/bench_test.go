package pgsql_test

import (
	"testing"

	"selvage/product/hyperdrive/pgsql"
)

const usual = "SELECT o.id, o.total, c.name FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.status = $1 AND o.total > 100 ORDER BY o.created_at DESC LIMIT 20"

func BenchmarkClassify(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		pgsql.Classify(usual)
	}
}

func BenchmarkReads(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		pgsql.Reads(usual)
	}
}
