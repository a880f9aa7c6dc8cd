package powercut_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"selvage/engine/state/powercut"
)

// appender writes names to a file, and syncs it if told so.
func appender(sync bool) func(dir string, round int, ack func(string)) error {
	return func(dir string, round int, ack func(string)) error {
		f, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		if err := d.Sync(); err != nil {
			return err
		}
		for i := 0; ; i++ {
			name := fmt.Sprintf("%d-%d", round, i)
			if _, err := f.WriteString(name + "\n"); err != nil {
				return err
			}
			if sync {
				if err := f.Sync(); err != nil {
					return err
				}
			}
			ack(name)
			if !sync && i == 1000 {
				select {}
			}
		}
	}
}

func verify(dir string, acked []string) error {
	text, _ := os.ReadFile(filepath.Join(dir, "log"))
	for _, name := range acked {
		if !strings.Contains("\n"+string(text), "\n"+name+"\n") {
			return fmt.Errorf("write %s is lost", name)
		}
	}
	return nil
}

func TestCutKeepsWhatWasSynced(t *testing.T) {
	powercut.Cut(t, powercut.Plan{Writer: appender(true), Verify: verify, Rounds: 2})
}

func TestKillKeepsWhatWasWritten(t *testing.T) {
	powercut.Kill(t, powercut.Plan{Writer: appender(false), Verify: verify, Rounds: 2})
}

// The tool must find what it is there to find: a writer that does not sync loses writes. Where no
// power can be cut, there is nothing to find.
func TestCutLosesWhatWasNotSynced(t *testing.T) {
	powercut.Cut(t, powercut.Plan{Writer: appender(false), Rounds: 1, Verify: func(dir string, acked []string) error {
		if verify(dir, acked) == nil && os.Getenv("SELVAGE_POWERCUT") == "host" {
			return fmt.Errorf("all of %d unsynced writes survived", len(acked))
		}
		return nil
	}})
}
