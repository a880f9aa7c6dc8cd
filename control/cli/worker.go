package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

func workerCommand(s *session) *cobra.Command {
	return group("worker", "See and steer the Workers",
		`A Worker is a script that answers requests on this node. Workers come from wrangler: "selvage dev"
says how to point it here. These commands show what came of them.`,
		workerList(s), workerLogs(s), workerUsage(s), workerKill(s), workerCron(s))
}

// worker is what the list shows of a script.
type worker struct {
	Name     string          `json:"name"`
	Modified time.Time       `json:"modified_on"`
	Versions []workerVersion `json:"versions"`
	Answers  []string        `json:"answers_at"`
	Awake    bool            `json:"awake"`
}

type workerVersion struct {
	ID         string  `json:"version_id"`
	Percentage float64 `json:"percentage"`
}

// unitUsage is what a Worker's processes take.
type unitUsage struct {
	Unit     string        `json:"unit"`
	Scripts  []string      `json:"scripts"`
	Version  string        `json:"version_id"`
	Traced   bool          `json:"traced"`
	Children int           `json:"children"`
	Running  int           `json:"running"`
	Requests uint64        `json:"requests"`
	CPU      time.Duration `json:"cpu"` // nanoseconds
	RSS      int64         `json:"rss"` // bytes
	Kills    uint64        `json:"kills"`
	Since    time.Time     `json:"since"`
}

// workers is where the paths of an account's Workers begin.
type workers struct {
	*client
	account string
}

func (s *session) workers(ctx context.Context) (*workers, error) {
	c, account, err := s.inAccount(ctx)
	return &workers{c, account}, err
}

// path returns the path of a script in the v4 API.
func (w *workers) path(script, rest string) string {
	return "/accounts/" + w.account + "/workers/scripts/" + url.PathEscape(script) + rest
}

// own returns the path of what only this API has.
func (w *workers) own(script, rest string) string {
	return "/accounts/" + w.account + "/selvage/workers/scripts/" + url.PathEscape(script) + rest
}

func (w *workers) usage(ctx context.Context) ([]unitUsage, error) {
	var all []unitUsage
	_, err := w.call(ctx, "GET", "/accounts/"+w.account+"/selvage/workers/usage", nil, &all)
	return all, err
}

func workerList(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the Workers",
		Long: `List the Workers with the versions that are deployed, where they answer, and whether they are awake:
a Worker that nobody asks falls asleep, and wakes in milliseconds.`,
		Example: `  selvage worker list
  selvage worker list --json | jq -r '.[] | select(.awake) | .name'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w, err := s.workers(cmd.Context())
			if err != nil {
				return err
			}
			all, err := w.list(cmd.Context())
			if err != nil {
				return err
			}
			t := table{head: []string{"NAME", "VERSIONS", "ANSWERS AT", "MODIFIED", "STATE"}, none: "There are no Workers yet: `selvage dev` says how wrangler deploys one."}
			return printList(s, cmd.OutOrStdout(), t, all, func(one **worker) []string {
				k, state := *one, "asleep"
				if k.Awake {
					state = "awake"
				}
				return []string{k.Name, shownVersions(k.Versions), shownPlaces(k.Answers), k.Modified.Local().Format("2006-01-02 15:04"), state}
			})
		},
	}
}

func shownVersions(all []workerVersion) string {
	var shown []string
	for _, v := range all {
		shown = append(shown, fmt.Sprintf("%s %g%%", shortID(v.ID), v.Percentage))
	}
	if len(shown) == 0 {
		return "not deployed"
	}
	return strings.Join(shown, ", ")
}

func shownPlaces(all []string) string {
	if len(all) == 0 {
		return "nowhere"
	}
	const most = 3
	if len(all) > most {
		return strings.Join(all[:most], " ") + fmt.Sprintf(" and %d more", len(all)-most)
	}
	return strings.Join(all, " ")
}

// shortID is enough of a version's ID to tell it from others.
func shortID(id string) string { return id[:min(len(id), 8)] }

// list puts together what there is about all scripts.
func (w *workers) list(ctx context.Context) ([]*worker, error) {
	scripts, err := list[struct {
		ID       string    `json:"id"`
		Modified time.Time `json:"modified_on"`
	}](ctx, w.client, "/accounts/"+w.account+"/workers/scripts", nil)
	if err != nil {
		return nil, err
	}
	all, byName := []*worker{}, map[string]*worker{}
	for _, k := range scripts {
		one := &worker{Name: k.ID, Modified: k.Modified, Versions: []workerVersion{}, Answers: []string{}}
		all, byName[k.ID] = append(all, one), one
	}
	slices.SortFunc(all, func(a, b *worker) int { return strings.Compare(a.Name, b.Name) })
	if len(all) == 0 {
		return all, nil
	}
	usage, err := w.usage(ctx)
	if err != nil {
		return nil, err
	}
	for _, u := range usage {
		for _, name := range u.Scripts {
			if k := byName[name]; k != nil && u.Children > 0 {
				k.Awake = true
			}
		}
	}
	if err := w.addDeployments(ctx, all); err != nil {
		return nil, err
	}
	if err := w.addPlaces(ctx, byName); err != nil {
		return nil, err
	}
	for _, k := range all {
		slices.Sort(k.Answers)
	}
	return all, nil
}

// addDeployments asks for each script which versions are deployed, and whether it has an address of
// its own.
func (w *workers) addDeployments(ctx context.Context, all []*worker) error {
	var sub struct {
		Subdomain string `json:"subdomain"`
		Domain    string `json:"domain"`
	}
	if _, err := w.call(ctx, "GET", "/accounts/"+w.account+"/workers/subdomain", nil, &sub); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, k := range all {
		g.Go(func() error {
			var d struct {
				Deployments []struct {
					Versions []workerVersion `json:"versions"`
				} `json:"deployments"`
			}
			if _, err := w.call(ctx, "GET", w.path(k.Name, "/deployments"), nil, &d); err != nil {
				return err
			}
			if len(d.Deployments) > 0 { // newest first
				k.Versions = d.Deployments[0].Versions
			}
			var on struct {
				Enabled bool `json:"enabled"`
			}
			if _, err := w.call(ctx, "GET", w.path(k.Name, "/subdomain"), nil, &on); err != nil {
				return err
			}
			if on.Enabled && sub.Domain != "" {
				k.Answers = append(k.Answers, k.Name+"."+sub.Subdomain+"."+sub.Domain)
			}
			return nil
		})
	}
	return g.Wait()
}

// addPlaces adds custom domains, and the routes of the zones that the token may read.
func (w *workers) addPlaces(ctx context.Context, byName map[string]*worker) error {
	var mu sync.Mutex // guards Answers
	add := func(script, place string) {
		mu.Lock()
		defer mu.Unlock()
		if k := byName[script]; k != nil {
			k.Answers = append(k.Answers, place)
		}
	}
	domains, err := list[struct {
		Hostname string `json:"hostname"`
		Service  string `json:"service"`
	}](ctx, w.client, "/accounts/"+w.account+"/workers/domains", nil)
	if err != nil {
		return err
	}
	for _, d := range domains {
		add(d.Service, d.Hostname)
	}
	zones, err := list[zone](ctx, w.client, "/zones", url.Values{"account.id": {w.account}})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, z := range zones {
		g.Go(func() error {
			routes, err := list[struct {
				Pattern string `json:"pattern"`
				Script  string `json:"script"`
			}](ctx, w.client, "/zones/"+z.ID+"/workers/routes", nil)
			var refused apiError
			if errors.As(err, &refused) && refused.status == http.StatusForbidden {
				return nil
			}
			for _, r := range routes {
				add(r.Script, r.Pattern)
			}
			return err
		})
	}
	return g.Wait()
}

func workerUsage(s *session) *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use:   "usage [NAME]",
		Short: "Show what Workers take",
		Long: `Show what Workers take at the moment: requests in all and under way, CPU time, memory, how often a
process was killed for going over a limit, and since when it is awake. Versions have a process each; a
Worker with Durable Objects shares one with the others of the account. A version that somebody watches
has one more, "traced", that answers in the meantime.`,
		Example: `  selvage worker usage
  selvage worker usage shop --watch`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := s.workers(cmd.Context())
			if err != nil {
				return err
			}
			for {
				if err := w.showUsage(cmd.Context(), cmd.OutOrStdout(), s.json, watch, args); err != nil || !watch {
					return err
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(2 * time.Second):
				}
			}
		},
	}
	c.Flags().BoolVar(&watch, "watch", false, "show it again every two seconds, until interrupted")
	return c
}

func (w *workers) showUsage(ctx context.Context, out io.Writer, asJSON, again bool, names []string) error {
	all, err := w.usage(ctx)
	if err != nil {
		return err
	}
	shown := []unitUsage{}
	for _, u := range all {
		if len(names) == 0 || slices.Contains(u.Scripts, names[0]) {
			shown = append(shown, u)
		}
	}
	slices.SortFunc(shown, func(a, b unitUsage) int { return strings.Compare(a.Unit, b.Unit) })
	if asJSON {
		return printJSON(out, shown)
	}
	if again && terminal(out) {
		fmt.Fprint(out, "\x1b[H\x1b[2J")
	}
	if len(shown) == 0 {
		if len(names) > 0 {
			fmt.Fprintf(out, "No Worker %s has been asked yet: `selvage worker list` shows which there are.\n", names[0])
		} else {
			fmt.Fprintln(out, "No Worker has been asked yet.")
		}
		return nil
	}
	t := table{head: []string{"NAME", "VERSION", "REQUESTS", "RUNNING", "CPU", "MEMORY", "KILLS", "CHILDREN", "AWAKE"}}
	for _, u := range shown {
		awake := "asleep"
		if !u.Since.IsZero() {
			awake = shownDuration(time.Since(u.Since))
		}
		version := shortID(u.Version)
		if u.Traced {
			version += " traced"
		}
		t.add(strings.Join(u.Scripts, " "), version, fmt.Sprint(u.Requests), fmt.Sprint(u.Running), u.CPU.Round(time.Millisecond).String(),
			shownBytes(u.RSS), fmt.Sprint(u.Kills), fmt.Sprint(u.Children), awake)
	}
	t.print(out)
	return nil
}

func workerKill(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "kill NAME",
		Short: "End the processes of a Worker",
		Long: `End the processes of a Worker at once, with the requests in them. The next request starts it anew; to
take a Worker away for good, delete it with wrangler.`,
		Example: "  selvage worker kill shop",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := s.workers(cmd.Context())
			if err != nil {
				return err
			}
			e, err := w.call(cmd.Context(), "POST", w.own(args[0], "/kill"), nil, nil)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), e.Result)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "The processes of %s are gone; the next request starts it anew.\n", args[0])
			return nil
		},
	}
}

func workerCron(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "cron NAME [CRON]",
		Short: "Fire a cron trigger of a Worker now",
		Long: `Fire a cron trigger of a Worker now and wait for its end. Without CRON the first of its triggers is
fired; any other expression is handed to the handler as it is.`,
		Example: `  selvage worker cron shop
  selvage worker cron shop "*/5 * * * *"`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := s.workers(cmd.Context())
			if err != nil {
				return err
			}
			cron := ""
			if len(args) == 2 {
				cron = args[1]
			}
			var out struct {
				Outcome string `json:"outcome"`
				Error   string `json:"error"`
			}
			e, err := w.call(cmd.Context(), "POST", w.own(args[0], "/schedules/run"), map[string]string{"cron": cron}, &out)
			if err != nil {
				return err
			}
			if s.json {
				err = printJSON(cmd.OutOrStdout(), e.Result)
			} else if out.Outcome == "ok" {
				fmt.Fprintf(cmd.OutOrStdout(), "The handler of %s has run.\n", args[0])
			}
			if err == nil && out.Outcome != "ok" {
				why := printable(out.Error)
				if why == "" {
					why = fmt.Sprintf("(fire it again while `selvage worker logs %s` runs, to see why)", args[0])
				}
				return fmt.Errorf("the handler of %s ended with %s %s", args[0], out.Outcome, why)
			}
			return err
		},
	}
}
