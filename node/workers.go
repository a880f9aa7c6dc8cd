package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"selvage/edge"
	"selvage/engine/blob"
	"selvage/engine/isolate"
	"selvage/engine/isolate/sandbox"
	"selvage/engine/seal"
	"selvage/product"
	"selvage/product/workers"
	"selvage/product/workers/assets"
	"selvage/product/workers/outbound"
	traces "selvage/product/workers/tail"
	"selvage/spec"
)

// scripting is what Workers stand on.
type scripting struct {
	workers *workers.Workers
	host    *isolate.Host // nil without the runtime
	tail    *traces.Hub
	walls   sandbox.Report
	runDir  string // of the host
	absent  string // why there is no host, for people; empty if there is one
}

// workersNeeds is what Workers get of the rest of the node.
type workersNeeds struct {
	key      *seal.Key
	pipeline edge.Handler // what requests of scripts to sites of this node go through
}

// buildWorkers builds Workers and what they stand on.
func buildWorkers(n *Node, p *parts, needs workersNeeds) (s scripting, err error) {
	dir := func(name string) string { return filepath.Join(n.config.Data, name) }
	blobs, err := blob.Open(dir("blobs"))
	if err != nil {
		return s, err
	}
	if err := s.openHost(n, blobs); err != nil {
		return s, err
	}
	files, err := assets.Open(assets.Options{Dir: dir("assets"), Blobs: blobs, Observe: n.observe})
	if err != nil {
		return s, err
	}
	// The hub asks what the workers know, and they ask the hub: it gets their answers late.
	s.tail = traces.New(traces.Options{
		Exists:  func(account, script string) bool { return s.workers.Exists(account, script) },
		Version: func(account, version string) (tag, message string) { return s.workers.Annotations(account, version) },
		SourceMap: func(_ context.Context, account, version, module string) ([]byte, error) {
			return s.workers.SourceMap(account, version, module)
		},
		Consumers: func(account, script string) []string { return s.workers.TailConsumers(account, script) },
		Deliver: func(ctx context.Context, account, consumer string, items json.RawMessage) error {
			return s.workers.Deliver(ctx, account, consumer, items)
		},
		Observe: n.observe,
	})
	s.workers = workers.New(workers.Options{
		State: n.state, Blobs: blobs, Seal: needs.key, Host: s.host, Assets: files, Tail: s.tail, Outbound: s.newOutbound(n, p, needs.pipeline), Bindings: n.guardedAll(p.bindings),
		ObjectsDir: dir("objects"), Domain: n.config.Workers.Domain, NameServers: n.config.NameServers, Observe: n.observe,
	})
	return s, nil
}

// bindingsOf returns what products offer to scripts, by binding type.
func bindingsOf(binders ...product.Binder) map[string]product.BindingType {
	types := map[string]product.BindingType{}
	for _, b := range binders {
		for _, t := range b.Bindings() {
			types[t.Type] = t
		}
	}
	return types
}

// guard knows this node's own listeners.
func (n *Node) guard() edge.Guard {
	var own []net.Addr
	for _, sock := range n.sockets {
		own = append(own, sock.addr())
	}
	return edge.Guard{Own: edge.Listeners(own...)}
}

// permit returns what decides to which addresses customers' programs may connect.
func (n *Node) permit() func(accountID string, a netip.AddrPort) error {
	guard := n.guard()
	return func(_ string, a netip.AddrPort) error { return guard.Check(a, n.config.Workers.Allow) }
}

func (s *scripting) newOutbound(n *Node, p *parts, pipeline edge.Handler) *outbound.Outbound {
	return outbound.New(outbound.Options{
		Origins: p.origins, Guard: n.guard(), Pipeline: pipeline, Local: p.front.Serves,
		Allowed: func(string) []netip.Prefix { return n.config.Workers.Allow },
		Cached: func(ctx context.Context, ex *edge.Exchange) error {
			return p.cache.Phase().Handle(ctx, ex, p.origins.Fetch)
		},
		Cache: p.cache.API(), Running: s.running, LoopID: p.loopID, Observe: n.observe,
	})
}

// openHost finds the runtime and builds walls for its children. Without it Workers can be deployed
// to other nodes and looked at, and everything else runs.
func (s *scripting) openHost(n *Node, blobs *blob.Store) error {
	path := n.config.Workers.Runtime
	if path == "off" {
		s.absent = "Workers are switched off by the setting workerd."
		return nil
	}
	if path == "" {
		var err error
		if path, err = isolate.FindRuntime(nil); err != nil {
			s.absent = "Workers do not run here: " + err.Error() + "."
			n.log.Warn("workers do not run here", "why", err)
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(n.life, openWithin)
	defer cancel()
	s.walls = sandbox.Probe(ctx)
	if missing := s.walls.Missing(); missing != "" {
		n.log.Info("this machine forbids some of the walls around Workers; the others stand", "without", missing)
	}
	var err error
	s.runDir = runDir(n.config.Data)
	s.host, err = isolate.New(isolate.Options{
		Runtime: path, RunDir: s.runDir, Walls: s.walls, Observe: n.observe,
		Code:    func(_ context.Context, digest string) ([]byte, error) { return blobs.Read(digest, maxModule) },
		Modules: map[string]string{outbound.RateLimitModule: outbound.RateLimitSource},
		Failed: func(u *isolate.Unit, why *isolate.Stopped) {
			n.log.Error("workers do not start", "unit", u.Key, "why", why)
			s.workers.Failed(u, why)
		},
	})
	return err
}

// maxModule is more than any module has; uploads are bounded below it.
const maxModule = 256 << 20

// runDir is where the sockets of children lie: a short path, for those of sockets are bounded, and the
// same each time, so that what a killed node left is found.
func runDir(data string) string {
	if abs, err := filepath.Abs(data); err == nil {
		data = abs
	}
	sum := sha256.Sum256([]byte(data))
	base := os.TempDir()
	if unix.Access("/run", unix.W_OK) == nil {
		base = "/run"
	}
	return filepath.Join(base, "selvage-"+hex.EncodeToString(sum[:4]))
}

// tasks is the work of the host, which lasts until the node has drained.
func (s *scripting) tasks() []task {
	if s.host == nil {
		return nil
	}
	return []task{{"isolates", func(ctx context.Context) error {
		err := s.host.Run(ctx)
		_ = os.Remove(s.runDir) // stays while a successor has its sockets in it
		return err
	}}}
}

// yield lets the successor have the Durable Objects. Clients that know this node only may have sent
// their last request to it in the first moment of its end; its successor's wait as long.
func (s *scripting) yield(ctx context.Context) {
	if s.host == nil {
		return
	}
	const lastRequests = 1250 * time.Millisecond
	t := time.NewTimer(lastRequests)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	s.host.Yield()
}

func (s *scripting) status(a *spec.AccountWorkers) workersStatus {
	out := workersStatus{Absent: s.absent, Walls: s.walls.Walls}
	for _, w := range a.Scripts {
		if w.Deployment.ID != "" {
			out.Scripts++
		}
	}
	if s.host == nil {
		return out
	}
	for _, u := range s.host.Usage() {
		out.Children += u.Children
		out.RSS += u.RSS
	}
	return out
}

// running returns how many requests are under way in an account's units.
func (s *scripting) running(accountID string) int {
	if s.host == nil {
		return 0
	}
	return s.host.Running(accountID)
}
