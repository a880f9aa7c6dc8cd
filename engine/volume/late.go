package volume

import (
	"context"
	"io"
	"sync"

	"selvage/foundation/fault"
)

// Late is a volume that is opened when it is first used, and again at each use until that succeeds: a
// service that does not answer keeps nobody from starting. Safe for concurrent use.
type Late struct {
	open func(ctx context.Context) (Volume, error)

	mu sync.Mutex // guards the field below, and opening
	v  Volume
}

var _ Volume = (*Late)(nil)

// NewLate returns a volume that open opens.
func NewLate(open func(ctx context.Context) (Volume, error)) *Late { return &Late{open: open} }

func (l *Late) get(ctx context.Context) (Volume, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.v != nil {
		return l.v, nil
	}
	v, err := l.open(ctx)
	if fault.KindOf(err) == fault.Invalid {
		return nil, err
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "The place where large objects are kept does not answer: try again.")
	}
	l.v = v
	return v, nil
}

// Create begins content.
func (l *Late) Create(ctx context.Context, name string, size int64) (Writer, error) {
	v, err := l.get(ctx)
	if err != nil {
		return nil, err
	}
	return v.Create(ctx, name, size)
}

// Open reads content.
func (l *Late) Open(ctx context.Context, c Content, offset, length int64) (io.ReadCloser, error) {
	v, err := l.get(ctx)
	if err != nil {
		return nil, err
	}
	return v.Open(ctx, c, offset, length)
}

// Verify compares content with its checksums.
func (l *Late) Verify(ctx context.Context, c Content, pace func(ctx context.Context, bytes int) error) error {
	v, err := l.get(ctx)
	if err != nil {
		return err
	}
	return v.Verify(ctx, c, pace)
}

// Delete removes content.
func (l *Late) Delete(ctx context.Context, name string) error {
	v, err := l.get(ctx)
	if err != nil {
		return err
	}
	return v.Delete(ctx, name)
}

// List lists content.
func (l *Late) List(ctx context.Context, f func(Entry) error) error {
	v, err := l.get(ctx)
	if err != nil {
		return err
	}
	return v.List(ctx, f)
}

// Tidy removes what was left half written.
func (l *Late) Tidy(ctx context.Context) error {
	v, err := l.get(ctx)
	if err != nil {
		return err
	}
	return v.Tidy(ctx)
}
