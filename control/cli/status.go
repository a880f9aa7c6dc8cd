package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// nodeStatus is what the command shows of a node's own status.
type nodeStatus struct {
	Version   string  `json:"version"`
	PID       int     `json:"pid"`
	UptimeSec float64 `json:"uptime_seconds"`
	Listeners []struct {
		Name    string `json:"name"`
		Address string `json:"address"`
	} `json:"listeners"`
	Trouble []struct {
		Part   string `json:"part"`
		Reason string `json:"reason"`
	} `json:"trouble"`
	Config struct {
		Version uint64 `json:"version"`
		Zones   int    `json:"zones"`
		Records int    `json:"records"`
		Held    []struct {
			Zone     string `json:"zone"`
			Version  uint64 `json:"version"`
			InEffect uint64 `json:"in_effect"`
			Reason   string `json:"reason"`
		} `json:"held_back"`
	} `json:"configuration"`
	Cache struct {
		MemoryBytes   int64 `json:"memory_bytes"`
		MemoryObjects int   `json:"memory_objects"`
		DiskBytes     int64 `json:"disk_bytes"`
		DiskObjects   int   `json:"disk_objects"`
	} `json:"cache"`
	Workers struct {
		Absent string `json:"absent"`
		Walls  []struct {
			Name string `json:"name"`
			On   bool   `json:"on"`
			Why  string `json:"why"`
		} `json:"walls"`
		Scripts  int   `json:"scripts"`
		Children int   `json:"children"`
		RSS      int64 `json:"resident_bytes"`
	} `json:"workers"`
	Memory struct {
		ResidentBytes int64 `json:"resident_bytes"`
		HeapBytes     int64 `json:"heap_bytes"`
		Goroutines    int   `json:"goroutines"`
		OpenFiles     int   `json:"open_files"`
	} `json:"memory"`
	Metrics map[string]float64 `json:"metrics"`
}

func statusCommand(s *session, version string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how the node is",
		Long: `Show how the node is: what it runs and since when, where it listens, which configuration is in
effect, what is wrong, and what it keeps. Exits with 1 if something is wrong.`,
		Example: `  selvage status
  selvage status --json | jq .metrics`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			account, err := c.accountID(cmd.Context())
			if err != nil {
				return err
			}
			var n nodeStatus
			e, err := c.call(cmd.Context(), "GET", "/accounts/"+account+"/selvage/status", nil, &n)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if s.json {
				err = printJSON(w, e.Result)
			} else {
				n.print(w, version)
			}
			if troubles := len(n.Trouble) + len(n.Config.Held); err == nil && troubles > 0 {
				return fmt.Errorf("%s, see above", plural(troubles, "trouble"))
			}
			return err
		},
	}
}

func (n *nodeStatus) print(w io.Writer, version string) {
	p := paint{terminal(w)}
	state := p.green("well")
	if len(n.Trouble)+len(n.Config.Held) > 0 {
		state = p.red("in trouble")
	}
	fmt.Fprintf(w, "%s %s, up %s, pid %d: %s\n", p.bold("selvage"), n.Version, shownDuration(time.Duration(n.UptimeSec*float64(time.Second))), n.PID, state)
	if version != n.Version {
		fmt.Fprintln(w, p.yellow("this program is version "+version))
	}
	fmt.Fprintln(w)
	for _, t := range n.Trouble {
		fmt.Fprintf(w, "%s  %s\n", p.red(t.Part), t.Reason)
	}
	for _, h := range n.Config.Held {
		fmt.Fprintf(w, "%s  is on version %d, its newest is %d: %s\n", p.red(h.Zone), h.InEffect, h.Version, h.Reason)
	}
	fmt.Fprintf(w, "configuration  version %d, %s, %s\n", n.Config.Version, plural(n.Config.Zones, "zone"), plural(n.Config.Records, "record"))
	for _, l := range n.Listeners {
		fmt.Fprintf(w, "%-13s  %s\n", l.Name, l.Address)
	}
	fmt.Fprintf(w, "requests       %.0f, %.0f under way, %.0f connections\n", n.Metrics["selvage_edge_requests_total"], n.Metrics["selvage_edge_requests_active"], n.Metrics["selvage_edge_connections"])
	fmt.Fprintf(w, "cache          %s in memory (%s), %s on disk (%s)\n", shownBytes(n.Cache.MemoryBytes), plural(n.Cache.MemoryObjects, "response"), shownBytes(n.Cache.DiskBytes), plural(n.Cache.DiskObjects, "response"))
	n.printWorkers(w, p)
	fmt.Fprintf(w, "memory         %s, heap %s, %d goroutines, %d files\n", shownBytes(n.Memory.ResidentBytes), shownBytes(n.Memory.HeapBytes), n.Memory.Goroutines, n.Memory.OpenFiles)
}

// printWorkers says whether Workers run, and which walls around them this machine forbids.
func (n *nodeStatus) printWorkers(w io.Writer, p paint) {
	if n.Workers.Absent != "" {
		fmt.Fprintf(w, "workers        %s\n", p.yellow(n.Workers.Absent))
		return
	}
	fmt.Fprintf(w, "workers        %s deployed, %s, %s\n", plural(n.Workers.Scripts, "script"), plural(n.Workers.Children, "instance"), shownBytes(n.Workers.RSS))
	var on, off []string
	for _, wall := range n.Workers.Walls {
		if wall.On {
			on = append(on, wall.Name)
			continue
		}
		off = append(off, wall.Name+" ("+wall.Why+")")
	}
	fmt.Fprintf(w, "sandbox        %s\n", strings.Join(on, ", "))
	if len(off) > 0 {
		fmt.Fprintf(w, "               %s\n", p.yellow("not on this machine: "+strings.Join(off, ", ")))
	}
}
