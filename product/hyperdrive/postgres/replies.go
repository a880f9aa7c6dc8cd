package postgres

import (
	"bytes"
	"slices"
	"strconv"
	"unsafe"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/pgsql"
)

type class = pgsql.Class

// classify reads a text that may change afterwards. Few texts leave something in what is said of them.
func classify(text []byte) class {
	c := pgsql.Classify(unsafe.String(unsafe.SliceData(text), len(text)))
	if len(c.Sets) > 0 || c.Drops != "" {
		return pgsql.Classify(string(text))
	}
	return c
}

// inspected tells which messages of the server are read; the others are passed on as they come.
func inspected(kind byte) bool {
	switch kind {
	case '1', '3', 'C', 'E', 'G', 'W', 'S', 'Z':
		return true
	}
	return false
}

// sieve passes on what stands in b, in place; alt takes over once something longer comes in between.
type sieve struct {
	b   []byte
	w   int
	alt []byte
}

func (v *sieve) keep(from, to int) {
	if v.alt != nil {
		v.alt = append(v.alt, v.b[from:to]...)
		return
	}
	if v.w != from {
		copy(v.b[v.w:], v.b[from:to])
	}
	v.w += to - from
}

func (v *sieve) insert(more []byte) {
	if v.alt == nil {
		v.alt = append([]byte{}, v.b[:v.w]...)
	}
	v.alt = append(v.alt, more...)
}

func (v *sieve) out() []byte {
	if v.alt != nil {
		return v.alt
	}
	return v.b[:v.w]
}

// filter takes what the server has said and returns what of it is for the client; that is valid until
// more is read. Called with mu held.
func (s *session) filter(srv *server) ([]byte, error) {
	v := &sieve{b: srv.In.Buffered()}
	i := 0
	for i < len(v.b) {
		if srv.skip > 0 {
			n := min(srv.skip, len(v.b)-i)
			v.keep(i, i+n)
			i += n
			srv.skip -= n
			continue
		}
		if len(v.b)-i < 5 {
			break
		}
		kind, size, err := pgwire.Head(v.b[i:])
		if err != nil {
			return nil, err
		}
		if !inspected(kind) || size > srv.In.Size() {
			srv.skip = size
			continue
		}
		if len(v.b)-i < size {
			break
		}
		s.reply(srv, v, kind, i, i+size)
		i += size
		if kind == 'Z' && s.settledAll() {
			break
		}
	}
	out := v.out()
	srv.In.Discard(i)
	s.tee.add(out)
	return out, nil
}

// reply handles one message, which stands in v.b from from to to.
func (s *session) reply(srv *server, v *sieve, kind byte, from, to int) {
	body := v.b[from+5 : to]
	switch kind {
	case '1', '3':
		r, ok := s.replies.first()
		if !ok {
			break
		}
		s.replies.pop()
		if p := srv.prepared[r.name]; p != nil {
			p.certain = true
		}
		if r.as == 0 {
			return
		}
		v.b[from] = r.as
	case 'C':
		s.rolled = s.rolled || bytes.Equal(body, []byte("ROLLBACK\x00"))
		if bytes.HasPrefix(body, []byte("COPY ")) {
			s.copying = false
		}
	case 'G', 'W':
		s.copying = true
		if kind, _ := s.kinds.first(); kind == 'S' { // the server skips that Sync: the batch goes on
			s.kinds.pop()
			s.syncs--
			s.seen++
			s.open = true
		}
	case 'S':
		srv.NoteParameter(body)
	case 'E':
		s.copying = false
		s.erred = true
		if other := s.replaced(body); other != nil {
			v.insert(other)
			return
		}
	case 'Z':
		s.settled(srv, body)
	}
	v.keep(from, to)
}

// replaced returns what the client gets in place of an error that we provoked; nil for others.
func (s *session) replaced(body []byte) []byte {
	const token = "hyperdrive_refusal_"
	if bytes.Contains(body, []byte("cached plan must not change result type")) {
		s.u.stale.Add(1) // everybody prepares anew
	}
	i := bytes.Index(body, []byte(token))
	if i < 0 || len(s.refusals) == 0 {
		return nil
	}
	digits, _, ok := bytes.Cut(body[i+len(token):], []byte("_"))
	n, err := strconv.Atoi(string(digits))
	if !ok || err != nil || n >= len(s.refusals) {
		return nil
	}
	return (&pgwire.Failure{Code: "0A000", Message: s.refusals[n]}).Append(nil)
}

// settled handles ReadyForQuery: a batch is done.
func (s *session) settled(srv *server, body []byte) {
	if len(body) == 1 {
		s.status = body[0]
	}
	batch := s.seen
	s.seen++
	if s.syncs > 0 {
		s.syncs--
	}
	s.kinds.pop()
	s.copying = false
	s.u.counts.queries.Add(1)
	// What was expected of this batch and did not come, because of an error, comes no more.
	for r, ok := s.replies.first(); ok && r.batch <= batch; r, ok = s.replies.first() {
		if p := srv.prepared[r.name]; p != nil && !p.certain && p.batch == r.batch {
			delete(srv.prepared, r.name)
		}
		s.replies.pop()
	}
	if s.erred {
		srv.unnamed = nil
	}
	s.commitSets(srv, batch)
	if s.tee != nil && s.erred {
		s.tee.land(nil)
		s.tee = nil
	}
	s.erred, s.rolled = false, false
}

// commitSets takes changes of settings over once they hold.
func (s *session) commitSets(srv *server, batch int) {
	if len(s.pending) == 0 {
		return
	}
	for _, p := range s.pending { // which holds at once, and whatever becomes of the transaction
		if p.class.Forgets && p.batch <= batch {
			srv.forget()
		}
	}
	if s.erred {
		if s.status == 'I' {
			s.pending = s.pending[:0]
		}
		s.pending = slices.DeleteFunc(s.pending, func(p pendingSet) bool { return p.batch == batch })
	}
	if s.status != 'I' {
		return
	}
	done := s.pending
	s.pending = nil
	for i, p := range done {
		if p.batch > batch {
			s.pending = done[i:]
			break
		}
		if s.rolled {
			continue
		}
		if p.class.ResetAll {
			s.own = s.initial
			srv.applied = noSettings
		}
		s.own = s.u.with(s.own, p.class.Sets)
		srv.applied = s.u.with(srv.applied, p.class.Sets)
	}
}
