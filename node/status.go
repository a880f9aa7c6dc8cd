package node

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/engine/isolate/sandbox"
	"selvage/product"
)

// status is how the node is, for people and their tools.
type status struct {
	Version   string           `json:"version"`
	PID       int              `json:"pid"`
	StartedOn time.Time        `json:"started_on"`
	UptimeSec float64          `json:"uptime_seconds"`
	Listeners []listenerStatus `json:"listeners"`
	Trouble   []reason         `json:"trouble"` // what is not as it should be
	Config    configStatus     `json:"configuration"`
	Cache     cacheStatus      `json:"cache"`
	Workers   workersStatus    `json:"workers"`
	Memory    memoryStatus     `json:"memory"`
	// Metrics holds the sums of the metrics that say how much was done and is kept, by name.
	Metrics map[string]float64 `json:"metrics"`
}

type listenerStatus struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

type configStatus struct {
	Version uint64       `json:"version"` // newest acknowledged
	Zones   int          `json:"zones"`   // of the account
	Records int          `json:"records"`
	Held    []heldStatus `json:"held_back"` // zones that are not on their newest version, and why
}

type heldStatus struct {
	Zone     string `json:"zone"`
	Version  uint64 `json:"version"`
	InEffect uint64 `json:"in_effect"`
	Reason   string `json:"reason"`
}

type cacheStatus struct {
	MemoryBytes   int64 `json:"memory_bytes"`
	MemoryObjects int64 `json:"memory_objects"`
	DiskBytes     int64 `json:"disk_bytes"`
	DiskObjects   int64 `json:"disk_objects"`
}

// workersStatus says whether Workers run here, and which walls stand around them.
type workersStatus struct {
	Absent   string         `json:"absent,omitempty"` // why they do not run
	Walls    []sandbox.Wall `json:"walls"`
	Scripts  int            `json:"scripts"` // deployed, of the account
	Children int            `json:"children"`
	RSS      int64          `json:"resident_bytes"` // of all children
}

type memoryStatus struct {
	ResidentBytes int64 `json:"resident_bytes"`
	HeapBytes     int64 `json:"heap_bytes"`
	Goroutines    int   `json:"goroutines"`
	OpenFiles     int   `json:"open_files"`
}

// routes are the operations that the node itself serves.
func (n *Node) routes() []product.Route {
	return []product.Route{n.tailRoute(), n.backupRoute(), {
		Method: "GET", Path: "/accounts/{account_id}/selvage/status", Permission: product.Permission{Group: "Account Settings"},
		Summary: "Show how the node is: version, listeners, configuration in effect, trouble, sizes.",
		Handle: func(_ context.Context, c *product.Call) (product.Reply, error) {
			return product.Reply{Result: n.status(c.Account.ID)}, nil
		},
	}}
}

func (n *Node) status(account string) status {
	s := status{
		Version: Version, PID: os.Getpid(), StartedOn: n.started.UTC(), UptimeSec: time.Since(n.started).Seconds(),
		Memory: memory(), Metrics: sums(n.observe.Metrics),
	}
	s.Trouble, _ = n.health.report()
	kept := n.parts.cache.Stats()
	s.Cache = cacheStatus{kept.MemoryBytes, kept.MemoryObjects, kept.DiskBytes, kept.DiskObjects}
	s.Workers = n.parts.scripting.status(n.state.Snapshot().WorkersOf(account))
	for name, sock := range n.sockets {
		s.Listeners = append(s.Listeners, listenerStatus{name, sock.addr().String()})
	}
	slices.SortFunc(s.Listeners, func(a, b listenerStatus) int { return strings.Compare(a.Name, b.Name) })
	snapshot := n.state.Snapshot()
	s.Config = configStatus{Version: snapshot.Version, Held: []heldStatus{}}
	for id, z := range snapshot.Zones {
		if z.Zone.AccountID != account {
			continue
		}
		s.Config.Zones++
		s.Config.Records += len(z.Records)
		if inEffect, why := n.trouble(id); why != nil {
			s.Config.Held = append(s.Config.Held, heldStatus{z.Zone.Name, z.Version, inEffect, why.Error()})
		}
	}
	return s
}

func memory() memoryStatus {
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	m := memoryStatus{HeapBytes: int64(heap.HeapAlloc), Goroutines: runtime.NumGoroutine()}
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(b)); len(fields) > 1 {
			pages, _ := strconv.ParseInt(fields[1], 10, 64)
			m.ResidentBytes = pages * int64(os.Getpagesize())
		}
	}
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		m.OpenFiles = len(files)
	}
	return m
}

// sums returns each counter and gauge of ours, summed over its labels.
func sums(metrics prometheus.Gatherer) map[string]float64 {
	all := map[string]float64{}
	families, _ := metrics.Gather()
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "selvage_") {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetCounter() != nil || m.GetGauge() != nil {
				all[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return all
}
