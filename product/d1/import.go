package d1

import (
	"context"
	"os"
	"regexp"
	"strings"

	"selvage/engine/sqlite"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// awaited is the answer to the action init: where to upload the file.
type awaited struct {
	Success  bool     `json:"success"`
	Type     string   `json:"type"`
	Filename string   `json:"filename"`
	URL      string   `json:"upload_url"`
	Messages []string `json:"messages"`
}

// imported is what a finished import did.
type imported struct {
	Bookmark   string     `json:"final_bookmark"`
	Statements int        `json:"num_queries"`
	Meta       importMeta `json:"meta"`
}

type importMeta struct {
	ServedBy  string  `json:"served_by"`
	Duration  float64 `json:"duration"` // ms
	Changes   int64   `json:"changes"`
	LastRowID int64   `json:"last_row_id"`
	ChangedDB bool    `json:"changed_db"`
	SizeAfter int64   `json:"size_after"`
	Read      int64   `json:"rows_read"`
	Written   int64   `json:"rows_written"`
}

// notImporting is what polls are told when there is nothing to tell. wrangler shows it.
type notImporting struct {
	Success bool   `json:"success"`
	Error   string `json:"error"`
}

var etagForm = regexp.MustCompile(`^[0-9A-Za-z]{1,64}$`)

// load is the three actions of an import: init names a file by its MD5 and gets a URL to upload it
// to, unless it is here already; ingest runs it; poll tells how far that is.
func (p *D1) load(ctx context.Context, c *product.Call) (product.Reply, error) {
	var asked struct {
		Action   string `json:"action"`
		Etag     string `json:"etag"`
		Filename string `json:"filename"`
		Current  string `json:"current_bookmark"`
	}
	if err := c.Decode(&asked); err != nil {
		return product.Reply{}, invalid(err)
	}
	d, err := p.named(c)
	if err != nil {
		return product.Reply{}, err
	}
	switch asked.Action {
	case "init":
		return p.expect(ctx, c, d, asked.Etag)
	case "ingest":
		return p.ingest(ctx, d, asked.Etag, asked.Filename)
	case "poll":
		one := p.transfers.of(d, func(x *transfer) bool {
			return x.kind == "import" && x.bookmark == asked.Current && (x.status == active || x.status == complete || x.status == failed)
		})
		if one == nil {
			return product.Reply{Result: notImporting{false, "Not currently importing anything."}}, nil
		}
		return polled(one.poll(ctx)), nil
	}
	return product.Reply{}, fault.New(fault.Invalid, "The action %.40q is not known; it is init, ingest or poll.", asked.Action).WithCode(codeInvalid).At("action")
}

// expect makes a place for a file. One that came already begins to run at once.
func (p *D1) expect(ctx context.Context, c *product.Call, d *spec.Database, etag string) (product.Reply, error) {
	if !etagForm.MatchString(etag) {
		return product.Reply{}, fault.New(fault.Invalid, "The etag has to be the MD5 of the file, 32 hex digits.").WithCode(codeInvalid).At("etag")
	}
	if one := p.transfers.of(d, func(x *transfer) bool { return x.kind == "import" && x.etag == etag && x.status == uploaded }); one != nil {
		return p.ingest(ctx, d, etag, one.filename)
	}
	one := p.transfers.of(d, func(x *transfer) bool {
		return x.kind == "import" && x.etag == etag && x.status == expected && !x.sending
	})
	if one == nil {
		one = &transfer{kind: "import", database: d, etag: etag, status: expected, filename: d.ID + "." + etag + ".sql", expires: p.o.Clock.Now().Add(keepTransfer)}
		if err := p.transfers.add(one); err != nil {
			return product.Reply{}, err
		}
	}
	return product.Reply{Result: awaited{true, "import", one.filename, c.Origin + urlPrefix + "/selvage/d1/uploads/" + one.token, []string{}}}, nil
}

// ingest runs the file that was uploaded.
func (p *D1) ingest(ctx context.Context, d *spec.Database, etag, filename string) (product.Reply, error) {
	at, err := p.bookmark(ctx, d)
	if err != nil {
		return product.Reply{}, err
	}
	one := p.transfers.of(d, func(x *transfer) bool {
		return x.kind == "import" && x.etag == etag && (filename == "" || x.filename == strings.TrimPrefix(filename, "/")) && x.status == uploaded
	})
	if one == nil || !one.run(at) {
		return product.Reply{}, fault.New(fault.Invalid, "The file %.80q with the MD5 %.64s has not been uploaded: ask for a place with the action init, and upload it there.", filename, etag).WithCode(codeInvalid).At("filename")
	}
	one.say("Processed %s", one.filename)
	err = p.transfers.start(one, func(ctx context.Context) (any, error) {
		defer os.Remove(one.path)
		return p.runFile(ctx, d, one)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return polled(one.poll(ctx)), nil
}

// run begins the run of an uploaded file, once.
func (x *transfer) run(at string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.status != uploaded {
		return false
	}
	x.status, x.bookmark = active, at
	x.expires = x.expires.AddDate(1, 0, 0) // as long as it takes; finish says when
	return true
}

func (p *D1) runFile(ctx context.Context, d *spec.Database, one *transfer) (any, error) {
	s, err := p.store()
	if err != nil {
		return nil, err
	}
	if err := p.roomFor(ctx, d); err != nil {
		return nil, err
	}
	f, err := os.Open(one.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	began := p.o.Clock.Now()
	done, err := s.Import(ctx, key(d), f)
	p.metrics.imported(err)
	if err != nil {
		return nil, p.refusal(d, err)
	}
	took := p.o.Clock.Now().Sub(began)
	p.figures.note(d, p.o.Clock.Now(), done.RowsRead, done.RowsWritten)
	return result(done, float64(took.Microseconds())/1000), nil
}

func result(done sqlite.Imported, ms float64) imported {
	return imported{Bookmark: string(done.Bookmark), Statements: done.Statements, Meta: importMeta{
		ServedBy: servedBy, Duration: ms, Changes: done.Changes, ChangedDB: done.RowsWritten > 0 || done.Changes > 0,
		SizeAfter: done.SizeAfter, Read: done.RowsRead, Written: done.RowsWritten,
	}}
}
