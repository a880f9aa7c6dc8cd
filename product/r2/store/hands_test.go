package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"selvage/product/r2/store"
)

// handedOver is a store whose index goes to another, as to another process, when go is called.
type handedOver struct {
	t      *testing.T
	dir    string
	old    *started
	now    *store.Store // nil until then
	broken error        // of the way to it
}

func newHandedOver(t *testing.T) *handedOver {
	t.Helper()
	h := &handedOver{t: t, dir: t.TempDir()}
	var err error
	h.old, err = start(h.dir, small, func(o *store.Options) {
		o.Aside = func(context.Context) func() (bool, error) { return func() (bool, error) { return h.now == nil, nil } }
		o.Elsewhere = func(ctx context.Context, message []byte) ([]byte, error) {
			if h.broken != nil {
				return nil, h.broken
			}
			return h.now.Settle(ctx, message)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *handedOver) handOver() {
	if h.now == nil {
		h.old.close()
		h.now = open(h.t, h.dir, small)
	}
}

// before is content before whose first byte something happens.
type before struct {
	happens func()
	io.Reader
}

// Read reads.
func (b *before) Read(p []byte) (int, error) {
	if b.happens != nil {
		b.happens()
		b.happens = nil
	}
	return b.Reader.Read(p)
}

// TestPutWhileTheIndexGoes puts objects of all kinds that come while the index changes hands.
func TestPutWhileTheIndexGoes(t *testing.T) {
	for _, size := range []int{0, 1000, 300 << 10} {
		for _, key := range [][]byte{nil, noise(2, 32)} {
			t.Run(fmt.Sprint(size, key != nil), func(t *testing.T) {
				h, content := newHandedOver(t), noise(1, size)
				o, err := h.old.Put(t.Context(), bucket, "key", &before{h.handOver, bytes.NewReader(content)}, store.PutOptions{Size: int64(size), Custom: map[string]string{"a": "b"}, SSECKey: key})
				if err != nil {
					t.Fatal(err)
				}
				if got, err := get(h.now, bucket, "key", store.GetOptions{SSECKey: key}); err != nil || !bytes.Equal(got, content) {
					t.Errorf("there are %d bytes, %v; want %d", len(got), err, size)
				}
				now, err := h.now.Head(t.Context(), bucket, "key")
				if err != nil || now.Version != o.Version || now.ETag != o.ETag || !now.Uploaded.Equal(o.Uploaded) || now.Custom["a"] != "b" {
					t.Errorf("the put was answered with %+v, there is %+v, %v", o, now, err)
				}
			})
		}
	}
}

func TestPartWhileTheIndexGoes(t *testing.T) {
	h, content := newHandedOver(t), noise(1, 300<<10)
	id := begin(t, h.old.Store, "key", store.UploadOptions{})
	part, err := h.old.PutPart(t.Context(), store.PartOf{Bucket: bucket, Key: "key", Upload: id, Number: 1}, &before{h.handOver, bytes.NewReader(content)}, store.PartOptions{Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.now.Complete(t.Context(), bucket, "key", id, store.CompleteOptions{Parts: []store.CompletedPart{{Number: 1, ETag: part.ETag}}}); err != nil {
		t.Fatal(err)
	}
	wantContent(t, h.now, "key", content)
}

// TestRefusedElsewhere has puts refused by whoever has the index by then, of which nothing stays, and by
// nobody, when it is not known what became of them.
func TestRefusedElsewhere(t *testing.T) {
	h, content := newHandedOver(t), noise(1, 300<<10)
	other := func() {
		h.handOver()
		put(t, h.now, "key", []byte("other"))
	}
	o := store.PutOptions{Size: int64(len(content)), If: store.Condition{ETagDoesNotMatch: []string{"*"}}}
	_, err := h.old.Put(t.Context(), bucket, "key", &before{other, bytes.NewReader(content)}, o)
	wantCode(t, "a put whose condition does not hold any more", err, store.CodePreconditionFailed)
	wantContent(t, h.now, "key", []byte("other"))
	if n := countFiles(t, h.old); n != 0 {
		t.Errorf("%d files are left of what was refused", n)
	}

	h = newHandedOver(t)
	h.broken = errors.New("nobody is there")
	if _, err := h.old.Put(t.Context(), bucket, "key", &before{h.handOver, bytes.NewReader(content)}, store.PutOptions{Size: -1}); !errors.Is(err, h.broken) {
		t.Errorf("a put that nobody entered: %v", err)
	}
	if n := countFiles(t, h.old); n != 1 {
		t.Errorf("%d files are there of what may have been entered, want 1", n)
	}
}

// TestReadWhileTheIndexGoes reads an object to its end whose last part lies in the index, which goes and
// forgets it.
func TestReadWhileTheIndexGoes(t *testing.T) {
	h, first, last := newHandedOver(t), noise(1, 300<<10), noise(2, 100)
	id := begin(t, h.old.Store, "key", store.UploadOptions{})
	var o store.CompleteOptions
	for i, content := range [][]byte{first, last} {
		o.Parts = append(o.Parts, putPart(t, h.old.Store, store.PartOf{Bucket: bucket, Key: "key", Upload: id, Number: i + 1}, content, nil))
	}
	if _, err := h.old.Complete(t.Context(), bucket, "key", id, o); err != nil {
		t.Fatal(err)
	}
	r, err := h.old.Get(t.Context(), bucket, "key", store.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	h.old.Leave(t.Context())
	h.handOver()
	defer h.now.Pin()()
	if err := errors.Join(h.now.Delete(t.Context(), bucket, "key"), h.now.Collect(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(got, append(first, last...)) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}
