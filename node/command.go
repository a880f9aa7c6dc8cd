package node

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Command returns the command that runs a node: selvage up.
func Command() *cobra.Command {
	c := &cobra.Command{
		Use:   "up",
		Short: "Run a node",
		Long: `Run a node: sites over HTTP and HTTPS, DNS, and the API that configures them.

When it is ready, DIR/node.json says where everything is. Each flag may also be set in the
environment (--cache-disk as SELVAGE_CACHE_DISK) or in a TOML file given with --config (cache-disk
= "20GiB"). Flags win over the environment, the environment over the file.

SIGTERM and SIGINT let requests finish and end the node; a second one ends it at once. SIGHUP, or
` + "`selvage up --takeover`" + ` from a new version of the program, replaces the process without refusing
or breaking a connection. Closing the terminal that the node was started from ends it.`,
		Example: `  selvage up --demo
  selvage up --data /var/lib/selvage --http :80 --https :443 --dns :53
  selvage up --data /var/lib/selvage --takeover
  selvage up --config /etc/selvage.toml`,
		Args: cobra.NoArgs,
	}
	var takeover, rebuild bool
	flags := c.Flags()
	flags.SortFlags = false
	for _, s := range settings() {
		f := flags.VarPF(&flagText{s.value, s.kind}, s.name, "", s.help)
		if s.kind == "bool" {
			f.NoOptDefVal = "true"
		}
	}
	flags.String("config", "", "TOML `file` with settings")
	flags.BoolVar(&takeover, "takeover", false, "replace the node that runs on the same data directory, inheriting its flags and sockets")
	flags.BoolVar(&rebuild, "rebuild", false, "if the configuration store cannot be opened, make it again from the last good configuration, without tokens and audit log")
	c.MarkFlagsMutuallyExclusive("takeover", "rebuild")
	c.RunE = func(c *cobra.Command, _ []string) error {
		given := map[string]string{}
		flags.Visit(func(f *pflag.Flag) {
			given[f.Name] = f.Value.String()
		})
		delete(given, "takeover")
		delete(given, "rebuild")
		// net/http reports to the global logger what origins and clients do wrong, as often as they do
		// it; what the node itself has to say goes to its own.
		log.SetOutput(io.Discard)
		hangup, reload := make(chan os.Signal, 1), make(chan os.Signal, 1)
		signal.Notify(hangup, syscall.SIGHUP)
		defer signal.Stop(hangup)
		ctx, stop := context.WithCancel(c.Context())
		defer stop()
		go passOn(ctx, hangup, reload, hasTerminal(), stop)
		return Run(ctx, Launch{
			Flags: given, Environ: os.Environ(), Takeover: takeover, Rebuild: rebuild, Reload: reload, Stdout: c.OutOrStdout(), Stderr: c.ErrOrStderr(),
		})
	}
	return c
}

// passOn gives SIGHUP to reload, except where it says that the terminal the node was started from
// has been closed: that ends the node, as it ends other programs.
func passOn(ctx context.Context, hangup <-chan os.Signal, reload chan<- os.Signal, onTerminal bool, stop func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-hangup:
			if onTerminal && !hasTerminal() {
				stop()
				return
			}
			select {
			case reload <- sig:
			default: // one is waiting already
			}
		}
	}
}

// hasTerminal tells whether the process has a controlling terminal.
func hasTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err == nil {
		f.Close()
	}
	return err == nil
}

// flagText is a setting as it is given on the command line; LoadConfig reads it, with the
// environment and the file.
type flagText struct{ text, kind string }

// String returns the text, which is the default until Set.
func (f *flagText) String() string { return f.text }

// Set keeps the text.
func (f *flagText) Set(s string) error { f.text = s; return nil }

// Type is what --help calls the value.
func (f *flagText) Type() string { return f.kind }
