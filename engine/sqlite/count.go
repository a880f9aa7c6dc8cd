package sqlite

import "selvage/engine/sqlite/raw"

// plan is what is known of a statement's program for counting rows.
type plan struct{}

func planOf(*raw.Stmt) plan { return plan{} }

func (plan) arm(*raw.Stmt) {}

func (p *prepared) count(m *Meta, rows int64) {
	m.RowsRead = rows
	m.RowsWritten = m.Changes
}
