package store

import (
	"context"
	"io"
	"time"

	"selvage/foundation/fault"
)

var errSoon = fault.New(fault.Unsupported, "Being built in this hour.")

// Copy copies an object on the server.
func (s *Store) Copy(ctx context.Context, from Bucket, fromKey string, to Target, o CopyOptions) (*Object, error) {
	return nil, errSoon
}

// CreateUpload begins a multipart upload.
func (s *Store) CreateUpload(ctx context.Context, b Bucket, key string, o UploadOptions) (*Upload, error) {
	return nil, errSoon
}

// Upload returns an upload under way, or CodeNoSuchUpload.
func (s *Store) Upload(ctx context.Context, b Bucket, key, upload string) (*Upload, error) {
	return nil, errSoon
}

// PutPart stores one part.
func (s *Store) PutPart(ctx context.Context, p PartOf, body io.Reader, o PartOptions) (*Part, error) {
	return nil, errSoon
}

// CopyPart makes a part of an object.
func (s *Store) CopyPart(ctx context.Context, p PartOf, from Bucket, fromKey string, o CopyPartOptions) (*Part, error) {
	return nil, errSoon
}

// Complete makes the object.
func (s *Store) Complete(ctx context.Context, b Bucket, key, upload string, o CompleteOptions) (*Object, error) {
	return nil, errSoon
}

// Abort ends an upload; ended ones are no error, unknown ones CodeNoSuchUpload.
func (s *Store) Abort(ctx context.Context, b Bucket, key, upload string) error { return errSoon }

// ListParts lists the parts of an upload after a number.
func (s *Store) ListParts(ctx context.Context, p PartOf, limit int) (*PartListing, error) {
	return nil, errSoon
}

// ListUploads lists the uploads of a bucket.
func (s *Store) ListUploads(ctx context.Context, b Bucket, o UploadListOptions) (*UploadListing, error) {
	return nil, errSoon
}

// Drop removes a bucket with all that is in it, in the background.
func (s *Store) Drop(ctx context.Context, b Bucket) error { return errSoon }

// ApplyLifecycle does what the rules say.
func (s *Store) ApplyLifecycle(ctx context.Context, b Bucket, rules []Rule, now time.Time) (LifecycleReport, error) {
	return LifecycleReport{}, errSoon
}

// Export writes a bucket to a directory.
func (s *Store) Export(ctx context.Context, b Bucket, dir string) (ExportReport, error) {
	return ExportReport{}, errSoon
}

// Scrub reads all content once, as fast as rate allows; 0: as the options say; -1: unlimited.
func (s *Store) Scrub(ctx context.Context, rate int64) (ScrubReport, error) {
	return ScrubReport{}, errSoon
}

// LastScrub returns the report of the run under way, or of the last one.
func (s *Store) LastScrub() ScrubReport { return ScrubReport{} }

// Damages lists content found damaged: of an account, or with "" of all.
func (s *Store) Damages(account string) ([]Damage, error) { return nil, errSoon }

type scrubState struct{ ask chan struct{} }

func (s *Store) dropAll(ctx context.Context) error    { return nil }
func (s *Store) scrubOften(ctx context.Context) error { return nil }

func (s *Store) report(n *session, b Bucket, key string, err error) {}
