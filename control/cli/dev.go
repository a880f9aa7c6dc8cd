package cli

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

func devCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "dev",
		Short: "Point wrangler at this node",
		Long: `Print the environment that points wrangler, Cloudflare's command line for Workers, at this node. Take it
into your shell, and wrangler does here what it does there, with nothing changed in your project:

  eval "$(selvage dev)"
  npm create cloudflare@latest hello    a project, if you have none
  cd hello
  npx wrangler deploy                   the Worker answers here, beside the cache
  npx wrangler tail                     what it does, live

wrangler prints an address below workers.dev; "selvage worker list" shows where the Worker really
answers. Routes and custom domains of wrangler.jsonc work for zones that are on this node: "selvage zone
add" adds one. What is printed holds the API token of the node, so treat it as a password; "selvage token
create" makes one that may do less, to be given with --token.

To go back to Cloudflare, close the shell.`,
		Example: `  eval "$(selvage dev)"
  selvage dev --json | jq -r .CLOUDFLARE_API_BASE_URL`,
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
			env := []variable{
				{"CLOUDFLARE_API_BASE_URL", c.base},
				{"CLOUDFLARE_API_TOKEN", c.token},
				{"CLOUDFLARE_ACCOUNT_ID", account},
				{"WRANGLER_SEND_METRICS", "false"},
				{"WRANGLER_SEND_ERROR_REPORTS", "false"},
			}
			if u, err := url.Parse(c.base); err == nil && u.Scheme == "https" {
				if n, err := ReadNodeFile(s.data); err == nil && n.CAFile != "" && sameURL(n.API, c.base) {
					env = append(env, variable{"NODE_EXTRA_CA_CERTS", n.CAFile})
				}
			}
			out := cmd.OutOrStdout()
			if s.json {
				all := map[string]string{}
				for _, v := range env {
					all[v.name] = v.value
				}
				return printJSON(out, all)
			}
			printEnvironment(out, env)
			return nil
		},
	}
}

type variable struct{ name, value string }

// printEnvironment prints lines for a shell. Notes are for who reads them on a terminal: an interactive
// zsh takes comments for commands.
func printEnvironment(out io.Writer, env []variable) {
	read := terminal(out)
	if read {
		fmt.Fprintln(out, "# Points wrangler at this node. Take it into your shell:  eval \"$(selvage dev)\"")
	}
	// wrangler would prefer a global key to the token, and send it here.
	fmt.Fprintln(out, "unset CLOUDFLARE_API_KEY CLOUDFLARE_EMAIL")
	for _, v := range env {
		fmt.Fprintf(out, "export %s=%s\n", v.name, quoted(v.value))
	}
	if read {
		fmt.Fprintln(out, "# Then, in a Worker's folder:  npx wrangler deploy")
	}
}

// quoted is a word of a shell that means s, whatever s is.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
