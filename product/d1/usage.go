package d1

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"selvage/spec"
)

// usage is how large databases are, as far as is known. The zero value knows nothing.
type usage struct {
	mu       sync.Mutex // guards the fields below
	accounts map[string]*accountUsage
}

type accountUsage struct {
	sizes map[string]int64 // by the database's ID
	total int64
}

// note takes in the size of a database.
func (u *usage) note(d *spec.Database, size int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if a := u.accounts[d.AccountID]; a != nil {
		a.total += size - a.sizes[d.ID]
		a.sizes[d.ID] = size
	}
}

// drop takes a database out.
func (u *usage) drop(d *spec.Database) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if a := u.accounts[d.AccountID]; a != nil {
		a.total -= a.sizes[d.ID]
		delete(a.sizes, d.ID)
	}
}

// forget has everything looked up again.
func (u *usage) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.accounts = nil
}

// total returns the bytes of an account's databases. The first time it asks look for each.
func (u *usage) total(account *spec.AccountStorage, accountID string, look func(*spec.Database) int64) int64 {
	u.mu.Lock()
	if a := u.accounts[accountID]; a != nil {
		defer u.mu.Unlock()
		return a.total
	}
	u.mu.Unlock()
	fresh := &accountUsage{sizes: make(map[string]int64, len(account.Databases))}
	for id, d := range account.Databases {
		fresh.sizes[id] = look(d)
		fresh.total += fresh.sizes[id]
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if a := u.accounts[accountID]; a != nil {
		return a.total
	}
	if u.accounts == nil {
		u.accounts = map[string]*accountUsage{}
	}
	u.accounts[accountID] = fresh
	return fresh.total
}

// used returns the bytes of an account's databases.
func (p *D1) used(_ context.Context, accountID string) (int64, error) {
	return p.usage.total(p.o.State.Snapshot().StorageOf(accountID), accountID, p.sizeOnDisk), nil
}

// sizeOnDisk is the size of a database's file: to open thousands of them would take too long.
func (p *D1) sizeOnDisk(d *spec.Database) int64 {
	info, err := os.Stat(filepath.Join(p.o.Dir, "databases", d.AccountID, d.ID, "database.sqlite"))
	if err != nil {
		return 0 // not written yet
	}
	return info.Size()
}

// roomFor refuses to let a database grow whose account is over its quota.
func (p *D1) roomFor(ctx context.Context, d *spec.Database) error {
	used, err := p.used(ctx, d.AccountID)
	if err != nil {
		return err
	}
	return p.bytes.Check(p.o.State.Snapshot(), d.AccountID, used, 1)
}
