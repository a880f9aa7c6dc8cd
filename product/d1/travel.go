package d1

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"selvage/engine/sqlite"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

type marked struct {
	Bookmark string `json:"bookmark"`
}

// restored is what going back in time did.
type restored struct {
	Bookmark string `json:"bookmark"`
	Previous string `json:"previous_bookmark"` // undoes it
	Message  string `json:"message"`
}

// getBookmark answers with the bookmark of now, or of the last commit before ?timestamp.
func (p *D1) getBookmark(ctx context.Context, c *product.Call) (product.Reply, error) {
	d, err := p.named(c)
	if err != nil {
		return product.Reply{}, err
	}
	text := c.Query.Get("timestamp")
	if text == "" {
		at, err := p.bookmark(ctx, d)
		return product.Reply{Result: marked{at}}, err
	}
	at, err := p.bookmarkAt(ctx, d, text)
	return product.Reply{Result: marked{string(at)}}, err
}

func (p *D1) bookmarkAt(ctx context.Context, d *spec.Database, text string) (sqlite.Bookmark, error) {
	when, err := timeOf(text)
	if err != nil {
		return "", err
	}
	if when.After(p.o.Clock.Now()) {
		return "", fault.New(fault.Invalid, "The timestamp %s lies in the future.", when.UTC().Format(time.RFC3339Nano)).WithCode(codeInvalid).At("timestamp")
	}
	if when.Before(d.CreatedOn.Truncate(time.Second)) { // a restore would empty the database
		return "", fault.New(fault.Invalid, "The timestamp %s is before the database was made, on %s.", when.UTC().Format(time.RFC3339Nano), d.CreatedOn.UTC().Format(time.RFC3339)).WithCode(codeInvalid).At("timestamp")
	}
	s, err := p.store()
	if err != nil {
		return "", err
	}
	at, err := s.BookmarkAt(ctx, key(d), when)
	if err != nil {
		return "", invalid(p.refusal(d, err))
	}
	return at, nil
}

// timeOf reads RFC 3339, or seconds since 1970.
func timeOf(text string) (time.Time, error) {
	if when, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return when, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 && n < 1<<40 {
		return time.Unix(n, 0), nil
	}
	return time.Time{}, fault.New(fault.Invalid, "The timestamp %.60q is not valid: it looks like 2026-01-31T12:00:00.000Z.", text).WithCode(codeInvalid).At("timestamp")
}

// restore puts a database back to ?bookmark or ?timestamp.
func (p *D1) restore(ctx context.Context, c *product.Call) (product.Reply, error) {
	d, err := p.named(c)
	if err != nil {
		return product.Reply{}, err
	}
	bookmark, stamp := c.Query.Get("bookmark"), c.Query.Get("timestamp")
	if (bookmark == "") == (stamp == "") {
		return product.Reply{}, fault.New(fault.Invalid, "Say where to restore to: either bookmark or timestamp.").WithCode(codeInvalid).At("bookmark")
	}
	to := sqlite.Bookmark(bookmark)
	if stamp != "" {
		if to, err = p.bookmarkAt(ctx, d, stamp); err != nil {
			return product.Reply{}, err
		}
	}
	s, err := p.store()
	if err != nil {
		return product.Reply{}, err
	}
	previous, err := s.Restore(ctx, key(d), to)
	if err != nil {
		return product.Reply{}, invalid(p.refusal(d, err))
	}
	now, err := p.bookmark(ctx, d)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: restored{Bookmark: now, Previous: string(previous), Message: fmt.Sprintf("Successfully restored to bookmark %s", string(to))}}, nil
}
