package api

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"selvage/product"
	"selvage/spec"
)

// keyring holds users and tokens in memory, so that authentication is one look-up by hash. The
// state is read once; after that only the API changes them, through edit.
type keyring struct {
	groups *groups
	edits  sync.Mutex // one edit at a time, so that the order in memory is that of the state
	now    atomic.Pointer[keys]
}

// keys is one immutable state of the ring.
type keys struct {
	users  map[string]*spec.User
	tokens map[string]*key // by ID
	hashes map[string]*key
}

// key is a token ready to use.
type key struct {
	token       *spec.Token
	user        *spec.User // who owns it; nil for a token that an account owns
	rules       []rule
	allow, deny []netip.Prefix
	used        *atomic.Int64 // when last, in Unix seconds; 0 never since this node started
}

// loadKeyring reads all users and tokens. A token that this version cannot make sense of is left
// out, not fatal: it lets nobody in.
func loadKeyring(ctx context.Context, state product.State, g *groups, log *slog.Logger) (*keyring, error) {
	ring := &keyring{groups: g}
	ks := &keys{users: map[string]*spec.User{}, tokens: map[string]*key{}, hashes: map[string]*key{}}
	var tokens []*spec.Token
	// An update that changes nothing reads one consistent state.
	err := state.Update(ctx, spec.Actor{Via: "node"}, func(tx product.Tx) error {
		for n, err := range tx.List(spec.KindUser, "") {
			if err != nil {
				return err
			}
			u := n.(*spec.User)
			ks.users[u.ID] = u
		}
		for n, err := range tx.List(spec.KindToken, "") {
			if err != nil {
				return err
			}
			tokens = append(tokens, n.(*spec.Token))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, t := range tokens {
		if err := ring.put(ks, t); err != nil {
			log.Error("token cannot be used", "token", t.ID, "error", err)
		}
	}
	ring.now.Store(ks)
	return ring, nil
}

// put makes a token usable in ks.
func (ring *keyring) put(ks *keys, t *spec.Token) error {
	rules, err := ring.groups.compile(t.Policies)
	if err != nil {
		return err
	}
	k := &key{token: t, user: ks.users[t.UserID], rules: rules, used: new(atomic.Int64)}
	if old := ks.tokens[t.ID]; old != nil {
		k.used = old.used
		delete(ks.hashes, old.token.Hash)
	}
	for _, list := range []struct {
		from []string
		to   *[]netip.Prefix
	}{{t.AllowIPs, &k.allow}, {t.DenyIPs, &k.deny}} {
		for _, s := range list.from {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				return err
			}
			*list.to = append(*list.to, p)
		}
	}
	ks.tokens[t.ID], ks.hashes[t.Hash] = k, k
	return nil
}

func (ring *keyring) byHash(hash string) *key      { return ring.now.Load().hashes[hash] }
func (ring *keyring) token(id string) *key         { return ring.now.Load().tokens[id] }
func (ring *keyring) user(id string) *spec.User    { return ring.now.Load().users[id] }
func (ring *keyring) users() map[string]*spec.User { return ring.now.Load().users }

// list returns the tokens that keep wants, in order of issue.
func (ring *keyring) list(keep func(t *spec.Token) bool) []*key {
	var all []*key
	for _, k := range ring.now.Load().tokens {
		if keep(k.token) {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, func(a, b *key) int {
		if c := a.token.IssuedOn.Compare(b.token.IssuedOn); c != 0 {
			return c
		}
		return slices.Compare([]byte(a.token.ID), []byte(b.token.ID))
	})
	return all
}

// edit runs fn in an update of the state and, when that is durable, takes over the users and
// tokens that fn put or deleted through it.
func (ring *keyring) edit(ctx context.Context, state product.State, actor spec.Actor, fn func(tx product.Tx) error) error {
	ring.edits.Lock()
	defer ring.edits.Unlock()
	watched := &watchedTx{}
	err := state.Update(ctx, actor, func(tx product.Tx) error {
		*watched = watchedTx{Tx: tx}
		return fn(watched)
	})
	if err != nil {
		return err
	}
	old := ring.now.Load()
	next := &keys{users: cloneMap(old.users), tokens: cloneMap(old.tokens), hashes: cloneMap(old.hashes)}
	for _, u := range watched.users {
		next.users[u.ID] = u
	}
	for _, t := range watched.tokens {
		if err := ring.put(next, t); err != nil {
			return err
		}
	}
	for _, id := range watched.gone {
		if k := next.tokens[id]; k != nil {
			delete(next.tokens, id)
			delete(next.hashes, k.token.Hash)
		}
	}
	for id, k := range next.tokens {
		if u := next.users[k.token.UserID]; u != k.user {
			own := *k
			own.user = u
			next.tokens[id], next.hashes[own.token.Hash] = &own, &own
		}
	}
	ring.now.Store(next)
	return nil
}

func cloneMap[V any](m map[string]V) map[string]V {
	c := make(map[string]V, len(m)+1)
	for k, v := range m {
		c[k] = v
	}
	return c
}

// watchedTx remembers which users and tokens an update touches.
type watchedTx struct {
	product.Tx
	users  []*spec.User
	tokens []*spec.Token
	gone   []string
}

// Put stores n.
func (w *watchedTx) Put(n spec.Noun) error {
	if err := w.Tx.Put(n); err != nil {
		return err
	}
	switch n := n.(type) {
	case *spec.User:
		w.users = append(w.users, n)
	case *spec.Token:
		w.tokens = append(w.tokens, n)
	}
	return nil
}

// Delete removes the noun.
func (w *watchedTx) Delete(key spec.Key) error {
	if err := w.Tx.Delete(key); err != nil {
		return err
	}
	if key.Kind == spec.KindToken {
		w.gone = append(w.gone, key.ID)
	}
	return nil
}
