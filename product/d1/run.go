package d1

import (
	"context"
	"errors"
	"strings"
	"time"

	"selvage/engine/sqlite"
	"selvage/foundation/fault"
	"selvage/spec"
)

// run runs statements as one transaction. The rows go to a, which is void after an error.
func (p *D1) run(ctx context.Context, d *spec.Database, statements []sqlite.Statement, a *answer) (sqlite.Answer, error) {
	s, err := p.store()
	if err != nil {
		return sqlite.Answer{}, err
	}
	if err := p.roomFor(ctx, d); err != nil && writes(statements) {
		return sqlite.Answer{}, err
	}
	began := time.Now()
	done, err := s.Run(ctx, key(d), sqlite.Request{Statements: statements, Sink: a})
	p.metrics.ran(done, err, time.Since(began))
	if err != nil {
		return done, p.refusal(d, err)
	}
	p.figures.asked(d, p.o.Clock.Now(), statements, done, a.rows)
	p.usage.note(d, done.Metas[len(done.Metas)-1].SizeAfter)
	return done, nil
}

// writes tells whether a statement may make the database larger, by how it begins: who is over the
// quota may still read and delete.
func writes(statements []sqlite.Statement) bool {
	for i := range statements {
		sql := strings.TrimLeft(statements[i].SQL, " \t\r\n(")
		word, _, _ := strings.Cut(strings.ToLower(sql[:min(len(sql), 16)]), " ")
		switch word {
		case "select", "values", "explain", "pragma", "delete", "drop":
		default:
			return true
		}
	}
	return false
}

// refusal makes of the engine's errors what the caller is told, and logs what is ours to mend.
func (p *D1) refusal(d *spec.Database, err error) error {
	switch fault.KindOf(err) {
	case fault.NotFound:
		return noDatabase(d.ID)
	case fault.Internal:
		if !errors.Is(err, context.Canceled) {
			p.o.Observe.Logger().Error("database failed", "account", d.AccountID, "database", d.ID, "error", err)
		}
	}
	return err
}

// await brings a session to what it has seen before. On one node every query goes to the primary, which
// is never behind.
func (p *D1) await(ctx context.Context, d *spec.Database, asked string) error {
	switch asked {
	case "", "first-primary", "first-unconstrained":
		return nil
	}
	s, err := p.store()
	if err != nil {
		return err
	}
	return s.WaitFor(ctx, key(d), sqlite.Bookmark(asked))
}

// bookmark is where the database's history stands.
func (p *D1) bookmark(ctx context.Context, d *spec.Database) (string, error) {
	s, err := p.store()
	if err != nil {
		return "", err
	}
	at, err := s.Bookmark(ctx, key(d))
	if err != nil {
		return "", p.refusal(d, err)
	}
	return string(at), nil
}

func (p *D1) details(ctx context.Context, d *spec.Database) (details, error) {
	s, err := p.store()
	if err != nil {
		return details{}, err
	}
	stat, err := s.Stat(ctx, key(d))
	if err != nil {
		return details{}, p.refusal(d, err)
	}
	p.usage.note(d, stat.Bytes)
	return details{made: p.shown(d), Tables: stat.Tables, Size: stat.Bytes, Running: p.region(d)}, nil
}

func (p *D1) placeOf(d *spec.Database) place { return place{p.region(d), p.o.PoP} }
