package tail

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"selvage/product/workers/tail/sourcemap"
)

// Limits of the stacks that are rewritten. What is behind them stays as it is.
const (
	maxFrames  = 100
	mapsAtOnce = 2 // being read: a hostile one takes much memory meanwhile
)

// maps are the source maps in use, the longest unused given up first. Versions do not change, so
// neither do their maps. Safe for concurrent use.
type maps struct {
	load  func(ctx context.Context, accountID, versionID, module string) ([]byte, error)
	limit int           // bytes
	turns chan struct{} // as many as may be read at once

	mu      sync.Mutex // guards the fields below
	entries map[mapKey]*mapEntry
	bytes   int
	clock   uint64 // counts uses
}

type mapKey struct{ account, version, module string }

type mapEntry struct {
	m    *sourcemap.Map // nil: there is none
	size int
	used uint64
}

// rewrite returns a stack whose frames name the sources. Frames of modules without a map stay.
func (c *maps) rewrite(ctx context.Context, account, version, stack string) string {
	if c.load == nil || version == "" || stack == "" {
		return stack
	}
	lines := strings.Split(stack, "\n")
	for i, line := range lines[:min(len(lines), maxFrames)] {
		f, ok := parseFrame(line)
		if !ok {
			continue
		}
		m := c.get(ctx, mapKey{account, version, f.module})
		if m == nil {
			continue
		}
		if p, ok := m.Find(f.line-1, f.column-1); ok {
			lines[i] = f.before + p.Source + ":" + strconv.Itoa(p.Line+1) + ":" + strconv.Itoa(p.Column+1) + f.after
		}
	}
	return strings.Join(lines, "\n")
}

// frame is a line of a stack as V8 writes it: "    at async name (module:line:column)", or without
// name and brackets.
type frame struct {
	before, after string
	module        string
	line, column  int // from 1
}

func parseFrame(s string) (frame, bool) {
	trimmed := strings.TrimLeft(s, " \t")
	if !strings.HasPrefix(trimmed, "at ") || len(s) > 4096 {
		return frame{}, false
	}
	begin, end := len(s)-len(trimmed)+len("at "), len(s)
	if strings.HasSuffix(s, ")") {
		open := strings.LastIndex(s, " (")
		if open < begin {
			return frame{}, false
		}
		begin, end = open+2, end-1
	} else if rest, ok := strings.CutPrefix(s[begin:], "async "); ok {
		begin = len(s) - len(rest)
	}
	f := frame{before: s[:begin], after: s[end:]}
	place, column, ok := cutNumber(s[begin:end])
	if !ok {
		return frame{}, false
	}
	module, line, ok := cutNumber(place)
	if !ok || module == "" {
		return frame{}, false
	}
	f.module, f.line, f.column = strings.TrimPrefix(module, "file:///"), line, column
	return f, true
}

// cutNumber cuts ":12" from the end.
func cutNumber(s string) (rest string, n int, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.Atoi(s[i+1:])
	return s[:i], n, err == nil && n > 0
}

// get returns a map, reading it if need be, or nil if there is none or it is broken.
func (c *maps) get(ctx context.Context, k mapKey) *sourcemap.Map {
	c.mu.Lock()
	c.clock++
	if e := c.entries[k]; e != nil {
		e.used = c.clock
		c.mu.Unlock()
		return e.m
	}
	c.mu.Unlock()
	select {
	case c.turns <- struct{}{}:
		defer func() { <-c.turns }()
	case <-ctx.Done():
		return nil
	}
	e := &mapEntry{size: 256 + len(k.version) + len(k.module)}
	data, err := c.load(ctx, k.account, k.version, k.module)
	if err != nil {
		return nil // perhaps the next time
	}
	if data != nil {
		if m, err := sourcemap.Parse(data); err == nil {
			e.m, e.size = m, e.size+m.Size()
		}
	}
	c.keep(k, e)
	return e.m
}

func (c *maps) keep(k mapKey, e *mapEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.size > c.limit || c.entries[k] != nil {
		return
	}
	e.used = c.clock
	c.entries[k] = e
	c.bytes += e.size
	for c.bytes > c.limit {
		oldest := k
		for k, e := range c.entries {
			if e.used < c.entries[oldest].used {
				oldest = k
			}
		}
		c.bytes -= c.entries[oldest].size
		delete(c.entries, oldest)
	}
}
