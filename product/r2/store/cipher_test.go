package store

import (
	"bytes"
	"io"
	"testing"
)

// TestSealedBlocksCannotBeMoved changes what was sealed in ways that checksums would not notice if somebody
// made them anew.
func TestSealedBlocksCannotBeMoved(t *testing.T) {
	key, name := bytes.Repeat([]byte{1}, 32), newID()
	c, err := newSealing(key, name)
	if err != nil {
		t.Fatal(err)
	}
	const blocks, size = 3, 3 * sealBlock
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	var sealed bytes.Buffer
	w := newSealer(c, &sealed)
	w.Write(content)
	if err := w.Close(); err != nil || int64(sealed.Len()) != sealedSize(size) {
		t.Fatalf("sealed %d bytes, %v; want %d", sealed.Len(), err, sealedSize(size))
	}
	open := func(c sealing, b []byte, size int64) ([]byte, error) {
		return io.ReadAll(newOpener(c, io.NopCloser(bytes.NewReader(b)), size, Range{Length: size}))
	}
	if got, err := open(c, sealed.Bytes(), size); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("opening what was sealed = %d bytes, %v", len(got), err)
	}
	block := func(i int) []byte {
		return sealed.Bytes()[i*(sealBlock+sealTag) : (i+1)*(sealBlock+sealTag)]
	}
	for what, b := range map[string][]byte{
		"blocks exchanged": bytes.Join([][]byte{block(1), block(0), block(2)}, nil),
		"a block twice":    bytes.Join([][]byte{block(0), block(0), block(2)}, nil),
	} {
		if _, err := open(c, b, size); err == nil {
			t.Errorf("%s: opened", what)
		}
	}
	if _, err := open(c, sealed.Bytes()[:2*(sealBlock+sealTag)], 2*sealBlock); err == nil {
		t.Error("cut after a block: opened, though the last block is missing")
	}
	other, err := newSealing(key, newID())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(other, sealed.Bytes(), size); err == nil {
		t.Error("opened as another segment's")
	}
	for i := range blocks {
		flipped := bytes.Clone(sealed.Bytes())
		flipped[i*(sealBlock+sealTag)+5] ^= 1
		if _, err := open(c, flipped, size); err == nil {
			t.Errorf("a bit of block %d was flipped: opened", i)
		}
	}
}
