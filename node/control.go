package node

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/control/api"
	"selvage/control/store"
	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

const (
	openWithin = 2 * time.Minute  // reading a large store
	retryAfter = 10 * time.Second // between two tries to open a broken one
)

// control is the control plane while it is open: the store and what stands on it. Sites are served
// without it.
type control struct {
	turn    sync.Mutex // one opening or closing at a time; guards the fields below
	db      *state.DB
	store   *store.Store
	work    *background
	stop    context.CancelFunc // ends tries to open a broken store
	retries sync.WaitGroup
	backups sync.Mutex // one backup at a time

	broken  atomic.Pointer[string] // why the store is not open; nil if it is
	owner   atomic.Pointer[api.Owner]
	keys    atomic.Pointer[api.API]             // knows the tokens that S3 clients sign with; the last one while the store is closed
	metrics atomic.Pointer[prometheus.Registry] // of this opening, for each registers anew
}

// openControl opens the store and lets requests into the API. If that fails the API says why, and
// it is tried again until closeControl.
func (n *Node) openControl() error {
	c := &n.control
	c.turn.Lock()
	defer c.turn.Unlock()
	err := n.tryControl()
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(n.life)
	c.stop = cancel
	c.retries.Go(func() { n.retryControl(ctx) })
	return err
}

func (n *Node) retryControl(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryAfter):
		}
		n.control.turn.Lock()
		err := ctx.Err()
		if err == nil {
			err = n.tryControl()
		}
		n.control.turn.Unlock()
		if err == nil {
			return
		}
	}
}

// tryControl is one try to open the store, bring its newest state into effect, and open the API.
func (n *Node) tryControl() error {
	err := n.openStore()
	if err != nil && n.launch.Rebuild {
		n.closeStore()
		n.launch.Rebuild = false
		if err = n.rebuildStore(n.life); err == nil {
			err = n.openStore()
		}
	}
	if err == nil {
		n.control.broken.Store(nil)
		n.health.set("store", "", true)
		return nil
	}
	n.closeStore()
	n.log.Error("store cannot be opened; sites are served as they were, nothing can be changed", "error", err, "again", retryAfter)
	reason := fmt.Sprintf("The configuration store cannot be opened, so nothing can be read or changed; sites are served as they were. %s "+
		"To go on from the last good configuration, without tokens and audit log, start the node once with --rebuild.", forUsers(err))
	n.control.broken.Store(&reason)
	n.health.set("store", reason, true)
	n.state.close(reason)
	n.door.shut(reason)
	return err
}

// storeTrouble shows in the node's status why nothing can be changed for now; sites are served on.
func (n *Node) storeTrouble(why error) {
	text := ""
	if why != nil {
		text = forUsers(why)
	}
	n.health.set("store", text, true)
}

// forUsers returns the part of an error that is meant for people.
func forUsers(err error) string {
	if faults := fault.All(err); len(faults) > 0 {
		return faults[0].Message
	}
	return "The node's log says why."
}

func (n *Node) openStore() error {
	c := &n.control
	ctx, cancel := context.WithTimeout(n.life, openWithin)
	defer cancel()
	observe := observe.Observer{Log: n.log, Metrics: prometheus.NewRegistry(), Events: n.observe.Events}
	var err error
	dir := filepath.Join(n.config.Data, "state")
	if c.db, err = state.Open(dir, state.Options{Observe: observe, LockWait: replyWithin, Trouble: n.storeTrouble}); err != nil {
		return err
	}
	if c.store, err = store.Open(ctx, c.db, store.Options{Observe: observe}); err != nil {
		return err
	}
	if last := n.state.Snapshot(); c.store.Snapshot().Version == 0 && last.Version > 0 {
		return fault.New(fault.Unavailable, "The store in %s is empty, but this node has served version %d of its configuration: restore the directory from a backup. To begin with nothing, remove the whole data directory.", dir, last.Version)
	}
	c.store.OnCommit(n.parts.rollout.Apply)
	if err := n.parts.rollout.Apply(ctx, c.store.Snapshot()); err != nil {
		n.log.Error("stored configuration is not in effect as a whole", "error", err)
	}
	if err := n.makeOwner(ctx); err != nil {
		return err
	}
	handler, err := api.New(n.apiOptions(observe))
	if err != nil {
		return err
	}
	n.control.keys.Store(handler)
	n.state.open(c.store)
	if n.config.Demo {
		if err := n.makeDemo(ctx); err != nil {
			n.log.Error("demo zone cannot be made", "error", err)
		}
	}
	c.metrics.Store(observe.Metrics)
	c.work = newBackground(n.log, []task{{"store", c.store.Run}, {"api", handler.Run}})
	c.work.start(n.life)
	n.door.open(http.Handler(handler))
	return nil
}

// makeOwner makes account, user and token at the first start, and the token again if its file is
// gone.
func (n *Node) makeOwner(ctx context.Context) error {
	_, err := os.Stat(n.tokenFile())
	owner, err := api.Bootstrap(ctx, n.control.store, clock.Clock{}, os.IsNotExist(err))
	if err != nil {
		return err
	}
	n.control.owner.Store(&owner)
	if owner.Secret == "" {
		return nil
	}
	return writeFile(n.tokenFile(), []byte(owner.Secret+"\n"), 0o600)
}

// signingKey returns the API token that an S3 client signs with.
func (n *Node) signingKey(id string, from netip.Addr) (*product.SigningKey, error) {
	if a := n.control.keys.Load(); a != nil {
		return a.SigningKey(id, from)
	}
	return nil, fault.New(fault.Unavailable, "The configuration store is not open, so no token is known: try again.")
}

func (n *Node) apiOptions(o observe.Observer) api.Options {
	options := api.Options{
		State: n.control.store, Audit: n.control.store, Trouble: n.trouble, Addresses: n.parts.addresses, Observe: o,
		NameServers: n.config.NameServers, Routes: n.routes(),
	}
	for _, p := range n.parts.all {
		if r, ok := p.(product.Resourcer); ok {
			options.Routes = append(options.Routes, r.Routes()...)
		}
		if m, ok := p.(product.Metered); ok {
			options.Quotas = append(options.Quotas, m.Quotas()...)
		}
		if g, ok := p.(product.Grapher); ok {
			options.Graphs = append(options.Graphs, g.Graphs()...)
		}
		if r, ok := p.(product.Ruler); ok {
			options.Phases = append(options.Phases, r.RulePhases()...)
		}
	}
	return options
}

// closeControl closes the store and ends tries to open it. reason is what those who want to change
// something are told meanwhile; what the door does is for the caller to say.
func (n *Node) closeControl(reason string) {
	c := &n.control
	if c.stop != nil {
		c.stop()
		c.retries.Wait()
	}
	c.turn.Lock()
	defer c.turn.Unlock()
	n.state.close(reason)
	n.closeStore()
}

func (n *Node) closeStore() {
	c := &n.control
	if c.work != nil {
		c.work.stop()
		c.work = nil
	}
	if c.db != nil {
		if err := c.db.Close(); err != nil {
			n.log.Error("store did not close well", "error", err)
		}
	}
	c.db, c.store = nil, nil
}

// accountID returns the account that a node's owner works in.
func (c *control) accountID(s *spec.Snapshot) string {
	if o := c.owner.Load(); o != nil {
		return o.AccountID
	}
	var ids []string
	for id := range s.Accounts {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if len(ids) == 0 {
		return ""
	}
	return ids[0]
}

// writeFile replaces a file in one step and makes it durable.
func writeFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
