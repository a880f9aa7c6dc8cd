package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// used is one thing that is counted of an account.
type used struct {
	Name    string `json:"name"`
	Summary string `json:"summary"`
	Used    int64  `json:"used"`
	Limit   int64  `json:"limit"` // 0: none
	Default int64  `json:"default"`
}

func usageCommand(s *session) *cobra.Command {
	c := &cobra.Command{
		Use:   "usage",
		Short: "See what the account stores, and its limits",
		Long: `See how much the account uses of what is counted, and where its limits are. Something that would go
over a limit is refused. The operator of the node sets limits with "selvage usage limit".`,
		Example: `  selvage usage
  selvage usage --json | jq '.[] | select(.name == "r2_bytes") | .used'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.showUsage(cmd, func(ctx context.Context, c *client, account string) (all []used, err error) {
				_, err = c.call(ctx, "GET", "/accounts/"+account+"/selvage/usage", nil, &all)
				return all, err
			})
		},
	}
	c.AddCommand(&cobra.Command{
		Use:   "limit NAME VALUE",
		Short: "Set a limit of the account: a number, a size, or default",
		Long: `Set how much the account may have of something that "selvage usage" lists. VALUE is a number, a size such
as 10GiB, 0 for no limit, or default. It takes a token with rights over all accounts, as the node's own.`,
		Example: `  selvage usage limit r2_bytes 500GiB
  selvage usage limit kv_namespaces default`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			limits := map[string]*int64{args[0]: nil}
			if args[1] != "default" {
				n, err := parseAmount(args[1])
				if err != nil {
					return usageError{cmd, err}
				}
				limits[args[0]] = &n
			}
			return s.showUsage(cmd, func(ctx context.Context, c *client, account string) (all []used, err error) {
				_, err = c.call(ctx, "PATCH", "/accounts/"+account+"/selvage/quotas", limits, &all)
				return all, err
			})
		},
	})
	return c
}

func (s *session) showUsage(cmd *cobra.Command, ask func(context.Context, *client, string) ([]used, error)) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	account, err := c.accountID(cmd.Context())
	if err != nil {
		return err
	}
	all, err := ask(cmd.Context(), c, account)
	if err != nil {
		return err
	}
	if s.json {
		return printJSON(cmd.OutOrStdout(), all)
	}
	t := table{head: []string{"NAME", "USED", "LIMIT", "", "WHAT"}}
	for _, u := range all {
		limit := "none"
		if u.Limit > 0 {
			limit = u.shown(u.Limit)
		}
		t.add(u.Name, u.shown(u.Used), limit, u.bar(), u.Summary)
	}
	t.print(cmd.OutOrStdout())
	return nil
}

// shown prints an amount in its unit.
func (u *used) shown(n int64) string {
	if strings.HasSuffix(u.Name, "_bytes") {
		return shownBytes(n)
	}
	return strconv.FormatInt(n, 10)
}

// bar shows how much of the limit is used.
func (u *used) bar() string {
	const width = 10
	if u.Limit <= 0 {
		return ""
	}
	full := min(width, int(float64(u.Used)/float64(u.Limit)*width+0.5))
	return strings.Repeat("█", full) + strings.Repeat("·", width-full)
}

// parseAmount reads a number or a size.
func parseAmount(s string) (int64, error) {
	number, factor := s, int64(1)
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if head, ok := strings.CutSuffix(s, unit); ok {
			number, factor = head, int64(1)<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<63-1)/factor {
		return 0, fmt.Errorf("%q is no amount: write a number such as 1000, a size such as 10GiB, or default", s)
	}
	return n * factor, nil
}
