package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// zone is what the commands need of a zone of the API.
type zone struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Status      string   `json:"status"`
	Paused      bool     `json:"paused"`
	Type        string   `json:"type"`
	NameServers []string `json:"name_servers"`
	CreatedOn   string   `json:"created_on"`
	Account     struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"account"`
}

var idForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

// findZone returns the zone called name, which may be its ID.
func (c *client) findZone(ctx context.Context, name string) (zone, error) {
	if idForm.MatchString(name) {
		var z zone
		_, err := c.call(ctx, "GET", "/zones/"+name, nil, &z)
		return z, err
	}
	zones, err := list[zone](ctx, c, "/zones", url.Values{"name": {strings.ToLower(strings.TrimSuffix(name, "."))}})
	if err != nil {
		return zone{}, err
	}
	if len(zones) == 0 {
		return zone{}, fmt.Errorf("there is no zone %s here: `selvage zone list` shows those there are, `selvage zone add %s` adds it", name, name)
	}
	return zones[0], nil
}

func zoneCommand(s *session) *cobra.Command {
	return group("zone", "Add, list, show, set up and remove zones",
		`A zone is a domain name and everything below it. Add the zone, then its DNS records; the records
that are proxied are served through this node.`,
		zoneAdd(s), zoneList(s), zoneShow(s), zoneSet(s), zoneRemove(s))
}

func zoneAdd(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "add NAME",
		Short: "Add a zone",
		Example: `  selvage zone add example.com
  selvage dns add example.com @ A 192.0.2.7 --proxied`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			account, err := c.accountID(cmd.Context())
			if err != nil {
				return err
			}
			var z zone
			e, err := c.call(cmd.Context(), "POST", "/zones", map[string]any{"name": args[0], "account": map[string]string{"id": account}, "type": "full"}, &z)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), e.Result)
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "Added zone %s (%s), %s.\n\nNext:\n", z.Name, z.ID, z.Status)
			fmt.Fprintf(w, "  selvage dns add %s @ A ADDRESS-OF-YOUR-SERVER --proxied\n", z.Name)
			if len(z.NameServers) > 0 {
				fmt.Fprintf(w, "  at your registrar, delegate %s to %s\n", z.Name, strings.Join(z.NameServers, " and "))
			}
			return nil
		},
	}
}

func zoneList(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the zones",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			zones, err := list[zone](cmd.Context(), c, "/zones", nil)
			if err != nil {
				return err
			}
			slices.SortFunc(zones, func(a, b zone) int { return strings.Compare(a.Name, b.Name) })
			t := table{head: []string{"NAME", "STATUS", "ID"}, none: "There are no zones yet: `selvage zone add example.com` adds one."}
			return printList(s, cmd.OutOrStdout(), t, zones, func(z *zone) []string {
				return []string{z.Name, z.shown(), z.ID}
			})
		},
	}
}

func (z zone) shown() string {
	if z.Paused {
		return z.Status + ", paused"
	}
	return z.Status
}

func zoneShow(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "show ZONE",
		Short:   "Show a zone with its records and settings",
		Example: "  selvage zone show example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := s.connect()
			if err != nil {
				return err
			}
			z, err := c.findZone(ctx, args[0])
			if err != nil {
				return err
			}
			var settings []struct {
				ID    string `json:"id"`
				Value any    `json:"value"`
			}
			if _, err := c.call(ctx, "GET", "/zones/"+z.ID+"/settings", nil, &settings); err != nil {
				return err
			}
			records, err := list[record](ctx, c, "/zones/"+z.ID+"/dns_records", nil)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if s.json {
				return printJSON(w, map[string]any{"zone": z, "settings": settings, "dns_records": records})
			}
			p := paint{terminal(w)}
			fmt.Fprintf(w, "%s  %s\n\n", p.bold(z.Name), z.shown())
			fmt.Fprintf(w, "  id            %s\n  account       %s\n  name servers  %s\n  created       %s\n\n", z.ID,
				cmp.Or(z.Account.Name, z.Account.ID), strings.Join(z.NameServers, ", "), z.CreatedOn)
			t := table{head: []string{"SETTING", "VALUE"}}
			for _, set := range settings {
				t.add(set.ID, fmt.Sprint(set.Value))
			}
			t.print(w)
			fmt.Fprintln(w)
			printRecords(w, z.Name, records)
			return nil
		},
	}
}

func zoneSet(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "set ZONE SETTING VALUE",
		Short: "Change a setting of a zone",
		Long: `Change a setting of a zone. "selvage zone show" lists the settings with their values; a value that
a setting cannot have is answered with those it can.`,
		Example: `  selvage zone set example.com ssl strict
  selvage zone set example.com always_use_https on
  selvage zone set example.com max_upload 500`,
		Args: cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			z, err := c.findZone(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var set struct {
				ID    string `json:"id"`
				Value any    `json:"value"`
			}
			path := "/zones/" + z.ID + "/settings/" + url.PathEscape(args[1])
			e, err := c.call(cmd.Context(), "PATCH", path, map[string]any{"value": settingValue(args[2])}, &set)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), e.Result)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s of %s is %v.\n", set.ID, z.Name, set.Value)
			return nil
		},
	}
}

// settingValue reads what was typed as JSON where it is a number, a list or an object, else as text:
// "1.2" is a version of TLS.
func settingValue(typed string) any {
	if n, err := strconv.ParseInt(typed, 10, 64); err == nil {
		return n
	}
	var v any
	if strings.HasPrefix(typed, "{") || strings.HasPrefix(typed, "[") {
		if json.Unmarshal([]byte(typed), &v) == nil {
			return v
		}
	}
	return typed
}

func zoneRemove(s *session) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:     "remove ZONE",
		Short:   "Remove a zone with everything in it",
		Example: "  selvage zone remove example.com --yes",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			z, err := c.findZone(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !yes {
				return fmt.Errorf("removing %s takes its records, settings, rules and certificates with it, for good: add --yes if that is meant", z.Name)
			}
			e, err := c.call(cmd.Context(), "DELETE", "/zones/"+z.ID, nil, nil)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), e.Result)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Removed zone %s.\n", z.Name)
			return nil
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	return c
}
