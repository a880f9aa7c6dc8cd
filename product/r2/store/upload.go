package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"selvage/engine/state"
)

// CreateUpload begins a multipart upload.
func (s *Store) CreateUpload(_ context.Context, b Bucket, key string, o UploadOptions) (*Upload, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if err := checkMetadata(o.Custom); err != nil {
		return nil, err
	}
	class, err := checkClass(o.StorageClass)
	if err != nil {
		return nil, err
	}
	if err := checkUploadSum(o.Checksum, o.Composite); err != nil {
		return nil, err
	}
	cipher, keyMD5, err := newSSEC(o.SSECKey)
	if err != nil {
		return nil, err
	}
	n, err := s.session()
	if err != nil {
		return nil, err
	}
	rec := &Object{
		Key: key, Uploaded: s.now(), HTTP: o.HTTP, Custom: o.Custom, StorageClass: class, SSECKeyMD5: keyMD5,
		Checksums: Checksums{Composite: o.Composite}, content: content{checksum: o.Checksum, ssec: cipher},
	}
	var u uploadID
	binary.BigEndian.PutUint64(u[:], uint64(s.o.Clock.Now().UnixNano()))
	rand.Read(u[8:])
	c := s.begin(n, b)
	c.put(s.uploadKey(b, key, u), rec.encode())
	c.usage.Uploads = 1
	a, err := c.apply()
	if err != nil {
		return nil, err
	}
	return rec.upload(u), a.wait()
}

func checkUploadSum(kind string, composite bool) error {
	switch kind {
	case "", CRC32, CRC32C:
		return nil
	case SHA1, SHA256:
		if !composite {
			return errArgument("The checksum %s of a multipart upload can only be composite: that of a whole cannot be made from those of its parts.", kind)
		}
		return nil
	case CRC64NVME:
		if composite {
			return errArgument("The checksum crc64nvme of a multipart upload is always that of the whole object.")
		}
		return nil
	}
	return errArgument("There is no checksum %.20q for multipart uploads.", kind)
}

func (o *Object) upload(u uploadID) *Upload {
	return &Upload{ID: u.String(), Key: o.Key, Initiated: o.Uploaded, StorageClass: o.StorageClass, Checksum: o.content.checksum, Composite: o.Checksums.Composite, SSECKeyMD5: o.SSECKeyMD5}
}

// Upload returns an upload under way, or CodeNoSuchUpload.
func (s *Store) Upload(_ context.Context, b Bucket, key, upload string) (*Upload, error) {
	n, err := s.session()
	if err != nil {
		return nil, err
	}
	u, rec, err := s.underWay(n, b, key, upload)
	if err != nil {
		return nil, err
	}
	return rec.upload(u), nil
}

// underWay returns the record of an upload, or CodeNoSuchUpload.
func (s *Store) underWay(n *session, b Bucket, key, upload string) (uploadID, *Object, error) {
	u, ok := parseUploadID(upload)
	if !ok || CheckKey(key) != nil {
		return u, nil, errNoSuchUpload()
	}
	raw, err := n.db.Get(s.uploadKey(b, key, u))
	if err != nil {
		return u, nil, err
	}
	if raw == nil {
		return u, nil, errNoSuchUpload()
	}
	rec, err := decodeObject(key, raw)
	return u, rec, err
}

// lockUpload keeps an upload from ending while a part takes its place.
func lockUpload(b Bucket, u uploadID) lockName { return lockName{b, "\x00" + string(u[:])} }

// PutPart stores one part, in place of the one with its number. It returns when that is durable.
func (s *Store) PutPart(ctx context.Context, p PartOf, body io.Reader, o PartOptions) (*Part, error) {
	if p.Number < 1 || p.Number > MaxParts {
		return nil, errArgument("Part number must be an integer between 1 and %d, inclusive.", MaxParts)
	}
	n, err := s.session()
	if err != nil {
		return nil, err
	}
	_, rec, err := s.underWay(n, p.Bucket, p.Key, p.Upload)
	if err != nil {
		return nil, err
	}
	if err := rec.content.ssec.check(o.SSECKey); err != nil {
		return nil, err
	}
	compute := o.Compute
	if rec.content.checksum != "" {
		compute = append([]string{rec.content.checksum}, compute...)
	}
	in, err := s.take(ctx, n, body, intake{size: o.Size, key: o.SSECKey, compute: compute, expect: o.Expect, trailer: o.Trailer})
	if err != nil {
		return nil, err
	}
	defer in.release()
	part := &Object{Key: p.Key, Size: in.size, ETag: fmt.Sprintf("%x", in.sums.MD5), Checksums: in.sums, content: content{version: newID(), segments: in.segments}}
	if in.here {
		part, err = s.enterPart(in.n, p, part, in)
	} else {
		part, err = s.elsewhere(ctx, in, settlement{Bucket: p.Bucket, Key: p.Key, Record: part.encode(), Upload: p.Upload, Number: p.Number})
	}
	if err != nil {
		return nil, err
	}
	return part.part(p.Number), nil
}

// enterPart puts a part in the place of the one with its number, and returns when that is durable.
func (s *Store) enterPart(n *session, p PartOf, part *Object, in *taken) (*Object, error) {
	u, ok := parseUploadID(p.Upload)
	if !ok {
		return nil, errNoSuchUpload()
	}
	a, err := s.putPartLocked(n, p, part, in, s.lock(lockUpload(p.Bucket, u)))
	if err != nil {
		return nil, err
	}
	return part, a.wait()
}

func (s *Store) putPartLocked(n *session, p PartOf, part *Object, in *taken, unlock func()) (*applied, error) {
	defer unlock()
	u, _, err := s.underWay(n, p.Bucket, p.Key, p.Upload)
	if err != nil {
		return nil, err
	}
	at := s.partKey(p.Bucket, u, p.Number)
	raw, err := n.db.Get(at)
	if err != nil {
		return nil, err
	}
	part.Uploaded = s.now()
	c := s.begin(n, p.Bucket)
	if raw != nil {
		old, err := decodeObject(p.Key, raw)
		if err != nil {
			c.batch.Drop()
			return nil, err
		}
		c.discard(old.content.segments, false)
		c.usage.UploadBytes -= old.Size
	}
	c.keep(in, p.Key, p.Upload)
	c.put(at, part.encode())
	c.usage.UploadBytes += part.Size
	a, err := c.apply()
	in.kept = err == nil
	return a, err
}

func (o *Object) part(number int) *Part {
	return &Part{Number: number, ETag: o.ETag, Size: o.Size, Uploaded: o.Uploaded, Checksums: o.Checksums}
}

// CopyPart makes a part of an object, or of a range of it. The content is copied.
func (s *Store) CopyPart(ctx context.Context, p PartOf, from Bucket, fromKey string, o CopyPartOptions) (*Part, error) {
	r, err := s.Get(ctx, from, fromKey, GetOptions{If: o.IfSource, Range: o.Range, SSECKey: o.SourceSSECKey})
	if err != nil {
		return nil, err
	}
	if r.Failed != Held {
		return nil, errPrecondition()
	}
	defer r.Body.Close()
	return s.PutPart(ctx, p, r.Body, PartOptions{Size: r.Range.Length, SSECKey: o.SSECKey})
}

// ListParts lists up to limit parts of an upload, 0 is MaxList, that come after p.Number.
func (s *Store) ListParts(_ context.Context, p PartOf, limit int) (*PartListing, error) {
	limit, err := limitOf(limit)
	if err != nil {
		return nil, err
	}
	n, err := s.session()
	if err != nil {
		return nil, err
	}
	u, rec, err := s.underWay(n, p.Bucket, p.Key, p.Upload)
	if err != nil {
		return nil, err
	}
	l := &PartListing{Upload: rec.upload(u)}
	if p.Number >= MaxParts {
		return l, nil
	}
	r := state.Prefix(s.partsKey(p.Bucket, u))
	r.Lower = s.partKey(p.Bucket, u, max(p.Number, 0)+1)
	for pair, err := range n.db.Scan(r) {
		if err != nil {
			return nil, err
		}
		if len(l.Parts) == limit {
			l.Truncated = true
			break
		}
		part, err := decodeObject(p.Key, pair.Value)
		if err != nil {
			return nil, err
		}
		l.Next = partNumber(pair.Key)
		l.Parts = append(l.Parts, part.part(l.Next))
	}
	return l, nil
}

func partNumber(key []byte) int { return int(binary.BigEndian.Uint16(key[len(key)-2:])) }

// ListUploads lists uploads under way.
func (s *Store) ListUploads(_ context.Context, b Bucket, o UploadListOptions) (*UploadListing, error) {
	limit, err := limitOf(o.Limit)
	if err != nil {
		return nil, err
	}
	n, err := s.session()
	if err != nil {
		return nil, err
	}
	base := s.bucketKey(tableUpload, b)
	w := &uploadListing{listing{base: base, prefix: o.Prefix, delimiter: o.Delimiter, limit: limit}, &UploadListing{}}
	from := appendEscaped(bytes.Clone(base), o.Prefix)
	upper := beyond(from)
	if o.AfterKey != "" && o.AfterKey >= o.Prefix {
		from = w.after(o)
	}
	for from != nil && bytes.Compare(from, upper) < 0 {
		if from, err = w.run(n.db, state.Range{Lower: from, Upper: upper}); err != nil {
			return nil, err
		}
	}
	return w.out, nil
}

// uploadListing is a page of uploads in the making.
type uploadListing struct {
	listing
	out *UploadListing
}

func (w *uploadListing) after(o UploadListOptions) []byte {
	if common, ok := w.common(o.AfterKey); ok && common == o.AfterKey {
		return beyond(appendEscaped(bytes.Clone(w.base), common))
	}
	k := appendEnded(bytes.Clone(w.base), o.AfterKey)
	if u, ok := parseUploadID(o.AfterUpload); ok {
		return after(append(k, u[:]...))
	}
	return beyond(k)
}

func (w *uploadListing) run(db *state.DB, r state.Range) (next []byte, err error) {
	for p, err := range db.Scan(r) {
		if err != nil {
			return nil, err
		}
		if len(w.out.Uploads)+len(w.out.Prefixes) == w.limit {
			w.out.Truncated = true
			return nil, nil
		}
		key, u, ok := splitUpload(p.Key[len(w.base):])
		if !ok {
			return nil, errRecord
		}
		if common, ok := w.common(key); ok {
			w.out.Prefixes = append(w.out.Prefixes, common)
			w.out.NextKey, w.out.NextUpload = common, ""
			return beyond(appendEscaped(bytes.Clone(w.base), common)), nil
		}
		rec, err := decodeObject(key, p.Value)
		if err != nil {
			return nil, err
		}
		w.out.Uploads = append(w.out.Uploads, rec.upload(u))
		w.out.NextKey, w.out.NextUpload = key, u.String()
	}
	return nil, nil
}

func splitUpload(k []byte) (key string, u uploadID, ok bool) {
	key, rest, ok := splitEnded(k)
	if !ok || len(rest) != len(u) {
		return "", u, false
	}
	return key, uploadID(rest), true
}

// Abort ends an upload and gives its parts up. An upload that ended already is no error; one that never
// was is CodeNoSuchUpload.
func (s *Store) Abort(_ context.Context, b Bucket, key, upload string) error {
	n, err := s.session()
	if err != nil {
		return err
	}
	u, ok := parseUploadID(upload)
	if !ok {
		return errNoSuchUpload()
	}
	a, err := s.abortLocked(n, b, key, u, s.lock(lockUpload(b, u)))
	if err != nil || a == nil {
		return err
	}
	return a.wait()
}

func (s *Store) abortLocked(n *session, b Bucket, key string, u uploadID, unlock func()) (*applied, error) {
	defer unlock()
	_, _, err := s.underWay(n, b, key, u.String())
	if CodeOf(err) == CodeNoSuchUpload {
		ended, gerr := n.db.Get(s.endedKey(b, u))
		if gerr != nil || ended != nil && string(ended[8:]) == key {
			return nil, gerr
		}
	}
	if err != nil {
		return nil, err
	}
	parts, err := s.partsOf(n, b, key, u)
	if err != nil {
		return nil, err
	}
	c := s.begin(n, b)
	c.endUpload(key, u, parts)
	for i := range parts {
		c.discard(parts[i].content.segments, false)
	}
	return c.apply()
}

// numbered is a part with its number.
type numbered struct {
	*Object
	number int
}

// partsOf returns all parts of an upload in their order.
func (s *Store) partsOf(n *session, b Bucket, key string, u uploadID) (parts []numbered, err error) {
	for p, err := range n.db.Scan(state.Prefix(s.partsKey(b, u))) {
		if err != nil {
			return nil, err
		}
		part, err := decodeObject(key, p.Value)
		if err != nil {
			return nil, err
		}
		parts = append(parts, numbered{part, partNumber(p.Key)})
	}
	return parts, nil
}

// endUpload removes the records of an upload, and remembers that it was.
func (c *change) endUpload(key string, u uploadID, parts []numbered) {
	c.delete(c.s.uploadKey(c.bucket, key, u))
	c.put(c.s.endedKey(c.bucket, u), append(binary.BigEndian.AppendUint64(nil, uint64(c.s.now().UnixMilli())), key...))
	c.usage.Uploads--
	for _, p := range parts {
		c.usage.UploadBytes -= p.Size
		if len(parts) <= 64 {
			c.delete(c.s.partKey(c.bucket, u, p.number))
		}
	}
	if len(parts) > 64 && c.err == nil {
		c.err = c.batch.DeleteRange(state.Prefix(c.s.partsKey(c.bucket, u)))
	}
}

const expireEvery = time.Hour

// expireOften ends uploads that are too old, and forgets those that ended long ago.
func (s *Store) expireOften(ctx context.Context) error {
	for {
		if err := s.Expire(ctx); err != nil && ctx.Err() == nil {
			s.o.Observe.Logger().Warn("old uploads of R2 could not be ended; it is tried again", "error", err, "again", expireEvery)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(expireEvery):
		}
	}
}

// Expire ends uploads that are older than UploadExpiry. Run does so by itself.
func (s *Store) Expire(ctx context.Context) error {
	oldest := s.o.Clock.Now().Add(-UploadExpiry)
	head := len(s.table(tableUpload))
	err := s.scan(ctx, state.Prefix(s.table(tableUpload)), func(p state.Pair) error {
		b, rest, ok := splitBucket(p.Key[head:])
		if !ok {
			return errRecord
		}
		key, u, ok := splitUpload(rest)
		if !ok {
			return errRecord
		}
		if !uploadedOf(p.Value).Before(oldest) {
			return nil
		}
		return s.Abort(ctx, b, key, u.String())
	})
	if err != nil {
		return err
	}
	return s.scan(ctx, state.Prefix(s.table(tableEnded)), func(p state.Pair) error {
		if len(p.Value) >= 8 && time.UnixMilli(int64(binary.BigEndian.Uint64(p.Value))).Before(oldest) {
			return s.drop(bytes.Clone(p.Key))
		}
		return nil
	})
}

// drop removes a key that nobody depends on.
func (s *Store) drop(key []byte) error {
	n, err := s.session()
	if err != nil {
		return err
	}
	return barrier(n.db, key)
}
