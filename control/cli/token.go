package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func tokenCommand(s *session) *cobra.Command {
	return group("token", "Create, list and revoke API tokens",
		`An API token lets a program do some things on some zones. Give each program its own, with no more
than it needs. The secret is shown once, when the token is created.`,
		tokenCreate(s), tokenList(s), tokenRevoke(s))
}

// token is what the commands need of an API token.
type token struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Status    string `json:"status"`
	IssuedOn  string `json:"issued_on"`
	ExpiresOn string `json:"expires_on,omitempty"`
	Value     string `json:"value,omitempty"`
}

func tokenCreate(s *session) *cobra.Command {
	var permissions, zones, ips []string
	var expires time.Duration
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a token and print its secret",
		Long: `Create a token and print its secret, once. Permissions are called as in Cloudflare's dashboard
("DNS Write", "Zone Read", "Cache Purge"); an unknown one is answered with the list of all.`,
		Example: `  selvage token create certbot --permission "DNS Write" --permission "Zone Read" --zone example.com
  selvage token create deploy --permission "Cache Purge" --expires 720h --ip 192.0.2.0/24`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(permissions) == 0 {
				return usageError{cmd, fmt.Errorf(`say what the token may do with --permission, such as --permission "DNS Write"`)}
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			body, err := c.tokenBody(cmd.Context(), permissions, zones)
			if err != nil {
				return err
			}
			body["name"] = args[0]
			if expires > 0 {
				body["expires_on"] = time.Now().UTC().Add(expires).Format(time.RFC3339)
			}
			if len(ips) > 0 {
				body["condition"] = map[string]any{"request_ip": map[string]any{"in": ips}}
			}
			var t token
			e, err := c.call(cmd.Context(), "POST", "/user/tokens", body, &t)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), e.Result)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "Created token %s (%s). Its secret is shown only now:\n", t.Name, t.ID)
			fmt.Fprintln(cmd.OutOrStdout(), t.Value)
			return nil
		},
	}
	f := c.Flags()
	f.StringArrayVar(&permissions, "permission", nil, "what the token may do; may be given several times")
	f.StringArrayVar(&zones, "zone", nil, "zones it may do it on (default: all of the account, and the account)")
	f.StringArrayVar(&ips, "ip", nil, "CIDR of clients it is valid for (default: any)")
	f.DurationVar(&expires, "expires", 0, "how long it is valid, such as 720h (default: until revoked)")
	return c
}

// tokenBody returns the policies that grant permissions on zones, or on the whole account.
func (c *client) tokenBody(ctx context.Context, permissions, zones []string) (map[string]any, error) {
	var groups []struct {
		ID     string   `json:"id"`
		Name   string   `json:"name"`
		Scopes []string `json:"scopes"`
	}
	if _, err := c.call(ctx, "GET", "/user/tokens/permission_groups", nil, &groups); err != nil {
		return nil, err
	}
	ids, names := map[string]string{}, []string{}
	for _, g := range groups {
		ids[strings.ToLower(g.Name)] = g.ID
		names = append(names, g.Name)
	}
	var granted []map[string]string
	for _, p := range permissions {
		id := ids[strings.ToLower(p)]
		if id == "" {
			slices.Sort(names)
			return nil, fmt.Errorf("there is no permission %q; there are: %s", p, strings.Join(names, ", "))
		}
		granted = append(granted, map[string]string{"id": id})
	}
	resources := map[string]string{}
	for _, name := range zones {
		z, err := c.findZone(ctx, name)
		if err != nil {
			return nil, err
		}
		resources["com.cloudflare.api.account.zone."+z.ID] = "*"
	}
	if len(zones) == 0 {
		account, err := c.accountID(ctx)
		if err != nil {
			return nil, err
		}
		resources["com.cloudflare.api.account."+account] = "*"
	}
	return map[string]any{"policies": []map[string]any{{"effect": "allow", "resources": resources, "permission_groups": granted}}}, nil
}

func tokenList(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tokens",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			tokens, err := list[token](cmd.Context(), c, "/user/tokens", nil)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), tokens)
			}
			t := table{head: []string{"NAME", "STATUS", "EXPIRES", "ID"}}
			for _, k := range tokens {
				expires := "never"
				if k.ExpiresOn != "" {
					expires = k.ExpiresOn
				}
				t.add(k.Name, k.Status, expires, k.ID)
			}
			t.print(cmd.OutOrStdout())
			return nil
		},
	}
}

func tokenRevoke(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke NAME-OR-ID",
		Short:   "Revoke a token",
		Example: "  selvage token revoke certbot",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			tokens, err := list[token](cmd.Context(), c, "/user/tokens", nil)
			if err != nil {
				return err
			}
			tokens = slices.DeleteFunc(tokens, func(t token) bool { return t.ID != args[0] && t.Name != args[0] })
			if len(tokens) == 0 {
				return fmt.Errorf("there is no token %s: `selvage token list` shows those there are", args[0])
			}
			if len(tokens) > 1 {
				return fmt.Errorf("%d tokens are called %s: give the ID of the one to revoke", len(tokens), args[0])
			}
			e, err := c.call(cmd.Context(), "DELETE", "/user/tokens/"+tokens[0].ID, nil, nil)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), e.Result)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Revoked token %s; it is refused from now on.\n", tokens[0].Name)
			return nil
		},
	}
}
