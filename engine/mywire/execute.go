package mywire

import "encoding/binary"

// Execute is the payload of ComStmtExecute taken apart. Its parameters' types may be missing: then those
// count that came with the statement's last execution on the same connection.
type Execute struct {
	ID     uint32
	params int
	raw    []byte
	types  []byte // two bytes for each parameter; nil if they were not sent
	flag   int    // offset in raw of the byte that says whether types follow
}

const executeHead = 10 // command, ID, flags, iteration count

// ParseExecute reads a payload for a statement with so many parameters. It keeps p.
func ParseExecute(p []byte, params int) (*Execute, error) {
	if len(p) < executeHead || p[0] != ComStmtExecute {
		return nil, ErrMalformed
	}
	e := &Execute{ID: binary.LittleEndian.Uint32(p[1:]), params: params, raw: p}
	if params == 0 {
		return e, nil
	}
	e.flag = executeHead + (params+7)/8
	if e.flag >= len(p) {
		return nil, ErrMalformed
	}
	if p[e.flag] == 1 {
		if len(p) < e.flag+1+2*params {
			return nil, ErrMalformed
		}
		e.types = p[e.flag+1 : e.flag+1+2*params]
	}
	return e, nil
}

// Types returns a copy of the parameters' types, nil if none were sent.
func (e *Execute) Types() []byte {
	if e.types == nil {
		return nil
	}
	return append([]byte{}, e.types...)
}

// ForServer returns the payload for a server that knows the statement by another ID. types are those
// that were sent last; they are put in where the client left them out. The payload may be changed in
// place.
func (e *Execute) ForServer(id uint32, types []byte) ([]byte, error) {
	binary.LittleEndian.PutUint32(e.raw[1:], id)
	if e.params == 0 || e.types != nil {
		return e.raw, nil
	}
	if len(types) != 2*e.params {
		return nil, ErrMalformed
	}
	whole := make([]byte, 0, len(e.raw)+len(types))
	whole = append(append(whole, e.raw[:e.flag]...), 1)
	whole = append(whole, types...)
	return append(whole, e.raw[e.flag+1:]...), nil
}

// StatementID returns the ID in the payload of a command about a statement.
func StatementID(p []byte) (uint32, error) {
	if len(p) < 5 {
		return 0, ErrMalformed
	}
	return binary.LittleEndian.Uint32(p[1:]), nil
}

// PutStatementID replaces that ID.
func PutStatementID(p []byte, id uint32) { binary.LittleEndian.PutUint32(p[1:], id) }
