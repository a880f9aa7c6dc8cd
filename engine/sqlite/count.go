package sqlite

import (
	"slices"
	"strings"

	lib "modernc.org/sqlite/lib"

	"selvage/engine/sqlite/raw"
)

// plan says how to count what a statement read and wrote. workerd counts in a patched SQLite: each row or index entry
// that a cursor comes to is read, each that is put is written. SQLite as it is counts only the steps of its loops, but in
// counters that the program names, so each loop can have its own. How often a cursor was positioned is then worked out
// from the loops around that instruction. This is exact unless a condition inside a loop keeps the program from some of
// the positionings, which are counted all the same, or a trigger, an upsert or a recursion does the work; the test of
// counts says how near it comes.
type plan struct {
	id       uintptr
	loops    []loop
	reads    []step
	writes   []step
	counted  []int // registers that hold the entries an OP_Count found
	perRow   int64 // entries written for each row that is changed: itself and those of its indexes
	virtual  bool  // there is a virtual table, whose rows nothing counts
	triggers bool
}

// loop is instructions that are repeated.
type loop struct {
	from, to int
	around   int   // the loop it is in, -1 if none
	counter  int   // its own; -1 if it has none
	sources  []int // of the loop over a coroutine's rows: the loops that give them, -1 for a single row
	sorted   bool  // over a sorter
}

// step is an instruction that counts.
type step struct {
	in      int  // the innermost loop around it, -1 if none
	guarded bool // an earlier search that finds nothing jumps over it
}

// planOf reads the program of s.
func planOf(s *raw.Stmt) plan {
	ops, id := s.Program()
	p := plan{id: id}
	p.findLoops(ops)
	p.giveCounters(s, ops)
	ephemeral := map[int]bool{}
	for _, o := range ops {
		switch o.Code {
		case lib.OP_OpenEphemeral, lib.OP_OpenAutoindex, lib.OP_OpenDup, lib.OP_OpenPseudo:
			ephemeral[o.P1] = true
		}
	}
	var indexes []step
	skip, guard := 0, 0
	for i, o := range ops {
		at := step{in: p.innermost(i), guarded: i < guard}
		p.triggers = p.triggers || o.Sub
		switch o.Code {
		case lib.OP_FkIfZero:
			skip = max(skip, o.P2) // what follows is for constraints that are violated for now
		case lib.OP_Rewind, lib.OP_Last, lib.OP_SeekGE, lib.OP_SeekGT, lib.OP_SeekLE, lib.OP_SeekLT, lib.OP_SeekRowid, lib.OP_NotExists:
			if i >= skip {
				p.reads = append(p.reads, at)
			}
			if at.in < 0 && o.Code != lib.OP_Last {
				guard = max(guard, o.P2)
			}
		case lib.OP_Count:
			if o.P3 == 0 {
				p.counted = append(p.counted, o.P2)
			}
		case lib.OP_VFilter:
			p.virtual = true
		case lib.OP_VUpdate:
			p.perRow = max(p.perRow, 1)
		case lib.OP_Clear:
			if o.P3 != 0 {
				p.perRow = max(p.perRow, 1)
			}
		case lib.OP_Delete:
			if o.P2&lib.OPFLAG_NCHANGE != 0 {
				p.perRow = max(p.perRow, 1)
			}
		case lib.OP_Insert, lib.OP_IdxInsert:
			switch {
			case ephemeral[o.P1] || o.P5&lib.OPFLAG_ISNOOP != 0:
			case o.P5&lib.OPFLAG_NCHANGE != 0:
				p.perRow = max(p.perRow, 1)
			case o.Code == lib.OP_IdxInsert:
				indexes = append(indexes, at)
			default:
				p.writes = append(p.writes, at)
			}
		}
	}
	if p.perRow > 0 {
		p.perRow += int64(len(indexes))
	} else {
		p.writes = append(p.writes, indexes...)
	}
	return p
}

// planLike is planOf, quicker for an INSERT of values like the one before, of which an import has millions.
func (c *conn) planLike(sql string, s *raw.Stmt) plan {
	head, _, values := strings.Cut(sql, "VALUES")
	if values && head == c.likeText {
		p := c.likePlan
		p.id = s.ProgramID()
		return p
	}
	p := planOf(s)
	c.likeText = ""
	if values && len(p.loops) == 0 && len(head) < 1000 {
		c.likeText, c.likePlan = head, p
	}
	return p
}

func (p *plan) findLoops(ops []raw.Op) {
	for i, o := range ops {
		switch o.Code {
		case lib.OP_Next, lib.OP_Prev, lib.OP_SorterNext, lib.OP_VNext:
			if o.P2 <= i {
				p.loops = append(p.loops, loop{from: o.P2, to: i, around: -1, counter: -1, sorted: o.Code == lib.OP_SorterNext})
			}
		case lib.OP_Goto:
			if o.P2 < i && ops[o.P2].Code == lib.OP_Yield {
				p.loops = append(p.loops, loop{from: o.P2, to: i, around: -1, counter: -1, sources: []int{}})
			}
		}
	}
	for i := range p.loops {
		l := &p.loops[i]
		for j, o := range p.loops {
			if i != j && o.from <= l.from && l.to < o.to && (l.around < 0 || o.to < p.loops[l.around].to) {
				l.around = j
			}
		}
	}
	for i := range p.loops {
		l := &p.loops[i]
		if l.sources == nil {
			continue
		}
		for j, o := range ops[:l.from] {
			if o.Code == lib.OP_Yield && o.P1 == ops[l.from].P1 {
				l.sources = append(l.sources, p.innermost(j))
			}
		}
	}
}

// giveCounters gives as many loops as possible a counter of their own.
func (p *plan) giveCounters(s *raw.Stmt, ops []raw.Op) {
	free := []int{lib.SQLITE_STMTSTATUS_FULLSCAN_STEP, lib.SQLITE_STMTSTATUS_SORT, lib.SQLITE_STMTSTATUS_AUTOINDEX, lib.SQLITE_STMTSTATUS_FILTER_MISS, lib.SQLITE_STMTSTATUS_FILTER_HIT}
	taken := func(n int) { free = slices.DeleteFunc(free, func(f int) bool { return f == n }) }
	for _, o := range ops {
		switch o.Code {
		case lib.OP_Sort, lib.OP_SorterSort:
			taken(lib.SQLITE_STMTSTATUS_SORT)
		case lib.OP_Filter:
			taken(lib.SQLITE_STMTSTATUS_FILTER_MISS)
			taken(lib.SQLITE_STMTSTATUS_FILTER_HIT)
		}
	}
	for i := range p.loops {
		l := &p.loops[i]
		if c := ops[l.to].Code; c != lib.OP_Next && c != lib.OP_Prev && c != lib.OP_SorterNext {
			continue
		}
		if len(free) == 0 {
			s.CountIn(l.to, 0)
			continue
		}
		l.counter, free = free[0], free[1:]
		s.CountIn(l.to, l.counter)
	}
}

func (p *plan) innermost(address int) int {
	best := -1
	for i, l := range p.loops {
		if l.from <= address && address <= l.to && (best < 0 || l.to-l.from < p.loops[best].to-p.loops[best].from) {
			best = i
		}
	}
	return best
}

// counts are what SQLite counted in a run.
type counts [raw.Counters]uint32

// count fills in what the run of p read and wrote, of which rows came out and direct were changed without triggers. The
// statement is not reset yet.
func (p *prepared) count(m *Meta, rows, direct int64) {
	if p.stmt.ProgramID() != p.plan.id {
		p.plan = planOf(p.stmt) // translated anew for a changed schema: exact from the next run on
	}
	c := counts(p.stmt.TakeCounters())
	q := &p.plan
	m.RowsRead = int64(c[0]) + int64(c[lib.SQLITE_STMTSTATUS_FULLSCAN_STEP]) + int64(c[lib.SQLITE_STMTSTATUS_SORT]) + int64(c[lib.SQLITE_STMTSTATUS_AUTOINDEX])
	for _, l := range q.loops {
		if l.counter >= lib.SQLITE_STMTSTATUS_FILTER_MISS {
			m.RowsRead += int64(c[l.counter])
		}
	}
	found := rows > 0 || m.Changes > 0
	for _, s := range q.reads {
		if found || !s.guarded {
			m.RowsRead += q.times(s.in, &c)
		}
	}
	for _, r := range q.counted {
		m.RowsRead += p.stmt.Register(r)
	}
	if q.virtual {
		m.RowsRead += rows
	}
	if p.readOnly {
		return
	}
	m.RowsWritten = q.perRow * direct
	for _, s := range q.writes {
		m.RowsWritten += q.times(s.in, &c)
	}
	if q.triggers {
		m.RowsWritten += m.Changes - direct
	}
}

// times returns how often the inside of a loop ran: once for each step of it and once for each time it was come to.
func (p *plan) times(in int, c *counts) int64 {
	if in < 0 {
		return 1
	}
	l := p.loops[in]
	if l.sources != nil {
		n := int64(0)
		for _, source := range l.sources {
			n += p.times(source, c)
		}
		return n
	}
	if l.sorted && l.counter >= 0 && c[l.counter] == 0 {
		return 0 // rather none than one: an index is made on a new table more often than on one row
	}
	n := p.times(l.around, c)
	if l.counter >= 0 {
		n += int64(c[l.counter])
	}
	return n
}
