package d1

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"selvage/edge"
	"selvage/engine/sqlite"
	"selvage/foundation/budget"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/d1/wire"
	"selvage/spec"
)

// maxRequest is how many bytes a request may have, with all statements of a batch: more than a
// statement of 100 KB with the largest parameters.
const maxRequest = 32 << 20

// bookmarkField carries bookmarks of sessions, and what a session asks of its first query.
const bookmarkField = "x-cf-d1-session-commit-token"

// bound is what a binding names, as clients upload it.
type bound struct {
	ID         string `json:"id"`
	DatabaseID string `json:"database_id"`
}

func boundTo(b *spec.WorkerBinding) string {
	var to bound
	if len(b.Extra) > 0 {
		_ = json.Unmarshal(b.Extra, &to) // Check has seen it
	}
	if to.ID != "" {
		return to.ID
	}
	return to.DatabaseID
}

// check refuses bindings to what is not the account's.
func (p *D1) check(_ context.Context, accountID string, b *spec.WorkerBinding) error {
	var to bound
	if err := json.Unmarshal(b.Extra, &to); err != nil || to.ID == "" && to.DatabaseID == "" {
		return fault.New(fault.Invalid, "The binding %s of type d1 must have an id, that of a database as text.", b.Name).At("id")
	}
	if id := boundTo(b); p.o.State.Snapshot().StorageOf(accountID).Databases[id] == nil {
		return fault.New(fault.Invalid, "The binding %s of type d1 must have a valid id: there is no database %.80s in the account. `wrangler d1 list` shows those there are.", b.Name, id).At("id")
	}
	return nil
}

// bind answers the runtime's client for a binding. Its protocol is in workerd's
// src/cloudflare/internal/d1-api.ts: POST /query and /execute.
func (p *D1) bind(user product.BindingUser, b *spec.WorkerBinding) edge.Handler {
	id := boundTo(b)
	return func(ctx context.Context, ex *edge.Exchange) error {
		q := &ex.Request
		if q.Method != http.MethodPost || q.Path != "/query" && q.Path != "/execute" {
			ex.Respond(http.StatusNotFound, edge.Header{}, []byte("Not found"))
			return nil
		}
		d := p.o.State.Snapshot().StorageOf(user.AccountID).Databases[id]
		if d == nil {
			refuse(ex, noDatabase(id))
			return nil
		}
		if err := p.ask(ctx, ex, d); err != nil {
			if ctx.Err() != nil {
				return err // the script is gone
			}
			refuse(ex, err)
		}
		return nil
	}
}

// refuse answers an error: the client makes "D1_ERROR: ..." of it, whatever the status.
func refuse(ex *edge.Exchange, err error) {
	body := append([]byte(`{"success":false,"error":`), wire.AppendText(nil, []byte(messageOf(err)))...)
	ex.Respond(http.StatusOK, jsonHeader(""), append(body, '}'))
}

// refuseInstead answers what the node says in this product's place.
func refuseInstead(ex *edge.Exchange, f *edge.Failure) {
	refuse(ex, fault.New(fault.Unavailable, "%s", f.Detail))
}

func jsonHeader(bookmark string) edge.Header {
	var h edge.Header
	h.Add("Content-Type", "application/json")
	if bookmark != "" {
		h.Add(bookmarkField, bookmark)
	}
	return h
}

// ask runs what a script asks. The error is the script's to see.
func (p *D1) ask(ctx context.Context, ex *edge.Exchange, d *spec.Database) error {
	body, err := readBody(&ex.Request)
	if err != nil {
		return err
	}
	asked, err := wire.Read(body)
	if err != nil {
		return err
	}
	if err := p.await(ctx, d, ex.Request.Header.Get(bookmarkField)); err != nil {
		return err
	}
	statements, groups, err := batch(asked)
	if err != nil {
		return err
	}
	f := objects
	if strings.Contains(ex.Request.Query, "resultsFormat=ROWS_AND_COLUMNS") {
		f = arrays
	}
	a := newAnswer(f, &p.room)
	done, err := p.run(ctx, d, statements, a)
	if err != nil {
		a.release()
		return err
	}
	a.finish(done, groups, p.placeOf(d))
	ex.Response = edge.Response{Status: http.StatusOK, Header: jsonHeader(string(done.Bookmark)), Length: a.size(), Body: a}
	return nil
}

func readBody(q *edge.Request) ([]byte, error) {
	if q.Body == nil {
		return nil, fault.New(fault.Invalid, "The request has no body.")
	}
	if q.Length > maxRequest {
		return nil, fault.New(fault.TooMuch, "The query with its parameters has %d bytes, the limit is %d: send it in parts.", q.Length, maxRequest)
	}
	from := budget.Reader("The query with its parameters", q.Body, maxRequest)
	if q.Length < 0 {
		return io.ReadAll(from)
	}
	body := make([]byte, q.Length)
	_, err := io.ReadFull(from, body)
	return body, err
}

// batch makes what a client sent one transaction. A query of several statements counts as one, of which
// the last gives the result and takes the parameters; groups has how many each has, nil for one each.
func batch(asked []wire.Statement) (statements []sqlite.Statement, groups []int, err error) {
	statements = make([]sqlite.Statement, 0, len(asked))
	for i := range asked {
		parts, several := split(asked[i].SQL)
		if several && groups == nil {
			groups = make([]int, 0, len(asked))
			for range statements {
				groups = append(groups, 1)
			}
		}
		if groups != nil && len(parts) > 0 {
			groups = append(groups, len(parts))
		}
		for n, sql := range parts {
			s := sqlite.Statement{SQL: sql}
			if n == len(parts)-1 {
				s.Args = args(asked[i].Params)
			}
			statements = append(statements, s)
		}
	}
	if len(statements) == 0 {
		return nil, nil, fault.New(fault.Invalid, "No SQL statements detected.")
	}
	if len(statements) > wire.MaxStatements {
		return nil, nil, fault.New(fault.TooMuch, "The batch has %d statements, the limit is %d: send it in parts.", len(statements), wire.MaxStatements)
	}
	return statements, groups, nil
}

// args are parameters as the engine binds them.
func args(params []wire.Value) []any {
	if len(params) == 0 {
		return nil
	}
	out := make([]any, len(params))
	for i := range params {
		switch v := &params[i]; v.Kind {
		case wire.Number:
			out[i] = v.Number
		case wire.Text:
			out[i] = string(v.Bytes)
		case wire.Blob:
			out[i] = v.Bytes
		}
	}
	return out
}

// messageOf is what users read of an error, in the words of Cloudflare where it is SQLite's.
func messageOf(err error) string {
	if all := fault.All(err); len(all) > 0 && all[0].Kind != fault.Internal {
		return all[0].Message
	}
	var malformed *wire.Error
	if errors.As(err, &malformed) {
		return malformed.Message
	}
	if errors.Is(err, sqlite.ErrCorrupt) {
		return "database disk image is malformed: SQLITE_CORRUPT"
	}
	return "internal error; the node's log says more"
}
