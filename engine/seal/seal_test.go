package seal_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"selvage/engine/seal"
)

func open(t *testing.T, path string) *seal.Key {
	t.Helper()
	k, err := seal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSealedOpensOnlyInItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.key")
	k := open(t, path)
	plain, ctx := []byte("hunter2"), []byte("account/script/NAME")
	sealed := k.Seal(plain, ctx)
	if bytes.Contains(sealed, plain) {
		t.Fatalf("sealed value %q shows the secret", sealed)
	}
	if again := k.Seal(plain, ctx); bytes.Equal(again, sealed) {
		t.Error("sealing twice gave the same bytes")
	}
	// A restart reads the same key.
	got, err := open(t, path).Open(sealed, ctx)
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("Open = %q, %v, want %q", got, err, plain)
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	other := open(t, filepath.Join(t.TempDir(), "other.key"))
	for name, f := range map[string]func() ([]byte, error){
		"another context": func() ([]byte, error) { return k.Open(sealed, []byte("account/script/OTHER")) },
		"another key":     func() ([]byte, error) { return other.Open(sealed, ctx) },
		"changed":         func() ([]byte, error) { return k.Open(changed, ctx) },
		"cut short":       func() ([]byte, error) { return k.Open(sealed[:10], ctx) },
		"empty":           func() ([]byte, error) { return k.Open(nil, ctx) },
		"another format":  func() ([]byte, error) { return k.Open(append([]byte{9}, sealed[1:]...), ctx) },
	} {
		if got, err := f(); !errors.Is(err, seal.ErrOpen) || got != nil {
			t.Errorf("Open of %s = %q, %v, want ErrOpen", name, got, err)
		}
	}
	if got, err := k.Open(k.Seal(nil, nil), nil); err != nil || len(got) != 0 {
		t.Errorf("Open of an empty secret = %q, %v", got, err)
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seal.key")
	open(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file has mode %v, %v, want 0600", info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("making a key left %v", left)
	}
	for name, tt := range map[string]struct {
		text string
		mode os.FileMode
		says string
	}{
		"readable by others": {strings.Repeat("ab", 32), 0o640, "0600"},
		"empty":              {"", 0o600, "restore it"},
		"too short":          {strings.Repeat("ab", 16), 0o600, "restore it"},
		"no digits":          {strings.Repeat("xy", 32), 0o600, "restore it"},
	} {
		bad := filepath.Join(dir, "bad")
		if err := os.WriteFile(bad, []byte(tt.text), tt.mode); err != nil {
			t.Fatal(err)
		}
		os.Chmod(bad, tt.mode)
		if _, err := seal.Open(bad); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("Open of a key file that is %s = %v, want one that says %q", name, err, tt.says)
		}
		if text, _ := os.ReadFile(bad); string(text) != tt.text {
			t.Errorf("Open replaced a key file that is %s", name)
		}
		os.Remove(bad)
	}
	if _, err := seal.Open(filepath.Join(dir, "none", "seal.key")); err == nil {
		t.Error("Open in a missing directory made a key")
	}
	if _, err := seal.Open(dir); err == nil {
		t.Error("Open of a directory succeeded")
	}
}

func TestFirstStartsAtOnceShareOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.key")
	keys := make([]*seal.Key, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() { keys[i], _ = seal.Open(path) })
	}
	wg.Wait()
	sealed := keys[0].Seal([]byte("x"), nil)
	for i, k := range keys {
		if _, err := k.Open(sealed, nil); err != nil {
			t.Errorf("key %d differs: %v", i, err)
		}
	}
}
