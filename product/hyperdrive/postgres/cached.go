package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"time"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/memo"
	"selvage/product/hyperdrive/pgsql"
	"selvage/product/hyperdrive/pool"
)

// maxAnswer is the size of the largest answer that is remembered.
const maxAnswer = 1 << 20

// tee collects an answer for the memo while it goes to the client. A nil tee collects nothing.
type tee struct {
	flight *memo.Flight
	buf    []byte
	full   bool // it became too large
}

func (t *tee) add(b []byte) {
	if t == nil || t.full {
		return
	}
	if len(t.buf)+len(b) > maxAnswer {
		t.full, t.buf = true, nil
		return
	}
	t.buf = append(t.buf, b...)
}

func (t *tee) finish(bad bool) {
	if bad || t.full {
		t.land(nil)
		return
	}
	t.land(bytes.Clone(t.buf))
}

func (t *tee) land(body []byte) {
	if t != nil && t.flight != nil {
		t.flight.Done(body, time.Now())
		t.flight = nil
	}
}

// batch is what is looked up: messages that begin and end a transaction, and ask one query.
type batch struct {
	key   []byte
	size  int        // of the messages
	text  []byte     // the query
	name  string     // of the statement that Parse names or Bind uses
	st    *statement // nil for a simple query
	parse bool       // there is a Parse
}

// policy returns how long answers are remembered, or nil if this client's cannot be.
func (s *session) policy() *memo.Policy {
	p := s.u.policy.Load()
	if p == nil || s.u.o.Memo == nil || s.client == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv != nil {
		return nil
	}
	return p
}

// cachedQuery answers a simple query from memory; hit tells that it did. The message is there, body
// is what is in it.
func (s *session) cachedQuery(body []byte) (hit bool, err error) {
	p := s.policy()
	if p == nil || len(body) > maxInspect/16 {
		return false, nil
	}
	b := batch{size: len(body) + 5}
	b.key = s.keyOf('Q', "")
	b.key = append(b.key, body...)
	b.text = body[:len(body)-1]
	return s.fromMemo(&b, p)
}

func (s *session) keyOf(kind byte, shape string) []byte {
	key := make([]byte, 0, 256)
	key = append(append(key, s.u.o.ID...), kind)
	key = append(append(key, shape...), 0)
	key = binary.BigEndian.AppendUint32(key, uint32(len(s.own.id)))
	return append(key, s.own.id...)
}

// cached is cachedQuery for a batch of extended query, which begins with Parse or Bind.
func (s *session) cached(kind byte) (hit bool, err error) {
	if kind == 'B' && len(s.statements) == 0 && s.unnamed == nil {
		return false, nil
	}
	p := s.policy()
	if p == nil {
		return false, nil
	}
	b, ok := s.batch()
	if !ok {
		return false, nil
	}
	b.text = b.st.parse[:len(b.st.query)]
	return s.fromMemo(&b, p)
}

// batch looks at the messages that are there: Parse if any, Bind, Describe if any, Execute, Sync, about
// one statement and the unnamed portal. Nothing is taken.
func (s *session) batch() (b batch, ok bool) {
	buf := s.in.Buffered()
	var shape, bind []byte
	for i := 0; len(buf)-i >= 5; {
		kind, size, err := pgwire.Head(buf[i:])
		if err != nil || size > len(buf)-i || len(shape) > 5 {
			return b, false
		}
		body := buf[i+5 : i+size]
		i += size
		shape = append(shape, kind)
		switch kind {
		case 'P':
			ok = len(shape) == 1 && s.batchParse(&b, body)
		case 'B':
			ok = bind == nil && s.batchBind(&b, body, &bind)
		case 'D':
			ok = b.st != nil && len(body) > 1 && (body[0] == 'S' && string(body[1:len(body)-1]) == b.name || body[0] == 'P' && body[1] == 0 && bind != nil)
			if ok {
				shape = append(shape, body[0])
			}
		case 'E':
			ok = bind != nil && bytes.Equal(body, []byte{0, 0, 0, 0, 0})
		case 'S':
			b.size = i
			n := len(shape)
			if bind == nil || n < 2 || shape[n-2] != 'E' {
				return b, false
			}
			b.key = s.keyOf('X', string(shape))
			b.key = append(append(append(b.key, b.st.name...), 0), bind...)
			return b, true
		default:
			return b, false
		}
		if !ok {
			return b, false
		}
	}
	return b, false
}

func (s *session) batchParse(b *batch, body []byte) bool {
	name, rest, ok := pgwire.CutString(body)
	if !ok {
		return false
	}
	st, err := s.u.statementOf(rest)
	if err != nil || st.class.Refused != "" {
		return false
	}
	b.st, b.name, b.parse = st, string(name), true
	return st.class.Select
}

func (s *session) batchBind(b *batch, body []byte, bind *[]byte) bool {
	portal, rest, ok := pgwire.CutString(body)
	name, values, ok2 := pgwire.CutString(rest)
	if !ok || !ok2 || len(portal) > 0 {
		return false
	}
	if b.st == nil {
		if b.name = string(name); b.name == "" {
			b.st = s.unnamed
		} else {
			b.st = s.statements[b.name]
		}
	}
	*bind = values
	return b.st != nil && b.st.class.Select && string(name) == b.name && !timelyValues(values)
}

// timelyValues tells whether one of the values of a Bind may stand for the time, as 'now' does.
func timelyValues(b []byte) bool {
	if len(b) < 2 {
		return true
	}
	formats := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	if len(b) < 2*formats+2 {
		return true
	}
	b = b[2*formats:]
	n := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	for range n {
		if len(b) < 4 {
			return true
		}
		size := int(int32(binary.BigEndian.Uint32(b)))
		if b = b[4:]; size < 0 {
			continue
		}
		if size > len(b) {
			return true
		}
		if pgsql.Timely(string(b[:size])) {
			return true
		}
		b = b[size:]
	}
	return false
}

// fromMemo answers a batch from memory, or sees to it that its answer is remembered. Only before an
// answer is fetched the query is judged.
func (s *session) fromMemo(b *batch, p *memo.Policy) (hit bool, err error) {
	known := s.u.o.Memo.Has(b.key)
	if !known && !s.u.cacheable(s.ctx, string(b.text)) {
		s.u.counts.none.Add(1)
		return false, nil
	}
	found := s.u.o.Memo.Find(b.key, *p, time.Now())
	if found.Lead != nil && known && !s.u.cacheable(s.ctx, string(b.text)) {
		found.Lead.Done(nil, time.Now())
		s.u.counts.none.Add(1)
		return false, nil
	}
	if found.Wait != nil {
		t := time.NewTimer(runTime)
		select {
		case <-found.Wait.Landed():
			found.Body = found.Wait.Body()
		case <-t.C:
		case <-s.ctx.Done():
		}
		t.Stop()
	}
	switch {
	case found.Lead != nil:
		s.u.counts.misses.Add(1)
		s.tee, s.leading = &tee{flight: found.Lead}, true
		return false, nil
	case found.Body == nil:
		s.u.counts.misses.Add(1)
		return false, nil
	case found.Refresh != nil:
		s.refresh(b, found.Refresh)
		s.u.counts.stale.Add(1)
	}
	if b.parse && !s.keep(b.name, b.st) {
		return false, nil // the one who parses it says why
	}
	s.u.counts.hits.Add(1)
	s.in.Discard(b.size)
	s.turns.Add(1)
	return true, s.write(found.Body)
}

// refreshTime is how long a query in the background may take.
const refreshTime = 30 * time.Second

// refresh asks a query again, in the background, as a client of its own that nobody listens to.
func (s *session) refresh(b *batch, f *memo.Flight) {
	l := s.u.o.Sessions
	select {
	case l.refreshes <- struct{}{}:
	default:
		f.Done(nil, time.Now())
		return
	}
	r := &session{u: s.u, wait: pool.NewWaiter("refresh"), own: s.own, initial: s.initial, statements: map[string]*statement{}, unnamed: s.unnamed, tee: &tee{flight: f}, flow: flow{status: 'I'}}
	maps.Copy(r.statements, map[string]*statement{b.name: b.st})
	sent := bytes.Clone(s.in.Buffered()[:b.size])
	r.in = pgwire.NewReader(bytes.NewReader(sent), pgwire.NewBuffers(len(sent)))
	l.work.Go(func() {
		defer func() { <-l.refreshes }()
		ctx, cancel := context.WithTimeout(context.Background(), refreshTime)
		defer cancel()
		r.ctx, r.ending = ctx, ctx
		defer context.AfterFunc(ctx, r.abandon)()
		_ = r.serve()
		r.leave()
		r.tee.land(nil)
	})
}

// abandon ends a session whose time is over.
func (s *session) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv != nil {
		s.srv.canceled.Store(true)
		s.srv.Conn.SetDeadline(time.Unix(1, 0))
	}
	if s.client != nil {
		s.client.SetDeadline(time.Unix(1, 0))
	}
}
