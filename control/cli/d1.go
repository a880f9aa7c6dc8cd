package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func d1Command(s *session) *cobra.Command {
	return group("d1", "Make and ask SQL databases",
		`D1 is SQLite databases that Workers bind to as env.NAME, and that anybody with a token can ask through
the API. Databases are named by name or ID.`,
		d1List(s), d1Create(s), d1Info(s), d1Delete(s), d1Execute(s), d1Export(s), d1Import(s), d1TimeTravel(s))
}

// database is what the API shows of a database.
type database struct {
	UUID        string    `json:"uuid"`
	Name        string    `json:"name"`
	Created     time.Time `json:"created_at"`
	Version     string    `json:"version"`
	Tables      int       `json:"num_tables"`
	Size        int64     `json:"file_size"`
	Region      string    `json:"running_in_region"`
	Replication *struct {
		Mode string `json:"mode"`
	} `json:"read_replication,omitempty"`
}

// databases is where the paths of an account's databases begin.
type databases struct {
	*client
	root string
}

func (s *session) databases(ctx context.Context) (*databases, error) {
	c, account, err := s.inAccount(ctx)
	return &databases{c, "/accounts/" + account + "/d1/database"}, err
}

func (d *databases) path(name, rest string) string {
	return d.root + "/" + url.PathEscape(name) + rest
}

// one returns a database by name or ID, with what is known of it.
func (d *databases) one(ctx context.Context, name string) (*database, error) {
	var found database
	_, err := d.call(ctx, "GET", d.path(name, ""), nil, &found)
	return &found, err
}

// onDatabase returns a command's function that works on the database named by the first argument.
func onDatabase(s *session, do func(cmd *cobra.Command, d *databases, name string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		d, err := s.databases(cmd.Context())
		if err != nil {
			return err
		}
		return do(cmd, d, args[0])
	}
}

func d1List(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the databases",
		Example: `  selvage d1 list
  selvage d1 list --json | jq -r '.[].uuid'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := s.databases(cmd.Context())
			if err != nil {
				return err
			}
			all, err := list[database](cmd.Context(), d.client, d.root, url.Values{})
			if err != nil {
				return err
			}
			t := table{head: []string{"NAME", "ID", "CREATED"}, none: "There are no databases yet: `selvage d1 create NAME` makes one."}
			return printList(s, cmd.OutOrStdout(), t, all, func(one *database) []string {
				return []string{one.Name, one.UUID, one.Created.Local().Format("2006-01-02 15:04")}
			})
		},
	}
}

func d1Create(s *session) *cobra.Command {
	var location string
	c := &cobra.Command{
		Use:     "create NAME",
		Short:   "Make a database",
		Example: "  selvage d1 create orders",
		Args:    cobra.ExactArgs(1),
		RunE: onDatabase(s, func(cmd *cobra.Command, d *databases, name string) error {
			asked := map[string]string{"name": name}
			if location != "" {
				asked["primary_location_hint"] = location
			}
			var made database
			if _, err := d.call(cmd.Context(), "POST", d.root, asked, &made); err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), made)
			}
			fmt.Fprintf(cmd.OutOrStdout(), `Made %s. In a Worker's wrangler.jsonc it is bound by:
  "d1_databases": [{ "binding": "DB", "database_name": %q, "database_id": %q }]
`, made.Name, made.Name, made.UUID)
			return nil
		}),
	}
	c.Flags().StringVar(&location, "location", "", "a hint that is kept with the database: weur, eeur, apac, oc, wnam or enam")
	return c
}

func d1Info(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "info DATABASE",
		Short:   "Show what is known of a database",
		Example: "  selvage d1 info orders",
		Args:    cobra.ExactArgs(1),
		RunE: onDatabase(s, func(cmd *cobra.Command, d *databases, name string) error {
			one, err := d.one(cmd.Context(), name)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if s.json {
				return printJSON(out, one)
			}
			fmt.Fprintf(out, "name     %s\nid       %s\ncreated  %s\ntables   %d\nsize     %s\nregion   %s\n", one.Name, one.UUID,
				one.Created.Local().Format("2006-01-02 15:04:05"), one.Tables, shownBytes(one.Size), one.Region)
			return nil
		}),
	}
}

func d1Delete(s *session) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:     "delete DATABASE",
		Short:   "Delete a database with all that is in it",
		Example: "  selvage d1 delete orders --yes",
		Args:    cobra.ExactArgs(1),
		RunE: onDatabase(s, func(cmd *cobra.Command, d *databases, name string) error {
			one, err := d.one(cmd.Context(), name)
			if err != nil {
				return err
			}
			if !yes {
				return fmt.Errorf("deleting %s takes its %s and its history with it, for good: add --yes if that is meant", one.Name, plural(one.Tables, "table"))
			}
			if _, err := d.call(cmd.Context(), "DELETE", d.path(one.UUID, ""), nil, nil); err != nil {
				return err
			}
			if !s.json {
				fmt.Fprintf(cmd.OutOrStdout(), "Deleted %s (%s).\n", one.Name, one.UUID)
			}
			return nil
		}),
	}
	c.Flags().BoolVar(&yes, "yes", false, "do it without asking")
	return c
}

// queryResult is what one statement gave.
type queryResult struct {
	Results struct {
		Columns []string            `json:"columns"`
		Rows    [][]json.RawMessage `json:"rows"`
	} `json:"results"`
	Success bool            `json:"success"`
	Meta    json.RawMessage `json:"meta"`
}

func d1Execute(s *session) *cobra.Command {
	var command, file string
	var params []string
	c := &cobra.Command{
		Use:   "execute DATABASE",
		Short: "Run SQL",
		Long: `Run SQL and show what comes out. Several statements of a --command are one transaction: all of them
take effect or none. A --file may be large; it is uploaded and run as one transaction.`,
		Example: `  selvage d1 execute orders --command "SELECT * FROM items LIMIT 5"
  selvage d1 execute orders --command "INSERT INTO items (name) VALUES (?)" --param "a name"
  selvage d1 execute orders --file schema.sql
  echo "SELECT count(*) FROM items" | selvage d1 execute orders --command -`,
		Args: cobra.ExactArgs(1),
		RunE: onDatabase(s, func(cmd *cobra.Command, d *databases, name string) error {
			if (command == "") == (file == "") {
				return usageError{cmd, errors.New("give either --command SQL or --file PATH")}
			}
			if file != "" {
				return d.importFile(cmd, s, name, file)
			}
			if command == "-" {
				text, err := io.ReadAll(cmd.InOrStdin())
				if err != nil {
					return err
				}
				command = string(text)
			}
			asked := map[string]any{"sql": command}
			if len(params) > 0 {
				asked["params"] = params
			}
			var all []queryResult
			if _, err := d.call(cmd.Context(), "POST", d.path(name, "/raw"), asked, &all); err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), all)
			}
			showResults(cmd.OutOrStdout(), all)
			return nil
		}),
	}
	c.Flags().StringVar(&command, "command", "", "the SQL; - reads it from the standard input")
	c.Flags().StringVar(&file, "file", "", "a file of SQL")
	c.Flags().StringArrayVar(&params, "param", nil, "a parameter, text, for a ? of the statement; again for more")
	return c
}

func showResults(out io.Writer, all []queryResult) {
	for i, r := range all {
		if i > 0 {
			fmt.Fprintln(out)
		}
		var meta struct {
			Duration float64 `json:"duration"`
			Changes  int     `json:"changes"`
			Read     int     `json:"rows_read"`
			Written  int     `json:"rows_written"`
		}
		_ = json.Unmarshal(r.Meta, &meta) // without it there is less to show
		if len(r.Results.Columns) > 0 {
			t := table{head: r.Results.Columns}
			for _, row := range r.Results.Rows {
				cells := make([]string, len(row))
				for i, cell := range row {
					cells[i] = shownCell(cell)
				}
				t.add(cells...)
			}
			t.print(out)
		}
		fmt.Fprintf(out, "%s, %s changed, %s read and %d written in %.2f ms\n", plural(len(r.Results.Rows), "row"), plural(meta.Changes, "row"), plural(meta.Read, "row"), meta.Written, meta.Duration)
	}
}

// shownCell shows a value on one line; bytes are a list of numbers.
func shownCell(cell json.RawMessage) string {
	if string(cell) == "null" {
		return "NULL"
	}
	var s string
	if json.Unmarshal(cell, &s) != nil {
		return string(cell)
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// created makes a file; "-" is out.
func created(path string, out io.Writer) (io.WriteCloser, error) {
	if path == "-" {
		return nopCloser{out}, nil
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
