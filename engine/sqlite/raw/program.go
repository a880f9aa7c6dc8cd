package raw

import (
	"unsafe"

	lib "modernc.org/sqlite/lib"
)

// Op is an instruction of a statement's program, https://www.sqlite.org/opcode.html.
type Op struct {
	Code       int
	P1, P2, P3 int
	P5         int
	Sub        bool // runs a trigger or an action of a foreign key
}

// Program returns the statement's instructions and an ID that changes when SQLite translated the statement anew.
func (s *Stmt) Program() ([]Op, uintptr) {
	v := at[lib.TVdbe](s.p)
	ops := make([]Op, v.FnOp)
	for i := range ops {
		o := s.op(i)
		ops[i] = Op{Code: int(o.Fopcode), P1: int(o.Fp1), P2: int(o.Fp2), P3: int(o.Fp3), P5: int(o.Fp5), Sub: o.Fp4type == lib.P4_SUBPROGRAM}
	}
	return ops, v.FaOp
}

// ProgramID is that of Program.
func (s *Stmt) ProgramID() uintptr { return at[lib.TVdbe](s.p).FaOp }

func (s *Stmt) op(i int) *lib.TVdbeOp {
	return at[lib.TVdbeOp](at[lib.TVdbe](s.p).FaOp + uintptr(i)*unsafe.Sizeof(lib.TVdbeOp{}))
}

// Counters is how many of them a statement has: those of sqlite3_stmt_status and, at 0, one without a name. The counter
// that the Next, Prev and SorterNext at an address advances by is its operand P5.
const Counters = 9

// CountIn makes the loop instruction at an address advance that counter.
func (s *Stmt) CountIn(address, counter int) { s.op(address).Fp5 = uint16(counter) }

// TakeCounters returns the counters and sets them to 0.
func (s *Stmt) TakeCounters() [Counters]uint32 {
	v := at[lib.TVdbe](s.p)
	counters := v.FaCounter
	v.FaCounter = [Counters]uint32{}
	return counters
}

// Register returns the integer in a register of the program, which holds until the statement is reset.
func (s *Stmt) Register(n int) int64 {
	m := at[lib.TMem](at[lib.TVdbe](s.p).FaMem + uintptr(n)*unsafe.Sizeof(lib.TMem{}))
	if m.Fflags&lib.MEM_Int == 0 {
		return 0
	}
	return *(*int64)(unsafe.Pointer(&m.Fu))
}
