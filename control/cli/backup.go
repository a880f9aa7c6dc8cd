package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"selvage/engine/archive"
)

func backupCommand(s *session) *cobra.Command {
	return group("backup", "Back up and restore a node",
		`A backup is one file with all state of a node: configuration, tokens, keys, and everything that is
stored in KV, R2, D1, queues, Durable Objects and analytics. It is made while the node serves. Whoever
has the file has everything, the keys too: keep it where nobody else reads.`,
		backupCreate(s), backupVerify(), backupRestore())
}

func backupCreate(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "create [FILE]",
		Short: "Write a backup of the running node to FILE, or with - to standard output",
		Long: `Write all state of the running node to a file. Each store is in it as it was at one moment, with all that was
acknowledged before the command began. The file is checked while it is written, and has its name only
once it is whole.`,
		Example: `  selvage backup create
  selvage backup create /mnt/backups/node1.selvage
  selvage backup create - | ssh vault 'cat > node1.selvage'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "selvage-" + time.Now().UTC().Format("20060102-150405") + ".backup"
			if len(args) == 1 {
				name = args[0]
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			res, err := c.send(cmd.Context(), "GET", "/selvage/backup", "", nil)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			if res.Header.Get("Content-Type") != "application/zstd" {
				_, err := decode(res, nil)
				return err
			}
			p := &progress{out: cmd.ErrOrStderr(), on: terminal(cmd.ErrOrStderr())}
			if name == "-" {
				_, _, err := checkedCopy(cmd.Context(), cmd.OutOrStdout(), res.Body, p)
				p.done()
				return err
			}
			return saveBackup(cmd, name, res.Body, p)
		},
	}
}

// saveBackup writes a backup that is checked on the way, durably, and gives it its name at the end.
func saveBackup(cmd *cobra.Command, name string, from io.Reader, p *progress) (err error) {
	f, err := os.OpenFile(name+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	_, totals, err := checkedCopy(cmd.Context(), f, from, p)
	p.done()
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close(), os.Rename(f.Name(), name)); err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %d files with %s\n", name, shownBytes(info.Size()), totals.Files, shownBytes(totals.Bytes))
	return nil
}

// checkedCopy copies a backup and reads it at the same time: what was copied is whole if there is no
// error.
func checkedCopy(ctx context.Context, to io.Writer, from io.Reader, p *progress) (archive.Head, archive.Totals, error) {
	h, t, err := archive.Read(ctx, io.TeeReader(from, to), p.file)
	if err != nil {
		return h, t, err
	}
	_, err = io.Copy(to, from) // what the decoder had no need of
	return h, t, err
}

func backupVerify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE",
		Short: "Read a backup to its end and check that it is whole",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := openBackup(cmd, args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			p := &progress{out: cmd.ErrOrStderr(), on: terminal(cmd.ErrOrStderr())}
			h, t, err := archive.Read(cmd.Context(), f, p.file)
			p.done()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is whole: %d files with %s, made %s by Selvage %s\n", args[0], t.Files, shownBytes(t.Bytes), h.Created.Local().Format("2006-01-02 15:04:05"), h.Version)
			return nil
		},
	}
}

func backupRestore() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use:   "restore FILE --to DIR",
		Short: "Make the data directory of a node from a backup",
		Long: `Make the data directory of a new node from a backup, - being standard input. DIR must not exist yet or be
empty; it is there only once the backup turned out to be whole. No node has to run.`,
		Example: `  selvage backup restore node1.selvage --to /var/lib/selvage
  selvage up --data /var/lib/selvage`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usageError{cmd, errors.New("say with --to DIR where the data is to be")}
			}
			f, err := openBackup(cmd, args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			dir, err := filepath.Abs(to)
			if err != nil {
				return err
			}
			h, t, err := archive.Unpack(cmd.Context(), f, dir)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d files with %s, as they were on %s, are in %s.\nStart the node: selvage up --data %s\n",
				t.Files, shownBytes(t.Bytes), h.Created.Local().Format("2006-01-02 15:04:05"), dir, dir)
			return nil
		},
	}
	c.Flags().StringVar(&to, "to", "", "data `directory` to make")
	return c
}

func openBackup(cmd *cobra.Command, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	return os.Open(name)
}

// progress shows on a terminal how far a backup is.
type progress struct {
	out    io.Writer
	on     bool
	shown  time.Time
	totals archive.Totals
}

func (p *progress) file(f archive.File, _ io.Reader) error {
	p.totals.Files++
	p.totals.Bytes += f.Size
	if now := time.Now(); p.on && now.Sub(p.shown) > 100*time.Millisecond {
		p.shown = now
		fmt.Fprintf(p.out, "\r%d files, %s ", p.totals.Files, shownBytes(p.totals.Bytes))
	}
	return nil
}

func (p *progress) done() {
	if p.on {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
