package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func hyperdriveCommand(s *session) *cobra.Command {
	return group("hyperdrive", "Pool connections to PostgreSQL and MySQL databases",
		`Hyperdrive keeps connections to a database that you have elsewhere, lends them to Workers and other
clients for a transaction each, and remembers answers to queries for a while.`,
		hyperdriveList(s), hyperdriveCreate(s), hyperdriveURL(s), hyperdriveStats(s), hyperdriveDelete(s))
}

// hyperdriveConfig is what commands show of a configuration.
type hyperdriveConfig struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Origin struct {
		Scheme   string `json:"scheme"`
		Host     string `json:"host"`
		Port     int    `json:"port"`
		Database string `json:"database"`
		User     string `json:"user"`
	} `json:"origin"`
	Caching struct {
		Disabled bool `json:"disabled"`
		MaxAge   int  `json:"max_age,omitempty"`
		Stale    int  `json:"stale_while_revalidate,omitempty"`
	} `json:"caching"`
	Limit int `json:"origin_connection_limit"`
}

// hyperdrives is where the paths of an account's configurations begin.
type hyperdrives struct {
	*client
	account string
}

func (s *session) hyperdrives(ctx context.Context) (*hyperdrives, error) {
	c, account, err := s.inAccount(ctx)
	return &hyperdrives{c, account}, err
}

func (h *hyperdrives) path() string { return "/accounts/" + h.account + "/hyperdrive/configs" }

// own returns the path of what only this API has.
func (h *hyperdrives) own(id, rest string) string {
	return "/accounts/" + h.account + "/selvage/hyperdrive/configs/" + url.PathEscape(id) + rest
}

// find returns the configuration with a name or an ID.
func (h *hyperdrives) find(ctx context.Context, name string) (hyperdriveConfig, error) {
	all, err := list[hyperdriveConfig](ctx, h.client, h.path(), nil)
	if err != nil {
		return hyperdriveConfig{}, err
	}
	for _, one := range all {
		if one.Name == name || one.ID == name {
			return one, nil
		}
	}
	return hyperdriveConfig{}, fmt.Errorf("there is no Hyperdrive configuration %q: `selvage hyperdrive list` shows those there are", name)
}

func hyperdriveList(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the configurations",
		Example: "  selvage hyperdrive list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := s.hyperdrives(cmd.Context())
			if err != nil {
				return err
			}
			all, err := list[hyperdriveConfig](cmd.Context(), h.client, h.path(), nil)
			if err != nil {
				return err
			}
			t := table{head: []string{"NAME", "ID", "DATABASE", "CONNECTIONS", "CACHE"}, none: "There are no configurations yet: `selvage hyperdrive create --help` says how to make one."}
			return printList(s, cmd.OutOrStdout(), t, all, func(c *hyperdriveConfig) []string {
				return []string{c.Name, c.ID, fmt.Sprintf("%s@%s/%s", c.Origin.User, net.JoinHostPort(c.Origin.Host, strconv.Itoa(c.Origin.Port)), c.Origin.Database), strconv.Itoa(c.Limit), c.cache()}
			})
		},
	}
}

func (c *hyperdriveConfig) cache() string {
	if c.Caching.Disabled || c.Origin.Scheme == "mysql" {
		return "off"
	}
	return fmt.Sprintf("%d s, stale %d s", c.Caching.MaxAge, c.Caching.Stale)
}

// hyperdriveFlags are those of create.
type hyperdriveFlags struct {
	url, sslmode  string
	limit         int
	maxAge, stale int
	uncached      bool
}

func hyperdriveCreate(s *session) *cobra.Command {
	var f hyperdriveFlags
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a configuration",
		Long: `Make a configuration for a database, which has to answer. The connection string holds a password, so
"-" reads it from the standard input. Databases on private networks, or on this machine, have to be opened by
the operator: "selvage up --workers-allow 10.0.0.0/8,127.0.0.1/32".`,
		Example: `  selvage hyperdrive create shop --connection-string - <shop.url
  selvage hyperdrive create shop --connection-string 'postgres://app:secret@db.example.com:5432/shop' --sslmode verify-full --max-age 10`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := f.body(cmd, args[0])
			if err != nil {
				return err
			}
			h, err := s.hyperdrives(cmd.Context())
			if err != nil {
				return err
			}
			var made hyperdriveConfig
			if _, err := h.call(cmd.Context(), "POST", h.path(), body, &made); err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), made)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Made %s with the ID %s.\nWorkers bind to it with \"hyperdrive\": [{ \"binding\": \"HYPERDRIVE\", \"id\": %q }]; other clients by `selvage hyperdrive url %s`.\n", made.Name, made.ID, made.ID, made.Name)
			return nil
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.url, "connection-string", "", "postgres:// or mysql://user:password@host:port/database, or - to read it")
	fl.StringVar(&f.sslmode, "sslmode", "", "disable, require, verify-ca or verify-full (default: TLS if the database has it)")
	fl.IntVar(&f.limit, "limit", 0, "connections to the database, 5 to 100 (default 20)")
	fl.IntVar(&f.maxAge, "max-age", 60, "seconds for which answers are remembered")
	fl.IntVar(&f.stale, "stale", 15, "seconds for which older answers are given while a new one is fetched")
	fl.BoolVar(&f.uncached, "no-cache", false, "remember nothing")
	return c
}

func (f *hyperdriveFlags) body(cmd *cobra.Command, name string) (map[string]any, error) {
	text := f.url
	if text == "-" {
		data, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 64<<10))
		if err != nil {
			return nil, err
		}
		text = strings.TrimSpace(string(data))
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User == nil {
		return nil, usageError{cmd, fmt.Errorf("--connection-string has the form postgres://user:password@host:port/database, or mysql:// for MySQL")}
	}
	port := 0
	if u.Port() != "" {
		if port, err = strconv.Atoi(u.Port()); err != nil {
			return nil, usageError{cmd, err}
		}
	}
	password, _ := u.User.Password()
	body := map[string]any{
		"name": name,
		"origin": map[string]any{"scheme": u.Scheme, "host": u.Hostname(), "port": port, "database": strings.TrimPrefix(u.Path, "/"),
			"user": u.User.Username(), "password": password},
		"caching": map[string]any{"disabled": true},
	}
	if !f.uncached {
		body["caching"] = map[string]any{"max_age": f.maxAge, "stale_while_revalidate": f.stale}
	}
	if f.limit != 0 {
		body["origin_connection_limit"] = f.limit
	}
	mode := f.sslmode
	if mode == "" {
		mode = u.Query().Get("sslmode")
	}
	if mode != "" && mode != "prefer" {
		body["mtls"] = map[string]any{"sslmode": mode}
	}
	return body, nil
}

func hyperdriveURL(s *session) *cobra.Command {
	var renew bool
	c := &cobra.Command{
		Use:   "url NAME",
		Short: "Show the connection string for ordinary clients",
		Long: `Show the connection string for psql, pgx, JDBC and other clients: of this node's private port, with a
password that opens this configuration and nothing else. There is no TLS on that port: it is for this machine or a
private network.`,
		Example: `  psql "$(selvage hyperdrive url shop)"
  selvage hyperdrive url shop --renew`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := s.hyperdrives(cmd.Context())
			if err != nil {
				return err
			}
			config, err := h.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			method := "GET"
			if renew {
				method = "POST"
			}
			var login struct{ User, Password, Database string }
			if _, err := h.call(cmd.Context(), method, h.own(config.ID, "/credentials"), nil, &login); err != nil {
				return err
			}
			shown := hyperdriveAddress(s, config.Origin.Scheme, login.User, login.Password, login.Database)
			if s.json {
				return printJSON(cmd.OutOrStdout(), map[string]string{"url": shown})
			}
			fmt.Fprintln(cmd.OutOrStdout(), shown)
			return nil
		},
	}
	c.Flags().BoolVar(&renew, "renew", false, "make a new password first; the old one is worth nothing then")
	return c
}

// hyperdriveAddress is where a node of this machine has its private port; of another node only the
// operator knows.
func hyperdriveAddress(s *session, scheme, user, password, database string) string {
	u := url.URL{Scheme: "postgres", Host: "NODE:4432", User: url.UserPassword(user, password), Path: "/" + database, RawQuery: "sslmode=disable"}
	if scheme == "mysql" {
		u.Scheme, u.Host, u.RawQuery = scheme, "NODE:4406", ""
	}
	if n, err := ReadNodeFile(s.data); err == nil {
		at := n.HyperdrivePostgres
		if scheme == "mysql" {
			at = n.HyperdriveMySQL
		}
		if at, err := url.Parse(at); err == nil && at.Host != "" {
			u.Host = at.Host
		}
	}
	return u.String()
}

func hyperdriveStats(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "stats NAME",
		Short: "Show clients, connections, waits and cache hits",
		Long:  `Show what a configuration has come to on this node since its pool was made.`,
		Example: `  selvage hyperdrive stats shop
  selvage hyperdrive stats shop --json | jq .cache`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := s.hyperdrives(cmd.Context())
			if err != nil {
				return err
			}
			config, err := h.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var st hyperdriveStatus
			if _, err := h.call(cmd.Context(), "GET", h.own(config.ID, "/stats"), nil, &st); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if s.json {
				return printJSON(out, st)
			}
			t := table{head: []string{"WHAT", "NUMBER"}}
			t.add("clients", fmt.Sprintf("%d (%d waiting)", st.Clients, st.Waiting))
			t.add("connections to the database", fmt.Sprintf("%d of %d (%d idle)", st.Connections, config.Limit, st.Idle))
			t.add("transactions", strconv.FormatUint(st.Transactions, 10))
			t.add("waits", fmt.Sprintf("%d (%d in vain)", st.Waits, st.Timeouts))
			t.add("cache hits", fmt.Sprintf("%d (%d stale)", st.Cache.Hits, st.Cache.Stale))
			t.add("cache misses", fmt.Sprintf("%d, %d not cacheable", st.Cache.Misses, st.Cache.Uncacheable))
			t.print(out)
			return nil
		},
	}
}

// hyperdriveStatus is what the API says of a pool.
type hyperdriveStatus struct {
	Clients      int64   `json:"clients"`
	Connections  int     `json:"server_connections"`
	Idle         int     `json:"server_connections_idle"`
	Waiting      int     `json:"clients_waiting"`
	Waits        uint64  `json:"waits"`
	Timeouts     uint64  `json:"wait_timeouts"`
	Waited       float64 `json:"wait_seconds"`
	Transactions uint64  `json:"transactions"`
	Cache        struct {
		Hits        uint64 `json:"hits"`
		Stale       uint64 `json:"stale"`
		Misses      uint64 `json:"misses"`
		Uncacheable uint64 `json:"uncacheable"`
	} `json:"cache"`
}

func hyperdriveDelete(s *session) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a configuration",
		Long:    `Delete a configuration. The database itself stays as it is; Workers that are bound to it cannot connect any more.`,
		Example: "  selvage hyperdrive delete shop --yes",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := s.hyperdrives(cmd.Context())
			if err != nil {
				return err
			}
			config, err := h.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !yes {
				return fmt.Errorf("deleting %s takes the database away from its Workers and clients: add --yes if that is meant", config.Name)
			}
			if _, err := h.call(cmd.Context(), "DELETE", h.path()+"/"+config.ID, nil, nil); err != nil {
				return err
			}
			if !s.json {
				fmt.Fprintf(cmd.OutOrStdout(), "Deleted %s.\n", config.Name)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it without asking")
	return c
}
