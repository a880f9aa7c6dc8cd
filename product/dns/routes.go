package dns

import (
	"context"
	"errors"
	"fmt"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// Limits of requests.
const (
	maxBatch      = 20_000   // changes in one batch
	maxBatchBody  = 32 << 20 // bytes
	maxImportBody = 16 << 20 // bytes
	maxReported   = 20       // faults of one batch or import that are told
)

const recordsPath = "/zones/{zone_id}/dns_records"

// Routes serves dns_records.
func (s *Server) Routes() []product.Route {
	read, write := product.Permission{Group: "DNS"}, product.Permission{Group: "DNS", Write: true}
	return []product.Route{
		{Method: "GET", Path: recordsPath, Permission: read, Summary: "List the DNS records of a zone.", Handle: s.list},
		{Method: "POST", Path: recordsPath, Permission: write, Summary: "Create a DNS record.", Handle: s.create},
		{Method: "GET", Path: recordsPath + "/export", Permission: read, Summary: "Export the zone as a BIND zone file.", Handle: s.export},
		{Method: "POST", Path: recordsPath + "/import", Permission: write, Summary: "Import a BIND zone file.", MaxBody: maxImportBody, Handle: s.importFile},
		{Method: "POST", Path: recordsPath + "/batch", Permission: write, Summary: "Change many DNS records at once, all or none.", MaxBody: maxBatchBody, Handle: s.batch},
		{Method: "GET", Path: recordsPath + "/{record_id}", Permission: read, Summary: "Get a DNS record.", Handle: s.get},
		{Method: "PUT", Path: recordsPath + "/{record_id}", Permission: write, Summary: "Replace a DNS record.", Handle: s.overwrite},
		{Method: "PATCH", Path: recordsPath + "/{record_id}", Permission: write, Summary: "Edit fields of a DNS record.", Handle: s.edit},
		{Method: "DELETE", Path: recordsPath + "/{record_id}", Permission: write, Summary: "Delete a DNS record.", Handle: s.remove},
	}
}

func (s *Server) now() time.Time { return spec.Timestamp(s.options.Clock.Now()) }

func (s *Server) get(_ context.Context, c *product.Call) (product.Reply, error) {
	for _, r := range c.Zone.Records {
		if r.ID == c.Params["record_id"] {
			return product.Reply{Result: viewOf(r)}, nil
		}
	}
	return product.Reply{}, noRecord()
}

func (s *Server) create(ctx context.Context, c *product.Call) (product.Reply, error) {
	return s.one(ctx, c, func(b *book, body *recordBody) (*spec.Record, error) {
		return s.post(b, body)
	})
}

func (s *Server) overwrite(ctx context.Context, c *product.Call) (product.Reply, error) {
	return s.one(ctx, c, func(b *book, body *recordBody) (*spec.Record, error) {
		body.ID = c.Params["record_id"]
		return s.put(b, body)
	})
}

func (s *Server) edit(ctx context.Context, c *product.Call) (product.Reply, error) {
	return s.one(ctx, c, func(b *book, body *recordBody) (*spec.Record, error) {
		body.ID = c.Params["record_id"]
		return s.patch(b, body)
	})
}

// one runs a change of a single record that the body describes.
func (s *Server) one(ctx context.Context, c *product.Call, change func(*book, *recordBody) (*spec.Record, error)) (product.Reply, error) {
	var body recordBody
	if err := c.Decode(&body, echoed...); err != nil {
		return product.Reply{}, err
	}
	var r *spec.Record
	err := s.options.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		b, err := openBook(tx, c.Zone.Zone.ID)
		if err != nil {
			return err
		}
		r, err = change(b, &body)
		return err
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: viewOf(r)}, nil
}

func (s *Server) post(b *book, body *recordBody) (*spec.Record, error) {
	if err := body.required(); err != nil {
		return nil, err
	}
	r, err := body.record(b.zone.Zone, nil, s.now())
	if err != nil {
		return nil, err
	}
	return r, b.put(nil, r)
}

func (s *Server) put(b *book, body *recordBody) (*spec.Record, error) {
	if err := body.required(); err != nil {
		return nil, err
	}
	body.whole()
	return s.patch(b, body)
}

func (s *Server) patch(b *book, body *recordBody) (*spec.Record, error) {
	old, err := b.find(body.ID)
	if err != nil {
		return nil, err
	}
	r, err := body.record(b.zone.Zone, old, s.now())
	if err != nil {
		return nil, err
	}
	return r, b.put(old, r)
}

type idBody struct {
	ID string `json:"id"`
}

func (s *Server) remove(ctx context.Context, c *product.Call) (product.Reply, error) {
	id := c.Params["record_id"]
	err := s.options.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		b, err := openBook(tx, c.Zone.Zone.ID)
		if err != nil {
			return err
		}
		r, err := b.find(id)
		if err != nil {
			return err
		}
		return b.remove(r)
	})
	return product.Reply{Result: idBody{id}}, err
}

// batchBody is a list of changes, done in this order.
type batchBody struct {
	Deletes []idBody     `json:"deletes"`
	Patches []recordBody `json:"patches"`
	Puts    []recordBody `json:"puts"`
	Posts   []recordBody `json:"posts"`
}

type batchView struct {
	Deletes []recordView `json:"deletes"`
	Patches []recordView `json:"patches"`
	Puts    []recordView `json:"puts"`
	Posts   []recordView `json:"posts"`
}

func (s *Server) batch(ctx context.Context, c *product.Call) (product.Reply, error) {
	var body batchBody
	var ignored []string
	for _, list := range []string{"patches", "puts", "posts"} {
		for _, name := range echoed {
			ignored = append(ignored, list+"[]."+name)
		}
	}
	if err := c.Decode(&body, ignored...); err != nil {
		return product.Reply{}, err
	}
	if n := len(body.Deletes) + len(body.Patches) + len(body.Puts) + len(body.Posts); n > maxBatch {
		return product.Reply{}, fault.New(fault.TooMuch, "The batch has %d changes, the limit is %d; send several.", n, maxBatch)
	}
	var view batchView
	err := s.options.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		b, err := openBook(tx, c.Zone.Zone.ID)
		if err != nil {
			return err
		}
		view, err = s.runBatch(b, &body)
		return err
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: view}, nil
}

func (s *Server) runBatch(b *book, body *batchBody) (batchView, error) {
	var view batchView
	var faults []error
	note := func(list string, i int, err error) {
		if err != nil && len(faults) < maxReported {
			faults = append(faults, within(fmt.Sprintf("%s[%d]", list, i), err))
		}
	}
	for i, d := range body.Deletes {
		r, err := b.find(d.ID)
		if err == nil {
			view.Deletes = append(view.Deletes, viewOf(r))
			err = b.remove(r)
		}
		note("deletes", i, err)
	}
	run := func(list string, bodies []recordBody, change func(*book, *recordBody) (*spec.Record, error)) []recordView {
		var views []recordView
		for i := range bodies {
			r, err := change(b, &bodies[i])
			note(list, i, err)
			if err == nil {
				views = append(views, viewOf(r))
			}
		}
		return views
	}
	view.Patches = run("patches", body.Patches, s.patch)
	view.Puts = run("puts", body.Puts, s.put)
	view.Posts = run("posts", body.Posts, s.post)
	return view, errors.Join(faults...)
}

// within puts path before the field of every fault in err.
func within(path string, err error) error {
	all := fault.All(err)
	if len(all) == 0 {
		return fmt.Errorf("%s: %w", path, err)
	}
	var faults []error
	for _, f := range all {
		at := path
		if f.Field != "" {
			at += "." + f.Field
		}
		faults = append(faults, f.At(at))
	}
	return errors.Join(faults...)
}
