package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// operation is an operation of the API as the node lists it.
type operation struct {
	Method     string `json:"method"`
	Path       string `json:"path"`
	Permission string `json:"permission"`
	Public     bool   `json:"public"`
	Operator   bool   `json:"operator"`
	Summary    string `json:"summary"`
}

func apiCommand(s *session) *cobra.Command {
	var markdown bool
	c := &cobra.Command{
		Use:   "api [WORD]",
		Short: "List the operations of the API",
		Long: `List the operations of Cloudflare's v4 API that the node serves, with the permission each asks for.
With a word, only those whose path or summary has it.`,
		Example: `  selvage api
  selvage api deployments
  selvage api --markdown > docs/api.md`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			var all []operation
			if _, err := c.call(cmd.Context(), "GET", "/selvage/api", nil, &all); err != nil {
				return err
			}
			var list []operation
			for _, o := range all {
				if len(args) == 0 || strings.Contains(strings.ToLower(o.Path+" "+o.Summary), strings.ToLower(args[0])) {
					list = append(list, o)
				}
			}
			switch w := cmd.OutOrStdout(); {
			case s.json:
				return printJSON(w, list)
			case markdown:
				return printOperations(w, list)
			case len(list) == 0:
				fmt.Fprintf(w, "No operation has %q in its path or summary.\n", strings.Join(args, " "))
				return nil
			default:
				t := table{head: []string{"METHOD", "PATH", "PERMISSION", "WHAT IT DOES"}}
				for _, o := range list {
					t.add(o.Method, o.Path, o.needs(), o.Summary)
				}
				t.print(w)
				fmt.Fprintf(w, "\n%s\n", plural(len(list), "operation"))
				return nil
			}
		},
	}
	c.Flags().BoolVar(&markdown, "markdown", false, "print a page for docs/")
	return c
}

func (o *operation) needs() string {
	switch {
	case o.Public:
		return "no token"
	case o.Operator:
		return "all rights over all accounts"
	case o.Permission == "":
		return "any token"
	}
	return o.Permission
}

// printOperations prints the page docs/api.md.
func printOperations(w io.Writer, list []operation) error {
	_, err := fmt.Fprintf(w, `# The API

What a node serves of Cloudflare's v4 API, below /client/v4; operations below /selvage/ are its own. Anything else is answered with code 7003. This
page is printed by "selvage api --markdown" from the table that requests are routed by: %d operations.

| method | path | permission | what it does |
|---|---|---|---|
`, len(list))
	for _, o := range list {
		if err == nil {
			_, err = fmt.Fprintf(w, "| %s | `%s` | %s | %s |\n", o.Method, o.Path, o.needs(), o.Summary)
		}
	}
	return err
}
