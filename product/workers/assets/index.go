package assets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"selvage/engine/blob"
	"selvage/foundation/fault"
)

// index says, per account, which content stands behind the hashes that its clients named: the same
// hash of another account leads nowhere. It is a folder per account of symbolic links whose target
// is the entry: made in one step, read in one, and whole or not there after a crash.
//
// A link is called after the hash if the hash was checked against the content. Otherwise the name
// has the session's ID behind it, and the entry counts in that session only.
type index struct {
	dir string
}

// entry is the content behind a hash.
type entry struct {
	digest string // in the blob store
	size   int64
	kind   string // content type, empty if the client gave none
}

var accountID = regexp.MustCompile(`^[0-9a-zA-Z_-]{1,64}$`)

func (x index) folder(account string) (string, error) {
	if !accountID.MatchString(account) {
		return "", fmt.Errorf("account ID %q cannot name a folder", account)
	}
	return filepath.Join(x.dir, account), nil
}

// get returns the entry of a hash in a session of an account.
func (x index) get(account, hash, session string) (entry, bool) {
	dir, err := x.folder(account)
	if err != nil {
		return entry{}, false
	}
	for _, name := range []string{hash, hash + "." + session} {
		target, err := os.Readlink(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if e, ok := parseEntry(target); ok {
			return e, true
		}
	}
	return entry{}, false
}

func parseEntry(target string) (entry, bool) {
	digest, rest, _ := strings.Cut(target, ":")
	size, kind, ok := strings.Cut(rest, ":")
	n, err := strconv.ParseInt(size, 10, 64)
	return entry{digest, n, kind}, ok && err == nil && blob.IsDigest(digest)
}

// put sets an entry. It is durable after sync. A session of "" is for hashes that were checked.
func (x index) put(account, hash, session string, e entry) error {
	dir, err := x.folder(account)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err == nil {
		err = syncFolder(x.dir)
		if err != nil {
			return refuse(dir, err)
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return refuse(dir, err)
	}
	name := filepath.Join(dir, hash)
	if session != "" {
		name += "." + session
	}
	target := e.digest + ":" + strconv.FormatInt(e.size, 10) + ":" + e.kind
	err = os.Symlink(target, name)
	if !errors.Is(err, fs.ErrExist) {
		return refuse(dir, err)
	}
	if old, err := os.Readlink(name); err == nil && old == target {
		return nil
	}
	aside := name + ".new" + strconv.FormatInt(time.Now().UnixNano(), 36)
	if err := os.Symlink(target, aside); err != nil {
		return refuse(dir, err)
	}
	if err := os.Rename(aside, name); err != nil {
		os.Remove(aside)
		return refuse(dir, err)
	}
	return nil
}

// sync makes what was put for an account durable.
func (x index) sync(account string) error {
	dir, err := x.folder(account)
	if err != nil {
		return err
	}
	return refuse(dir, syncFolder(dir))
}

func refuse(dir string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.Wrap(err, fault.Unavailable, "The disk under %s is full. Free some space there, then try again.", dir)
	}
	return err
}

// Sweep removes entries whose content is no longer in the blob store, and those of sessions that
// are over. Run it after content was deleted; uploads may go on meanwhile.
func (st *Store) Sweep(ctx context.Context) error {
	accounts, err := os.ReadDir(st.index.dir)
	if err != nil {
		return fmt.Errorf("list accounts with assets: %w", err)
	}
	for _, a := range accounts {
		if err := st.sweepAccount(ctx, filepath.Join(st.index.dir, a.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (st *Store) sweepAccount(ctx context.Context, dir string) error {
	links, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list assets: %w", err)
	}
	over := st.o.Clock.Now().Add(-2 * tokenLife)
	for _, l := range links {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := filepath.Join(dir, l.Name())
		target, err := os.Readlink(path)
		if err != nil {
			continue
		}
		e, ok := parseEntry(target)
		keep := ok && st.o.Blobs.Has(e.digest)
		if info, err := l.Info(); err == nil && strings.Contains(l.Name(), ".") && info.ModTime().Before(over) {
			keep = false
		}
		if keep {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an entry of assets: %w", err)
		}
	}
	return nil
}
