package node

import (
	"context"
	"crypto/x509"
	"path/filepath"
	"time"

	"selvage/engine/isolate"
	"selvage/engine/seal"
	"selvage/engine/state"
	"selvage/engine/volume"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/product/d1"
	"selvage/product/hyperdrive"
	"selvage/product/kv"
	"selvage/product/queues"
	"selvage/product/r2"
)

// Memory of the store of data, beside what products keep of it themselves.
const (
	dataCache    = 8 << 20
	dataMemTable = 8 << 20
)

// storing is the products that keep data, and what they stand on. One store holds what is small of all
// of them, so that their writes share the disk's syncs; large things are files of each product's own.
type storing struct {
	data       *state.Shared
	kv         *kv.KV
	r2         *r2.R2
	d1         *d1.D1
	queues     *queues.Queues
	hyperdrive *hyperdrive.Hyperdrive
}

func buildStorage(n *Node, key *seal.Key, roots *x509.CertPool) (s storing, err error) {
	dir := func(name string) string { return filepath.Join(n.config.Data, name) }
	s.data = state.NewShared(dir("data"), state.Options{
		Name: "data", CacheBytes: dataCache, MemTableBytes: dataMemTable, LockWait: replyWithin, Trouble: n.dataTrouble, Observe: observe.Observer{Log: n.log},
	})
	if s.kv, err = kv.New(kv.Options{State: n.state, DB: s.data, Dir: dir("kv"), Observe: n.observe}); err != nil {
		return s, err
	}
	if s.queues, err = queues.New(queues.Options{State: n.state, DB: s.data, Deliver: n.consumeQueue, Observe: n.observe}); err != nil {
		return s, err
	}
	if s.r2, err = r2.New(r2.Options{
		Volume: r2Volume(n.config.Storage), State: n.state, DB: s.data, Dir: dir("r2"), Seal: key, Keys: n.signingKey, Domain: n.config.Storage.R2Domain, NameServers: n.config.NameServers,
		Notify: func(ctx context.Context, accountID, queueID string, body []byte) error {
			return s.queues.Send(ctx, accountID, queueID, queues.Message{ContentType: "json", Body: body})
		},
		Hands: n.r2Hands(), Finish: n.config.Drain, Observe: n.observe,
	}); err != nil {
		return s, err
	}
	if s.d1, err = d1.New(d1.Options{State: n.state, DB: s.data, Dir: dir("d1"), Observe: n.observe}); err != nil {
		return s, err
	}
	s.hyperdrive, err = hyperdrive.New(hyperdrive.Options{State: n.state, Seal: key, Permit: n.permit(), Roots: roots, Observe: n.observe, Drain: n.config.Drain})
	return s, err
}

// consumeQueue hands a batch of a queue's messages to the Worker that consumes it.
func (n *Node) consumeQueue(ctx context.Context, accountID, script string, batch isolate.QueueBatch) (isolate.Outcome, error) {
	return n.parts.scripting.workers.ConsumeQueue(ctx, accountID, script, batch)
}

// r2Volume returns the place for large objects outside of the data directory; nil if there is none.
func r2Volume(c StorageConfig) volume.Volume {
	if c.R2Volume == "" {
		return nil
	}
	return volume.NewLate(func(ctx context.Context) (volume.Volume, error) {
		return volume.Open(ctx, c.R2Volume, volume.OpenOptions{Credentials: c.R2Credentials})
	})
}

// products returns them for the node's list.
func (s *storing) products() []product.Product {
	return []product.Product{s.kv, s.r2, s.d1, s.queues, s.hyperdrive}
}

// binders returns what scripts can bind to.
func (s *storing) binders() []product.Binder {
	return []product.Binder{s.kv, s.r2, s.d1, s.queues, s.hyperdrive}
}

// openData opens the store of data. A node whose data cannot be read serves everything else, and
// keepData tries again.
func (n *Node) openData() {
	err := n.parts.storage.data.Open()
	n.dataTrouble(err)
	if err != nil {
		n.log.Error("store of data cannot be opened; KV, R2 and queues do not work, all else does", "error", err, "again", retryAfter)
	}
}

// keepData opens the store of data as soon as that can be done, until ctx ends.
func (n *Node) keepData(ctx context.Context) error {
	t := time.NewTicker(retryAfter)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if _, err := n.parts.storage.data.DB(); err != nil {
			n.openData()
		}
	}
}

// closeData closes the store of data. reason is what those who ask for it are told.
func (n *Node) closeData(reason string) {
	if n.parts.storage.data == nil {
		return
	}
	if err := n.parts.storage.data.Close(reason); err != nil {
		n.log.Error("store of data did not close well", "error", err)
	}
}

// dataTrouble shows in the node's status why no data can be written.
func (n *Node) dataTrouble(why error) {
	text := ""
	if why != nil {
		text = forUsers(why)
	}
	n.health.set("data", text, true)
}
