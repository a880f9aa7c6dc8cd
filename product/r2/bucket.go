package r2

import (
	"context"
	"io"
	"slices"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/r2/store"
	"selvage/spec"
)

// bucket is one bucket's objects.
type bucket struct {
	p    *R2
	spec *spec.Bucket
	id   store.Bucket
}

func (p *R2) on(b *spec.Bucket) *bucket { return &bucket{p, b, idOf(b)} }

// Head returns what is known of an object.
func (b *bucket) Head(ctx context.Context, key string) (*store.Object, error) {
	return b.p.objects.Head(ctx, b.id, key)
}

// Get opens an object.
func (b *bucket) Get(ctx context.Context, key string, o store.GetOptions) (*store.Reading, error) {
	return b.p.objects.Get(ctx, b.id, key, o)
}

// List returns one page of the bucket.
func (b *bucket) List(ctx context.Context, o store.ListOptions) (*store.Listing, error) {
	return b.p.objects.List(ctx, b.id, o)
}

// Put stores an object, in the bucket's class unless o names another.
func (b *bucket) Put(ctx context.Context, key string, body io.Reader, o store.PutOptions) (*store.Object, error) {
	if o.StorageClass == "" {
		o.StorageClass = b.spec.StorageClass
	}
	if body == nil {
		body = nothing{}
	}
	return b.p.objects.Put(ctx, b.id, key, body, o)
}

type nothing struct{}

// Read is at the end.
func (nothing) Read([]byte) (int, error) { return 0, io.EOF }

// Delete removes objects; those that are not there are no error.
func (b *bucket) Delete(ctx context.Context, keys []string) error {
	if len(keys) > store.MaxDelete {
		return fault.New(fault.Invalid, "A delete names at most %d keys, this one %d.", store.MaxDelete, len(keys)).WithCode(store.CodeInvalidArgument)
	}
	return b.p.objects.Delete(ctx, b.id, keys...)
}

// buckets is how S3's front makes and changes buckets.
type buckets struct{ p *R2 }

// Snapshot returns the accounts and buckets there are.
func (s buckets) Snapshot() *spec.Snapshot { return s.p.o.State.Snapshot() }

// Create stores a new bucket. A name that is taken is a fault.Conflict.
func (s buckets) Create(ctx context.Context, actor spec.Actor, b *spec.Bucket) error {
	if err := b.Validate(); err != nil {
		return err
	}
	return s.p.o.State.Update(ctx, actor, func(tx product.Tx) error {
		have := tx.Snapshot().StorageOf(b.AccountID).Buckets
		if have[b.Name] != nil {
			return fault.New(fault.Conflict, "The bucket you tried to create already exists, and you own it.").WithCode(codeBucketExists).At("name")
		}
		if err := s.p.quotas.buckets.Check(tx.Snapshot(), b.AccountID, int64(len(have)), 1); err != nil {
			return recoded(err, codeManyBuckets)
		}
		return tx.Put(b)
	})
}

// recoded gives a fault a code of Cloudflare's.
func recoded(err error, code int) error {
	if all := fault.All(err); len(all) == 1 {
		return all[0].WithCode(code)
	}
	return err
}

// Delete removes a bucket with its names. One that holds objects is a fault.Conflict; uploads under way
// are given up with it. Its objects' place goes first: nothing can be put there any more, and a delete
// that ends half-way is done again.
func (s buckets) Delete(ctx context.Context, actor spec.Actor, b *spec.Bucket) error {
	if err := s.p.objects.DropEmpty(ctx, idOf(b)); err != nil {
		return err
	}
	return s.p.o.State.Update(ctx, actor, func(tx product.Tx) error {
		now := tx.Snapshot().StorageOf(b.AccountID).Buckets[b.Name]
		if now == nil || now.ID != b.ID {
			return noBucket()
		}
		if err := detachAll(tx, now); err != nil {
			return err
		}
		return tx.Delete(now.Key())
	})
}

// Edit changes a copy of a bucket and stores that.
func (s buckets) Edit(ctx context.Context, actor spec.Actor, b *spec.Bucket, change func(b *spec.Bucket)) error {
	defer s.p.hurry()
	return s.p.o.State.Update(ctx, actor, func(tx product.Tx) error {
		now := tx.Snapshot().StorageOf(b.AccountID).Buckets[b.Name]
		if now == nil || now.ID != b.ID {
			return noBucket()
		}
		changed := *now
		change(&changed)
		return tx.Put(&changed)
	})
}

// CreateUpload begins a multipart upload.
func (b *bucket) CreateUpload(ctx context.Context, key string, o store.UploadOptions) (*store.Upload, error) {
	if o.StorageClass == "" {
		o.StorageClass = b.spec.StorageClass
	}
	return b.p.objects.CreateUpload(ctx, b.id, key, o)
}

// PutPart stores one part of the upload that c names.
func (b *bucket) PutPart(ctx context.Context, c *call, body io.Reader, o store.PartOptions) (*store.Part, error) {
	return b.p.objects.PutPart(ctx, store.PartOf{Bucket: b.id, Key: c.Object, Upload: c.UploadID, Number: c.PartNumber}, body, o)
}

// Complete makes the object of an upload.
func (b *bucket) Complete(ctx context.Context, key, upload string, o store.CompleteOptions) (*store.Object, error) {
	return b.p.objects.Complete(ctx, b.id, key, upload, o)
}

// Abort gives an upload up; one that ended is no error.
func (b *bucket) Abort(ctx context.Context, key, upload string) error {
	return b.p.objects.Abort(ctx, b.id, key, upload)
}

// completed returns the parts that c names, in the order of their numbers: scripts may name them in any.
// That all but the last are large enough is first looked at in the script's order, as R2 does.
func (b *bucket) completed(ctx context.Context, c *call) (store.CompleteOptions, error) {
	var o store.CompleteOptions
	for _, part := range c.Parts {
		o.Parts = append(o.Parts, store.CompletedPart{Number: part.Part, ETag: part.ETag})
	}
	byNumber := func(x, y store.CompletedPart) int { return x.Number - y.Number }
	if slices.IsSortedFunc(o.Parts, byNumber) {
		return o, nil
	}
	sizes, err := b.partSizes(ctx, c)
	if err != nil {
		return o, err
	}
	for _, part := range o.Parts[:len(o.Parts)-1] {
		if size, ok := sizes[part.Number]; ok && size < store.MinPart {
			return o, fault.New(fault.Invalid, "%s", wireText(store.CodeEntityTooSmall)).WithCode(store.CodeEntityTooSmall)
		}
	}
	slices.SortStableFunc(o.Parts, byNumber)
	return o, nil
}

// partSizes returns how large the parts of an upload are, by number.
func (b *bucket) partSizes(ctx context.Context, c *call) (map[int]int64, error) {
	sizes := map[int]int64{}
	for after, more := 0, true; more; {
		page, err := b.p.objects.ListParts(ctx, store.PartOf{Bucket: b.id, Key: c.Object, Upload: c.UploadID, Number: after}, store.MaxList)
		if err != nil {
			return nil, err
		}
		for _, part := range page.Parts {
			sizes[part.Number] = part.Size
		}
		after, more = page.Next, page.Truncated
	}
	return sizes, nil
}
