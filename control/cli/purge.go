package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func purgeCommand(s *session) *cobra.Command {
	var urls, tags, hosts, prefixes []string
	var everything bool
	c := &cobra.Command{
		Use:   "purge ZONE",
		Short: "Remove cached responses",
		Long:  "Remove cached responses of a zone. When the command returns, this node serves none of them any more.",
		Example: `  selvage purge example.com --url https://example.com/app.css
  selvage purge example.com --tag product-7 --tag product-8
  selvage purge example.com --host images.example.com
  selvage purge example.com --prefix example.com/blog
  selvage purge example.com --everything`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			purges := purgeBodies(urls, tags, hosts, prefixes)
			if everything {
				purges = []map[string]any{{"purge_everything": true}}
			}
			if len(purges) == 0 {
				return usageError{cmd, fmt.Errorf("say what to purge: --url, --tag, --host, --prefix or --everything")}
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			z, err := c.findZone(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var results []json.RawMessage
			for _, body := range purges {
				e, err := c.call(cmd.Context(), "POST", "/zones/"+z.ID+"/purge_cache", body, nil)
				if err != nil {
					return err
				}
				results = append(results, e.Result)
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), results)
			}
			what := "everything"
			if !everything {
				what = strings.Join(append(append(append(urls, tags...), hosts...), prefixes...), ", ")
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Purged %s from the cache of %s.\n", what, z.Name)
			return nil
		},
	}
	f := c.Flags()
	f.StringArrayVar(&urls, "url", nil, "a URL as clients ask for it; may be given several times")
	f.StringArrayVar(&tags, "tag", nil, "responses with this Cache-Tag")
	f.StringArrayVar(&hosts, "host", nil, "responses of this host name")
	f.StringArrayVar(&prefixes, "prefix", nil, "responses below this host and path, such as example.com/blog")
	f.BoolVar(&everything, "everything", false, "all responses of the zone")
	c.MarkFlagsMutuallyExclusive("everything", "url")
	c.MarkFlagsMutuallyExclusive("everything", "tag")
	c.MarkFlagsMutuallyExclusive("everything", "host")
	c.MarkFlagsMutuallyExclusive("everything", "prefix")
	return c
}

// purgeBodies returns the requests for what is to go: the API takes one sort a request.
func purgeBodies(urls, tags, hosts, prefixes []string) []map[string]any {
	var bodies []map[string]any
	for _, sort := range []struct {
		field string
		list  []string
	}{{"files", urls}, {"tags", tags}, {"hosts", hosts}, {"prefixes", prefixes}} {
		if len(sort.list) > 0 {
			bodies = append(bodies, map[string]any{sort.field: sort.list})
		}
	}
	return bodies
}
