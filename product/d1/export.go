package d1

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"

	"selvage/engine/sqlite"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// exported is what a finished export gives.
type exported struct {
	Filename string `json:"filename"`
	URL      string `json:"signed_url"`
}

type dumpOptions struct {
	NoSchema bool     `json:"no_schema"`
	NoData   bool     `json:"no_data"`
	Tables   []string `json:"tables"`
}

// export begins to write a database as SQL, or tells how far that is. The client polls with the
// bookmark of the first answer until the status is complete, and gets a URL that holds for an hour.
func (p *D1) export(ctx context.Context, c *product.Call) (product.Reply, error) {
	var asked struct {
		Format  string       `json:"output_format"`
		Options *dumpOptions `json:"dump_options"`
		Current *string      `json:"current_bookmark"`
	}
	if err := c.Decode(&asked); err != nil {
		return product.Reply{}, invalid(err)
	}
	if asked.Format != "polling" {
		return product.Reply{}, fault.New(fault.Invalid, "The output_format %.40q is not known; it is polling.", asked.Format).WithCode(codeInvalid).At("output_format")
	}
	d, err := p.named(c)
	if err != nil {
		return product.Reply{}, err
	}
	options := dumpOptions{}
	if asked.Options != nil {
		options = *asked.Options
	}
	slices.Sort(options.Tables)
	key, err := json.Marshal(options)
	if err != nil {
		return product.Reply{}, err
	}
	one, err := p.exportOf(ctx, d, string(key), asked.Current)
	if err != nil {
		return product.Reply{}, err
	}
	if one == nil {
		if one, err = p.startExport(ctx, c, d, options, string(key)); err != nil {
			return product.Reply{}, err
		}
	}
	return polled(one.poll(ctx)), nil
}

func polled(p progress) product.Reply {
	r := product.Reply{Result: p}
	if p.Status == active {
		r.Status = http.StatusAccepted
	}
	return r
}

// exportOf returns the export that a poll means: that of the bookmark, or one that is as new as the
// database is.
func (p *D1) exportOf(ctx context.Context, d *spec.Database, options string, current *string) (*transfer, error) {
	at := ""
	if current != nil {
		at = *current
	} else {
		now, err := p.bookmark(ctx, d)
		if err != nil {
			return nil, err
		}
		at = now
	}
	return p.transfers.of(d, func(x *transfer) bool {
		return x.kind == "export" && x.options == options && x.bookmark == at && (current != nil || x.status == active || x.status == complete)
	}), nil
}

func (p *D1) startExport(ctx context.Context, c *product.Call, d *spec.Database, options dumpOptions, key string) (*transfer, error) {
	at, err := p.bookmark(ctx, d)
	if err != nil {
		return nil, err
	}
	one := &transfer{kind: "export", database: d, options: key, bookmark: at, status: active, filename: d.ID + "-" + at + ".sql"}
	if err := p.transfers.add(one); err != nil {
		return nil, err
	}
	one.say("Generating %s", one.filename)
	url := c.Origin + urlPrefix + "/selvage/d1/exports/" + one.token
	return one, p.transfers.start(one, func(ctx context.Context) (any, error) {
		if err := p.dump(ctx, d, one.path, options); err != nil {
			return nil, err
		}
		one.say("Uploaded part 1")
		one.say("Finished uploading %s in 1 parts.", one.filename)
		return exported{one.filename, url}, nil
	})
}

// urlPrefix is where the API begins, as in Cloudflare's own address.
const urlPrefix = "/client/v4"

// dump writes the database into a file.
func (p *D1) dump(ctx context.Context, d *spec.Database, path string, options dumpOptions) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 256<<10)
	err = p.dumpTo(ctx, d, w, options)
	return errors.Join(err, w.Flush(), f.Close())
}

func (p *D1) dumpTo(ctx context.Context, d *spec.Database, w io.Writer, options dumpOptions) error {
	s, err := p.store()
	if err != nil {
		return err
	}
	return s.Dump(ctx, key(d), w, sqlite.DumpOptions{NoSchema: options.NoSchema, NoData: options.NoData, Tables: options.Tables})
}
