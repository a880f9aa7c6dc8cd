package d1

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"

	"selvage/engine/sqlite"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/d1/wire"
)

func (p *D1) query(ctx context.Context, c *product.Call) (product.Reply, error) {
	return p.answerQuery(ctx, c, objects)
}

func (p *D1) raw(ctx context.Context, c *product.Call) (product.Reply, error) {
	return p.answerQuery(ctx, c, arrays)
}

// asked is the body of a query: one with parameters, or a batch. Params are read by package wire.
type asked struct {
	SQL    *string         `json:"sql"`
	Params json.RawMessage `json:"params"`
	Batch  []struct {
		SQL    *string         `json:"sql"`
		Params json.RawMessage `json:"params"`
	} `json:"batch"`
}

// answerQuery runs what the body asks as one transaction, with a result for each statement.
func (p *D1) answerQuery(ctx context.Context, c *product.Call, f format) (product.Reply, error) {
	var q asked
	if err := c.Decode(&q); err != nil {
		return product.Reply{}, invalid(err)
	}
	d, err := p.named(c)
	if err != nil {
		return product.Reply{}, err
	}
	statements, err := q.statements()
	if err != nil {
		return product.Reply{}, invalid(err)
	}
	if err := p.await(ctx, d, c.Header.Get(bookmarkField)); err != nil {
		return product.Reply{}, invalid(err)
	}
	a := newAnswer(f, &p.room)
	done, err := p.run(ctx, d, statements, a)
	if err != nil {
		a.release()
		return product.Reply{}, queryFault(err)
	}
	a.finish(done, nil, p.placeOf(d))
	return product.Reply{Raw: &product.Raw{ContentType: "application/json", Header: map[string][]string{"X-Cf-D1-Session-Commit-Token": {string(done.Bookmark)}},
		Write: func(_ context.Context, w io.Writer) error {
			defer a.release()
			return a.envelope(w)
		},
	}}, nil
}

// envelope writes the results as the API's answer.
func (a *answer) envelope(w io.Writer) error {
	pieces := a.pieces
	a.pieces = append([][]byte{[]byte(`{"result":`)}, pieces...)
	a.pieces = append(a.pieces, []byte(`,"success":true,"errors":[],"messages":[]}`+"\n"))
	if a.size() > keptBuffers {
		_, err := a.WriteTo(w)
		return err
	}
	whole := make([]byte, 0, a.size())
	for _, piece := range a.pieces {
		whole = append(whole, piece...)
	}
	_, err := w.Write(whole)
	return err
}

// queryFault gives SQLite's errors the status and code that they have at Cloudflare.
func queryFault(err error) error {
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != 0 {
		return err
	}
	switch {
	case errors.Is(err, sqlite.ErrTooLong):
		return fault.New(fault.Invalid, "%s", f.Message).WithCode(codeReset)
	case errors.Is(err, sqlite.ErrOverloaded):
		return f.WithCode(codeReset)
	case f.Kind == fault.Invalid, f.Kind == fault.TooMuch:
		return fault.New(fault.Invalid, "%s", f.Message).WithCode(codeQuery)
	}
	return err
}

// statements are those of the body. Parameters are for a query of one statement.
func (q *asked) statements() ([]sqlite.Statement, error) {
	if (q.SQL == nil) == (q.Batch == nil) {
		return nil, fault.New(fault.Invalid, "A query has either sql, with params, or a batch of such queries.").At("sql")
	}
	if q.SQL != nil {
		return parted(nil, *q.SQL, q.Params, "")
	}
	var all []sqlite.Statement
	for i, one := range q.Batch {
		at := pathOf(i)
		if one.SQL == nil {
			return nil, fault.New(fault.Invalid, "A query needs sql.").At(at + "sql")
		}
		var err error
		if all, err = parted(all, *one.SQL, one.Params, at); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, fault.New(fault.Invalid, "The batch has no queries.").At("batch")
	}
	return all, nil
}

// parted adds a query's statements.
func parted(all []sqlite.Statement, sql string, raw json.RawMessage, at string) ([]sqlite.Statement, error) {
	var params []wire.Value
	if len(raw) > 0 {
		var err error
		if params, err = wire.ReadParams(raw); err != nil {
			return nil, misread(err, at)
		}
	}
	parts, _ := split(sql)
	switch {
	case len(parts) == 0:
		return nil, fault.New(fault.Invalid, "No SQL statements detected.").WithCode(codeQuery).At(at + "sql")
	case len(parts) > 1 && len(params) > 0:
		return nil, fault.New(fault.Invalid, "The sql has %d statements; parameters can be bound to one only. Send the statements as a batch, each with its own params.", len(parts)).At(at + "params")
	case len(all)+len(parts) > wire.MaxStatements:
		return nil, fault.New(fault.TooMuch, "The query has more than %d statements: send it in parts, or as an import.", wire.MaxStatements).At(at + "sql")
	}
	for _, part := range parts {
		all = append(all, sqlite.Statement{SQL: part, Args: args(params)})
	}
	return all, nil
}

func pathOf(i int) string { return "batch[" + strconv.Itoa(i) + "]." }

// misread makes a fault of what package wire finds wrong.
func misread(err error, at string) error {
	var malformed *wire.Error
	if errors.As(err, &malformed) {
		return fault.New(fault.Invalid, "%s", malformed.Message).At(at + malformed.Path)
	}
	return err
}
