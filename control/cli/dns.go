package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// record is what the commands need of a DNS record of the API.
type record struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Type     string `json:"type"`
	Content  string `json:"content"`
	TTL      int    `json:"ttl"`
	Proxied  bool   `json:"proxied"`
	Priority *int   `json:"priority,omitempty"`
	Comment  string `json:"comment,omitempty"`
}

func dnsCommand(s *session) *cobra.Command {
	return group("dns", "Add, list, remove, import and export DNS records",
		`DNS records of a zone. A record that is proxied (A, AAAA, CNAME) answers with this node's address,
and requests for its name are fetched from the record's content through cache and rules.`,
		dnsAdd(s), dnsList(s), dnsRemove(s), dnsImport(s), dnsExport(s))
}

func dnsAdd(s *session) *cobra.Command {
	var r record
	var priority int
	c := &cobra.Command{
		Use:   "add ZONE NAME TYPE CONTENT",
		Short: "Add a record",
		Long:  "Add a record. NAME is relative to the zone (www), full (www.example.com), or @ for the zone itself.",
		Example: `  selvage dns add example.com @ A 192.0.2.7 --proxied
  selvage dns add example.com www CNAME example.com --proxied
  selvage dns add example.com @ MX mail.example.net --priority 10
  selvage dns add example.com _acme-challenge TXT "a value" --ttl 60`,
		Args: cobra.ExactArgs(4),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			z, err := c.findZone(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			r.Name, r.Type, r.Content = fullName(args[1], z.Name), strings.ToUpper(args[2]), args[3]
			if cmd.Flags().Changed("priority") {
				r.Priority = &priority
			}
			body := map[string]any{"name": r.Name, "type": r.Type, "content": r.Content, "ttl": r.TTL, "proxied": r.Proxied}
			if r.Priority != nil {
				body["priority"] = priority
			}
			if r.Comment != "" {
				body["comment"] = r.Comment
			}
			e, err := c.call(cmd.Context(), "POST", "/zones/"+z.ID+"/dns_records", body, &r)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), e.Result)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Added %s %s %s%s.\n", r.Name, r.Type, r.Content, proxiedSuffix(r.Proxied))
			return nil
		},
	}
	c.Flags().IntVar(&r.TTL, "ttl", 1, "seconds that others may remember the record; 1 is automatic")
	c.Flags().BoolVar(&r.Proxied, "proxied", false, "serve the name through this node")
	c.Flags().IntVar(&priority, "priority", 0, "priority of MX, SRV and URI records")
	c.Flags().StringVar(&r.Comment, "comment", "", "a note for people")
	return c
}

func proxiedSuffix(proxied bool) string {
	if proxied {
		return ", proxied"
	}
	return ""
}

// fullName completes a name given relative to a zone.
func fullName(name, zone string) string {
	name = strings.TrimSuffix(name, ".")
	if name == "@" || name == "" {
		return zone
	}
	if name == zone || strings.HasSuffix(name, "."+zone) {
		return name
	}
	return name + "." + zone
}

func dnsList(s *session) *cobra.Command {
	var name, typ string
	c := &cobra.Command{
		Use:     "list ZONE",
		Short:   "List the records of a zone",
		Example: "  selvage dns list example.com --type MX",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			z, records, err := c.records(cmd.Context(), args[0], name, typ)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), records)
			}
			printRecords(cmd.OutOrStdout(), z.Name, records)
			return nil
		},
	}
	c.Flags().StringVar(&name, "name", "", "only records of this name")
	c.Flags().StringVar(&typ, "type", "", "only records of this type")
	return c
}

// records returns a zone and those of its records that have this name and type, empty for any.
func (c *client) records(ctx context.Context, zoneName, name, typ string) (zone, []record, error) {
	z, err := c.findZone(ctx, zoneName)
	if err != nil {
		return z, nil, err
	}
	q := url.Values{}
	if name != "" {
		q.Set("name", fullName(name, z.Name))
	}
	if typ != "" {
		q.Set("type", strings.ToUpper(typ))
	}
	records, err := list[record](ctx, c, "/zones/"+z.ID+"/dns_records", q)
	return z, records, err
}

func printRecords(w io.Writer, zone string, records []record) {
	if len(records) == 0 {
		fmt.Fprintf(w, "No records: `selvage dns add %s @ A ADDRESS --proxied` adds one.\n", zone)
		return
	}
	t := table{head: []string{"NAME", "TYPE", "TTL", "PROXIED", "CONTENT"}}
	for _, r := range records {
		ttl, content, proxied := "auto", r.Content, ""
		if r.TTL != 1 {
			ttl = strconv.Itoa(r.TTL)
		}
		if r.Priority != nil {
			content = fmt.Sprint(*r.Priority, " ", content)
		}
		if len(content) > 80 {
			content = content[:77] + "..."
		}
		if r.Proxied {
			proxied = "yes"
		}
		t.add(r.Name, r.Type, ttl, proxied, content)
	}
	t.print(w)
}

func dnsRemove(s *session) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "remove ZONE NAME [TYPE [CONTENT]]",
		Short: "Remove a record",
		Example: `  selvage dns remove example.com www
  selvage dns remove example.com @ MX mail.example.net
  selvage dns remove example.com old --all`,
		Args: cobra.RangeArgs(2, 4),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			typ, content := "", ""
			if len(args) > 2 {
				typ = args[2]
			}
			if len(args) > 3 {
				content = args[3]
			}
			z, found, err := c.records(cmd.Context(), args[0], args[1], typ)
			if err != nil {
				return err
			}
			found = withContent(found, content)
			if len(found) == 0 {
				return fmt.Errorf("%s has no such record: `selvage dns list %s` shows those there are", z.Name, z.Name)
			}
			if len(found) > 1 && !all {
				return fmt.Errorf("%s are called that: name TYPE and CONTENT too, or add --all to remove every one", plural(len(found), "record"))
			}
			for _, r := range found {
				if _, err := c.call(cmd.Context(), "DELETE", "/zones/"+z.ID+"/dns_records/"+r.ID, nil, nil); err != nil {
					return err
				}
				if !s.json {
					fmt.Fprintf(cmd.OutOrStdout(), "Removed %s %s %s.\n", r.Name, r.Type, r.Content)
				}
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), found)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&all, "all", false, "remove all that match")
	return c
}

func withContent(records []record, content string) []record {
	if content == "" {
		return records
	}
	var kept []record
	for _, r := range records {
		if r.Content == content || strings.Trim(r.Content, `"`) == content {
			kept = append(kept, r)
		}
	}
	return kept
}

func dnsImport(s *session) *cobra.Command {
	var proxied bool
	c := &cobra.Command{
		Use:   "import ZONE FILE",
		Short: "Add the records of a BIND zone file",
		Long:  "Add the records of a BIND zone file, such as other providers export. FILE may be - for standard input.",
		Example: `  selvage dns import example.com example.com.zone
  selvage dns export a.example | selvage dns import b.example -`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			z, err := c.findZone(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			e, err := c.importZone(cmd.Context(), z.ID, args[1], proxied)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), e.Result)
			}
			var done struct {
				Added int `json:"recs_added"`
			}
			if err := json.Unmarshal(e.Result, &done); err != nil {
				return fmt.Errorf("the answer to the import is not understood: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Imported %s into %s.\n", plural(done.Added, "record"), z.Name)
			return nil
		},
	}
	c.Flags().BoolVar(&proxied, "proxied", false, "proxy the A, AAAA and CNAME records")
	return c
}

func (c *client) importZone(ctx context.Context, zoneID, path string, proxied bool) (*envelope, error) {
	in := os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	form.WriteField("proxied", strconv.FormatBool(proxied))
	part, err := form.CreateFormFile("file", "zone.txt")
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(part, in); err != nil {
		return nil, err
	}
	form.Close()
	res, err := c.send(ctx, "POST", "/zones/"+zoneID+"/dns_records/import", form.FormDataContentType(), &body)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return decode(res, nil)
}

func dnsExport(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "export ZONE",
		Short:   "Print the records of a zone as a BIND zone file",
		Example: "  selvage dns export example.com > example.com.zone",
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
			res, err := c.send(cmd.Context(), "GET", "/zones/"+z.ID+"/dns_records/export", "", nil)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusOK {
				_, err := decode(res, nil)
				return errors.Join(err)
			}
			if !s.json {
				_, err = io.Copy(cmd.OutOrStdout(), res.Body)
				return err
			}
			text, err := io.ReadAll(res.Body)
			if err != nil {
				return err
			}
			return printJSON(cmd.OutOrStdout(), map[string]string{"zone": z.Name, "file": string(text)})
		},
	}
}
