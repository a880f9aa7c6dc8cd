// Package node builds a node out of the products, starts it, drains it and hands it over.
//
// Run reads as the life of a node: get sockets, build the products, serve the last good snapshot,
// open the store, serve the API, say that it is ready, and then wait for a reason to end.
package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"selvage/control/cli"
	"selvage/foundation/observe"
)

// Version is the program's version, set when it is linked.
var Version = "development"

// Launch is how a node is started.
type Launch struct {
	Flags    map[string]string // settings given on the command line
	Environ  []string          // NAME=value lines
	Takeover bool              // replace the node that runs on the same data directory
	Rebuild  bool              // make the store again from the last good snapshot, if it cannot be opened
	Reload   <-chan os.Signal  // each signal starts a successor; nil: none come
	Stdout   io.Writer
	Stderr   io.Writer
}

// Node is one running node.
type Node struct {
	config  Config
	started time.Time
	launch  Launch
	log     *slog.Logger
	observe observe.Observer
	health  *health

	lock    *os.File
	sockets sockets

	parts      parts
	state      *lateState
	control    control
	door       *door       // to the API
	data       dataDoor    // to the store of data, for bindings
	background *background // ends when the store goes
	lasting    *background // ends when the node has drained
	serving    *serving

	life        context.Context // ends when the node has drained
	end         context.CancelFunc
	predecessor *predecessor // nil unless this node took over
	succession  succession
}

// Run runs a node until ctx ends or a successor took it over, drains it, and returns.
func Run(ctx context.Context, l Launch) error {
	n, err := newNode(ctx, l)
	if err != nil {
		return err
	}
	defer n.end()
	if err := n.start(ctx); err != nil {
		n.undo(err)
		return err
	}
	n.wait(ctx, l.Reload)
	return n.drain()
}

// newNode reads the configuration and takes the data directory, from the node that runs there if
// this is a takeover.
func newNode(ctx context.Context, l Launch) (*Node, error) {
	c, err := LoadConfig(l.Flags, l.Environ, nil)
	if err != nil {
		return nil, fmt.Errorf("the configuration is not usable:\n%w", err)
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	n := &Node{
		config: c, launch: l, started: time.Now(), health: &health{}, sockets: sockets{}, state: newLateState(), door: newDoor(), data: dataDoor{passage: newPassage()},
		succession: succession{done: make(chan struct{})},
	}
	if l.Takeover {
		err = n.takeSockets(l)
	} else {
		n.lock, err = lock(c.Data)
	}
	if err != nil {
		return nil, err
	}
	n.log = newLog(n.config, l.Stderr)
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "selvage_build_info", Help: "Always 1; the label tells the version.", ConstLabels: prometheus.Labels{"version": Version}},
		func() float64 { return 1 },
	))
	n.observe = observe.Observer{Log: n.log, Metrics: metrics, Events: &observe.Events{}}
	n.life, n.end = context.WithCancel(context.WithoutCancel(ctx))
	return n, nil
}

func (n *Node) takeSockets(l Launch) (err error) {
	if n.predecessor, err = greet(n.config.Data); err != nil {
		return err
	}
	if n.config, err = LoadConfig(l.Flags, l.Environ, n.predecessor.given); err != nil {
		n.predecessor.abandon(err)
		return fmt.Errorf("the configuration is not usable:\n%w", err)
	}
	n.sockets, n.lock = n.predecessor.sockets, n.predecessor.lock
	return nil
}

func newLog(c Config, w io.Writer) *slog.Logger {
	var level slog.Level
	level.UnmarshalText([]byte(c.Log))
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// start brings the node up until it is ready: sites first, then the store and the API.
func (n *Node) start(ctx context.Context) error {
	limits := setLimits(n.config)
	if err := n.sockets.bind(n.config.addresses()); err != nil {
		return err
	}
	if n.predecessor != nil {
		if err := n.predecessor.awaitRelease(); err != nil {
			return fmt.Errorf("take over from pid %d: %w", n.predecessor.pid, err)
		}
	}
	var err error
	if n.parts, err = buildParts(n); err != nil {
		return err
	}
	n.openData()
	n.serveLastGood(ctx)
	ending, last := n.parts.tasks()
	ending = append(ending, task{"data", n.keepData})
	n.background, n.lasting = newBackground(n.log, ending), newBackground(n.log, append(last, task{"gc", paceGC}))
	if n.serving, err = newServing(n); err != nil {
		return err
	}
	if err := n.begin(); err != nil {
		return err
	}
	n.data.turn(passOpen, "")
	n.lasting.start(n.life)
	n.background.start(n.life)
	if err := n.announce(); err != nil {
		return err
	}
	n.log.Info("ready", "version", Version, "pid", os.Getpid(), "took", time.Since(n.started).Round(time.Millisecond),
		"memory_limit", limits.memory, "files", limits.files, "zones", len(n.state.Snapshot().Zones))
	return nil
}

// begin serves. At a first start sites come first: they do not need the store. At a takeover they
// come last, when nothing can fail any more: until then the predecessor serves them.
func (n *Node) begin() error {
	if n.predecessor == nil {
		os.Remove(n.nodeFile())
		n.serving.start(n)
		n.openControl()
		return nil
	}
	relay, err := listenUnix(n.config.Data, "unix", relaySocket)
	if err != nil {
		return err
	}
	data, err := listenUnix(n.config.Data, "unix", dataSocket)
	if err != nil {
		return err
	}
	clients, err := listenUnix(n.config.Data, "unix", clientsSocket)
	if err != nil {
		return err
	}
	if err := n.openControl(); err != nil && n.predecessor.broken == "" {
		return fmt.Errorf("take over from pid %d: %w", n.predecessor.pid, err)
	}
	n.serving.start(n)
	n.predecessor.succeed()
	unpin := n.parts.storage.r2.Pin()
	n.serving.group.Go(func() { n.serveRelay(relay, data, clients, unpin) })
	return nil
}

// serveLastGood brings into effect what was so before: a node serves even if its store is broken.
func (n *Node) serveLastGood(ctx context.Context) {
	last, err := n.parts.rollout.LastGood()
	if err != nil {
		n.log.Error("last good snapshot cannot be read", "error", err)
	}
	if last == nil {
		return
	}
	n.state.fallback.Store(last)
	if err := n.parts.rollout.Apply(ctx, last); err != nil {
		n.log.Error("last good snapshot is not in effect as a whole", "error", err)
	}
}

// announce tells clients on this machine where the node is, and successors where to ask.
func (n *Node) announce() error {
	l, err := listenUnix(n.config.Data, "unixpacket", handoverSocket)
	if err != nil {
		return fmt.Errorf("listen for takeovers: %w", err)
	}
	n.serving.group.Go(func() { n.awaitSuccessor(l) })
	file := cli.NodeFile{
		API: n.sockets["api"].url("http") + "/client/v4", HTTP: n.sockets["http"].url("http"), HTTPS: n.sockets["https"].url("https"),
		DNS: n.sockets["dns"].host(), Admin: n.sockets["admin"].url("http"), AccountID: n.control.accountID(n.state.Snapshot()),
		S3: n.sockets.url("s3", "http"), HyperdrivePostgres: n.sockets.url("hyperdrive-postgres", "postgres"), HyperdriveMySQL: n.sockets.url("hyperdrive-mysql", "mysql"),
		TokenFile: n.tokenFile(), CAFile: n.parts.certs.CAFile(), PID: os.Getpid(), Version: Version,
	}
	data, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(n.nodeFile(), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("say where the node is: %w", err)
	}
	if n.config.Demo && n.predecessor == nil {
		printDemo(n.launch.Stdout, file, n.config.Data)
	}
	return nil
}

// wait returns when there is a reason to end.
func (n *Node) wait(ctx context.Context, reload <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			n.log.Info("stopping: requests under way may finish", "within", n.config.Drain)
			return
		case <-n.succession.done:
			n.log.Info("a new process serves: requests under way may finish", "within", n.config.Drain)
			return
		case <-reload:
			if err := n.spawnSuccessor(); err != nil {
				n.log.Error("no successor could be started", "error", err)
			}
		}
	}
}

// drain stops listening, lets requests finish, and closes everything.
func (n *Node) drain() error {
	successor := n.succession.stop()
	n.health.set("node", "The node is stopping.", false)
	if successor != nil {
		n.serving.admin.Close() // who asks how the node is means the one that serves
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.config.Drain)
	defer cancel()
	n.door.endStreams()
	var yielding sync.WaitGroup
	if successor != nil {
		yielding.Go(func() { n.parts.scripting.yield(ctx) })
	}
	err := n.serving.stop(ctx)
	yielding.Wait()
	if err != nil {
		n.log.Warn("requests were cut at the end of the time they had to finish", "error", err)
	}
	n.background.stop()
	n.parts.scripting.tail.Close()
	n.lasting.stop()
	n.parts.origins.Close()
	n.closeData("The node is stopping.")
	n.closeControl("The node is stopping.")
	if successor == nil {
		os.Remove(n.nodeFile())
		for _, name := range []string{handoverSocket, relaySocket, dataSocket, clientsSocket} { // a successor has others in their places
			os.Remove(filepath.Join(n.config.Data, name))
		}
	} else {
		successor.close()
	}
	n.end()
	n.serving.end()
	n.lock.Close()
	n.log.Info("stopped", "after", time.Since(n.started).Round(time.Second))
	return nil
}

// undo gives back what a start that failed had taken.
func (n *Node) undo(why error) {
	if n.background != nil {
		n.background.stop()
		n.lasting.stop()
	}
	n.closeData("The node did not start.")
	n.closeControl("The node did not start.")
	if n.predecessor != nil {
		n.predecessor.abandon(why)
	}
	n.sockets.close()
	n.lock.Close()
}

func (n *Node) nodeFile() string  { return filepath.Join(n.config.Data, cli.NodeFileName) }
func (n *Node) tokenFile() string { return filepath.Join(n.config.Data, "api-token") }
