package volume_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"selvage/engine/state/powercut"
	"selvage/engine/volume"
	"selvage/engine/volume/volumetest"
	"selvage/foundation/fault"
	"selvage/foundation/filebody"
)

func openLocal(t testing.TB, dir string) *volume.Local {
	t.Helper()
	v, err := volume.OpenLocal(dir, volume.LocalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// find returns the path of a file below dir.
func find(t testing.TB, dir, name string) string {
	t.Helper()
	var path string
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.Name() == name {
			path = p
		}
		return err
	})
	if path == "" {
		t.Fatalf("no file %q below %s", name, dir)
	}
	return path
}

func TestLocal(t *testing.T) { testLocal(t, func(v *volume.Local) *volume.Local { return v }) }

func TestLocalWithNames(t *testing.T) { testLocal(t, (*volume.Local).UseNames) }

func testLocal(t *testing.T, edit func(*volume.Local) *volume.Local) {
	volumetest.Run(t, func(t *testing.T) volumetest.Place {
		dir := filepath.Join(t.TempDir(), "volume")
		return volumetest.Place{
			Volume: edit(openLocal(t, dir)),
			Reopen: func(t *testing.T) volume.Volume { return edit(openLocal(t, dir)) },
			Change: func(t *testing.T, name string, edit func([]byte) []byte) {
				path := find(t, dir, name)
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				os.Remove(path)
				if b = edit(b); b != nil {
					if err := os.WriteFile(path, b, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			},
		}
	})
}

func write(ctx context.Context, v volume.Volume, name string, content []byte) (volume.Content, error) {
	w, err := v.Create(ctx, name, int64(len(content)))
	if err != nil {
		return volume.Content{}, err
	}
	defer w.Abort()
	if _, err := w.Write(content); err != nil {
		return volume.Content{}, err
	}
	return w.Commit()
}

func read(v volume.Volume, c volume.Content) ([]byte, error) {
	r, err := v.Open(context.Background(), c, 0, c.Size)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func TestFilesAreSentAsTheyAreWhenVerifiedLately(t *testing.T) {
	dir := t.TempDir()
	v := openLocal(t, dir)
	content := volumetest.Noise(1, 1<<20)
	c, err := write(t.Context(), v, "sent", content)
	if err != nil {
		t.Fatal(err)
	}
	open := func(v *volume.Local) bool {
		r, err := v.Open(t.Context(), c, 5, 1000)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		f, ok := r.(*filebody.Body)
		var out bytes.Buffer
		if _, err := io.Copy(&out, r); err != nil || !bytes.Equal(out.Bytes(), content[5:1005]) {
			t.Errorf("Open(5, 1000) = %d bytes, %v", out.Len(), err)
		}
		return ok && f != nil
	}
	if !open(v) {
		t.Error("a file that was just written is not sent as it is")
	}
	v = openLocal(t, dir)
	if open(v) {
		t.Error("a file that this process has not looked at is sent as it is")
	}
	if _, err := read(v, c); err != nil {
		t.Fatal(err)
	}
	if !open(v) {
		t.Error("a file that was read through is not sent as it is")
	}
	f, err := os.OpenFile(find(t, dir, "sent"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{content[500_000] ^ 1}, 500_000); err != nil {
		t.Fatal(err)
	}
	if open(v) {
		t.Error("a file that was changed is sent as it is")
	}
	if _, err := read(v, c); !volume.IsDamage(err) {
		t.Errorf("reading a file that was changed: %v, want a Damage", err)
	}
}

func TestTidyLeavesWhatIsBeingWritten(t *testing.T) {
	dir := t.TempDir()
	v := openLocal(t, dir).UseNames()
	w, err := v.Create(t.Context(), "written", -1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, "new", "left")
	if err := os.WriteFile(left, []byte("y"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := openLocal(t, dir).Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what nobody writes is still there: %v", err)
	}
	if _, err := w.Commit(); err != nil {
		t.Errorf("Commit after somebody tidied up: %v", err)
	}
}

func TestReadersGoOnAfterADelete(t *testing.T) {
	v := openLocal(t, t.TempDir())
	content := volumetest.Noise(1, 1<<20)
	c, err := write(t.Context(), v, "deleted", content)
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Open(t.Context(), c, 0, c.Size)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := v.Delete(t.Context(), "deleted"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
		t.Errorf("reading after Delete = %d bytes, %v", len(got), err)
	}
}

func TestNamesAreNotUsedAgain(t *testing.T) {
	v := openLocal(t, t.TempDir())
	first := volumetest.Noise(1, 1000)
	c, err := write(t.Context(), v, "once", first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := write(t.Context(), v, "once", volumetest.Noise(2, 1000)); err == nil {
		t.Error("a second Commit of a name is no error")
	}
	if got, err := read(v, c); err != nil || !bytes.Equal(got, first) {
		t.Errorf("the first content = %d bytes, %v", len(got), err)
	}
}

func TestFullDisk(t *testing.T) {
	err := powercut.OnSmallDisk(t, 48, func(t *testing.T, dir string) {
		v := openLocal(t, filepath.Join(dir, "volume"))
		kept, err := write(t.Context(), v, "kept", volumetest.Noise(1, 10<<20))
		if err != nil {
			t.Fatal(err)
		}
		// Refused at once if the size is known, and while writing if it is not.
		if _, err := v.Create(t.Context(), "announced", 60<<20); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("Create of more than the disk holds: %v, want fault.Unavailable", err)
		}
		w, err := v.Create(t.Context(), "unknown", -1)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = w.Write(volumetest.Noise(2, 1<<20))
		}
		w.Abort()
		if fault.KindOf(err) != fault.Unavailable {
			t.Errorf("writing more than the disk holds: %v, want fault.Unavailable", err)
		}
		count := 0
		v.List(t.Context(), func(volume.Entry) error { count++; return nil })
		if count != 1 {
			t.Errorf("%d contents are listed, want the one that was kept", count)
		}
		if got, err := read(v, kept); err != nil || !bytes.Equal(got, volumetest.Noise(1, 10<<20)) {
			t.Errorf("reading on a full disk = %d bytes, %v", len(got), err)
		}
		if _, err := write(t.Context(), v, "again", volumetest.Noise(3, 10<<20)); err != nil {
			t.Errorf("writing when there is room again: %v", err)
		}
	})
	if err != nil {
		t.Logf("there is no small disk here: %v", err)
	}
}
