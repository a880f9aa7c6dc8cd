package storage

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// errLog says that a purge log cannot be trusted: nothing stored beside it may be served.
var errLog = errors.New("purge log is damaged")

// purgeLog makes purges durable: a line for each, synced before the purge is acknowledged, so that
// what was purged never comes back from disk. A line is "number kind zone value checksum", strings
// quoted; "number base" says that all purges up to that number are done with.
type purgeLog struct {
	path string
	mu   sync.Mutex // guards the fields below; one writer at a time
	file *os.File
	size int64 // of the good part
}

// openPurgeLog reads the log in dir into p. A torn last line was never acknowledged and is cut
// off; any other fault is errLog. fresh tells that there was no log.
func openPurgeLog(dir string, p *purges) (l *purgeLog, fresh bool, err error) {
	l = &purgeLog{path: filepath.Join(dir, "purges.log")}
	l.file, err = os.OpenFile(l.path, os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return l, true, l.rewrite(p)
	}
	if err != nil {
		return nil, false, err
	}
	if l.size, err = l.replay(p); err != nil {
		l.file.Close()
		return nil, false, err
	}
	return l, false, l.file.Truncate(l.size)
}

func (l *purgeLog) replay(p *purges) (good int64, err error) {
	r := bufio.NewReader(l.file)
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
		seq, purge, err := parseLine(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return 0, err
		}
		if purge.Kind == "base" {
			p.last.Store(max(p.last.Load(), seq))
		} else {
			p.apply(purge, seq)
		}
		good += int64(len(line))
	}
	if good == 0 {
		return 0, fmt.Errorf("%w: %s has no first line", errLog, l.path)
	}
	return good, nil
}

func formatLine(seq uint64, p Purge) string {
	s := fmt.Sprintf("%d %s %s %s", seq, p.Kind, strconv.QuoteToASCII(p.Zone), strconv.QuoteToASCII(p.Value))
	return fmt.Sprintf("%s %08x\n", s, crc32.ChecksumIEEE([]byte(s)))
}

func parseLine(line string) (uint64, Purge, error) {
	bad := func() (uint64, Purge, error) { return 0, Purge{}, fmt.Errorf("%w: line %.80q", errLog, line) }
	cut := strings.LastIndexByte(line, ' ')
	if cut < 0 || fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(line[:cut]))) != line[cut+1:] {
		return bad()
	}
	number, rest, _ := strings.Cut(line[:cut], " ")
	kind, rest, _ := strings.Cut(rest, " ")
	quotedZone, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return bad()
	}
	zone, err1 := strconv.Unquote(quotedZone)
	value, err2 := strconv.Unquote(strings.TrimPrefix(rest[len(quotedZone):], " "))
	seq, err3 := strconv.ParseUint(number, 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return bad()
	}
	return seq, Purge{PurgeKind(kind), zone, value}, nil
}

// append writes purges numbered from first on and syncs. On failure the file is cut back to what
// it was, so that a half-written line cannot stand before good ones.
func (l *purgeLog) append(first uint64, list []Purge) error {
	var b strings.Builder
	for i, p := range list {
		b.WriteString(formatLine(first+uint64(i), p))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.file.WriteAt([]byte(b.String()), l.size)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		return errors.Join(err, l.file.Truncate(l.size))
	}
	l.size += int64(b.Len())
	return nil
}

// rewrite replaces the log by one that holds only what is in effect.
func (l *purgeLog) rewrite(p *purges) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Under l.mu, so that no purge is appended to the old file after the list was taken.
	records := p.list()
	var b strings.Builder
	b.WriteString(formatLine(p.last.Load(), Purge{Kind: "base"}))
	for _, seq := range slices.Sorted(maps.Keys(records)) {
		b.WriteString(formatLine(seq, records[seq]))
	}
	file, err := os.OpenFile(l.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(b.String())
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(l.path+".new", l.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(l.path))
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file, l.size = file, int64(b.Len())
	return nil
}

func (l *purgeLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
