// Package cli is the command line: commands that talk to the API like anyone else. It finds a node
// through flags, the environment, or the node.json of a node on this machine.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes of the program.
const (
	ExitOK          = 0
	ExitFailed      = 1 // the command was understood and did not succeed
	ExitUsage       = 2 // the command line makes no sense
	ExitUnreachable = 3 // no node, or it does not answer
)

// Root returns the program's root command with all client commands below it. extra commands, such
// as the one that runs a node, are added first. defaultData is where a node on this machine keeps
// node.json unless told otherwise.
func Root(version, defaultData string, extra ...*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "selvage",
		Short: "An edge cloud that you own",
		Long: `Selvage stands between users and your servers: it answers DNS, terminates TLS, caches, and
fetches from your origins. One program is the whole node, and its API is Cloudflare's v4 API.

  selvage up --demo                                       run a node with a demo site
  selvage zone add example.com                            put a site behind it
  selvage dns add example.com www A 192.0.2.7 --proxied
  selvage status                                          see how it is
  selvage tail                                            watch requests live`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version,
	}
	root.SetVersionTemplate("selvage {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usageError{c, err} })
	root.AddCommand(extra...)
	s := &session{data: defaultData}
	for _, c := range []*cobra.Command{
		statusCommand(s, version), tailCommand(s), zoneCommand(s), dnsCommand(s), purgeCommand(s), certCommand(s), tokenCommand(s),
		workerCommand(s), kvCommand(s), r2Command(s), d1Command(s), queuesCommand(s), hyperdriveCommand(s), usageCommand(s), backupCommand(s), devCommand(s), apiCommand(s),
	} {
		s.addFlags(c)
		root.AddCommand(c)
	}
	root.AddCommand(&cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), "selvage", version) },
	})
	wrapArgs(root)
	return root
}

// wrapArgs makes wrong numbers of arguments usage errors, which show how the command is called.
func wrapArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			err := check(c, args)
			if err == nil {
				return nil
			}
			if _, takes, ok := strings.Cut(c.Use, " "); ok {
				err = fmt.Errorf("%s takes %s, and %d were given", c.CommandPath(), takes, len(args))
			}
			return usageError{c, err}
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}

// Run runs the command line and returns the exit code. Errors go to stderr in plain sentences.
func Run(ctx context.Context, root *cobra.Command, stderr io.Writer) int {
	err := root.ExecuteContext(ctx)
	if err == nil || errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return ExitOK
	}
	fmt.Fprintln(stderr, "selvage:", err)
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(stderr, "\nUsage: %s\n`%s --help` explains it with examples.\n", usage.command.UseLine(), usage.command.CommandPath())
		return ExitUsage
	}
	var gone unreachable
	if errors.As(err, &gone) {
		return ExitUnreachable
	}
	return ExitFailed
}

// usageError is a command line that makes no sense.
type usageError struct {
	command *cobra.Command
	err     error
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// group returns a command that only holds others.
func group(use, short, long string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Long: long, SuggestionsMinimumDistance: 2,
		Args: func(c *cobra.Command, args []string) error {
			if err := cobra.NoArgs(c, args); err != nil {
				if near := c.SuggestionsFor(args[0]); len(near) > 0 {
					return fmt.Errorf("%w: did you mean %s?", err, strings.Join(near, " or "))
				}
				return err
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(sub...)
	return c
}
