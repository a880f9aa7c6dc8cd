package d1

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// Bounds of exports and imports.
const (
	maxUpload     = 5 << 30         // bytes of a file, as at Cloudflare
	maxTransfers  = 32              // kept at once in an account; the oldest that is over makes room
	maxRunning    = 2               // at once in an account, others wait
	keepTransfer  = time.Hour       // after it is over: how long a signed URL holds
	pollPatience  = 1 * time.Second // how long an answer waits for news
	transferReach = 6 * time.Hour   // of one transfer
)

// transfer is one export or import. Its file lies in the product's folder and goes with it.
type transfer struct {
	kind     string // export, import
	database *spec.Database
	token    string // of the URL, unguessable
	filename string // as clients see it
	path     string
	etag     string // of an import: MD5 of the file, as the client announced it
	options  string // of an export: what it was asked for
	made     time.Time

	mu       sync.Mutex // guards the fields below
	status   status
	bookmark string   // names the transfer in polls
	messages []string // not told yet
	failure  string
	result   any           // with complete
	changed  chan struct{} // closed at the next news
	expires  time.Time     // zero while it runs
	sending  bool          // an upload is under way
}

type status string

const (
	expected status = "expected" // an import whose file has not come yet
	uploaded status = "uploaded"
	active   status = "active"
	complete status = "complete"
	failed   status = "error"
)

// progress is what polls answer. Source: wrangler's d1/types.ts and the schema of Cloudflare's API.
type progress struct {
	Success  bool     `json:"success"`
	Type     string   `json:"type"`
	Bookmark string   `json:"at_bookmark,omitempty"`
	Status   status   `json:"status"`
	Messages []string `json:"messages"`
	Error    string   `json:"error,omitempty"`
	Errors   []string `json:"errors,omitempty"` // wrangler reads an import's there
	Result   any      `json:"result,omitempty"`
}

// transfers are those of the node.
type transfers struct {
	dir   string
	clock func() time.Time

	mu    sync.Mutex // guards the fields below
	all   map[string]*transfer
	slots map[string]chan struct{} // of each account's that run: none waits for another's
	work  sync.WaitGroup
	ended bool // take no more
}

// newTransfers makes the folder empty: what a process before had begun is begun anew by who wants it.
func newTransfers(dir string, clock func() time.Time) *transfers {
	return &transfers{dir: dir, clock: clock, all: map[string]*transfer{}, slots: map[string]chan struct{}{}}
}

// open makes the folder and removes what lies there from a process before.
func (t *transfers) open() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = false
	if len(t.all) > 0 {
		return nil
	}
	if err := os.RemoveAll(t.dir); err != nil {
		return err
	}
	return os.MkdirAll(t.dir, 0o700)
}

// add takes in a new transfer, in place of those that are over and old.
func (t *transfers) add(one *transfer) error {
	var raw [32]byte
	rand.Read(raw[:])
	one.token = hex.EncodeToString(raw[:])
	one.path = filepath.Join(t.dir, one.token)
	one.made, one.changed = t.clock(), make(chan struct{})
	t.sweep()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return fault.New(fault.Unavailable, "The node is stopping or handing over its databases: try again.")
	}
	count := 0
	var oldest *transfer // of those that are over
	for _, other := range t.all {
		if other.database.AccountID != one.database.AccountID {
			continue
		}
		if count++; other.over() && (oldest == nil || other.made.Before(oldest.made)) {
			oldest = other
		}
	}
	if count >= maxTransfers {
		if oldest == nil {
			return fault.New(fault.TooMuch, "The account has %d exports and imports that have not ended, the limit is %d: wait until one has.", count, maxTransfers).WithCode(codeInvalid)
		}
		delete(t.all, oldest.token)
		os.Remove(oldest.path)
	}
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return err
	}
	t.all[one.token] = one
	return nil
}

// over tells whether the transfer has ended.
func (x *transfer) over() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return (x.status == complete || x.status == failed) && !x.sending
}

// sweep forgets transfers that have expired.
func (t *transfers) sweep() {
	now := t.clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	for token, one := range t.all {
		one.mu.Lock()
		old := !one.expires.IsZero() && now.After(one.expires) && !one.sending
		one.mu.Unlock()
		if old {
			delete(t.all, token)
			os.Remove(one.path)
		}
	}
}

// of returns the transfer of a database that fits, the newest if there are several, or nil.
func (t *transfers) of(d *spec.Database, fits func(*transfer) bool) *transfer {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found *transfer
	for _, one := range t.all {
		if one.database.AccountID != d.AccountID || one.database.ID != d.ID || found != nil && one.made.Before(found.made) {
			continue
		}
		one.mu.Lock()
		ok := fits(one)
		one.mu.Unlock()
		if ok {
			found = one
		}
	}
	return found
}

// byToken returns the transfer that a URL names, if it has not expired.
func (t *transfers) byToken(token string) *transfer {
	t.sweep()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all[token]
}

// start runs do beside the request that began it.
func (t *transfers) start(one *transfer, do func(ctx context.Context) (any, error)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return fault.New(fault.Unavailable, "The node is stopping or handing over its databases: try again.")
	}
	account := one.database.AccountID
	if t.slots[account] == nil {
		t.slots[account] = make(chan struct{}, maxRunning)
	}
	slots := t.slots[account]
	t.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), transferReach)
		defer cancel()
		slots <- struct{}{}
		defer func() { <-slots }()
		result, err := do(ctx)
		one.finish(result, err, t.clock().Add(keepTransfer))
	})
	return nil
}

// end waits for what runs; whoever wants it to stop closes the databases first.
func (t *transfers) end() {
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.work.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.all)
}

// say adds a message for who polls.
func (x *transfer) say(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.messages) < 100 {
		x.messages = append(x.messages, fmt.Sprintf(format, args...))
	}
	x.news()
}

func (x *transfer) finish(result any, err error, expires time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.status, x.result, x.expires = complete, result, expires
	if err != nil {
		x.status, x.result, x.failure = failed, nil, messageOf(err)
	}
	x.news()
}

// news wakes who polls. x.mu is held.
func (x *transfer) news() {
	close(x.changed)
	x.changed = make(chan struct{})
}

// poll returns how far the transfer is. It waits a moment for its end: clients ask again at once.
func (x *transfer) poll(ctx context.Context) progress {
	patience := time.NewTimer(pollPatience)
	defer patience.Stop()
	for {
		x.mu.Lock()
		over, changed := x.status != active, x.changed
		if over {
			defer x.mu.Unlock()
			return x.told()
		}
		x.mu.Unlock()
		select {
		case <-changed:
			continue
		case <-patience.C:
		case <-ctx.Done():
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.told()
	}
}

// told returns the state with the messages that nobody has seen. x.mu is held.
func (x *transfer) told() progress {
	p := progress{Success: true, Type: x.kind, Bookmark: x.bookmark, Status: x.status, Messages: x.messages, Result: x.result, Error: x.failure}
	if p.Messages == nil {
		p.Messages = []string{}
	}
	if x.failure != "" {
		p.Errors = []string{x.failure}
	}
	x.messages = nil
	return p
}

// receive takes the file of an import.
func (t *transfers) receive(ctx context.Context, c *product.Call) (product.Reply, error) {
	one := t.byToken(c.Params["token"])
	if one == nil || one.kind != "import" {
		return product.Reply{}, noTransfer()
	}
	if err := one.begin(); err != nil {
		return product.Reply{}, err
	}
	sum, err := save(one.path, c.Body)
	if err == nil && sum != one.etag {
		err = fault.New(fault.Invalid, "The file's MD5 is %s and not %.80s, as was announced: it was damaged on its way. Upload it again.", sum, one.etag).WithCode(codeInvalid)
	}
	one.received(err == nil, t.clock().Add(keepTransfer))
	if err != nil {
		os.Remove(one.path)
		return product.Reply{}, err
	}
	return product.Reply{Raw: &product.Raw{
		Header: map[string][]string{"Etag": {`"` + sum + `"`}},
		Write:  func(context.Context, io.Writer) error { return nil },
	}}, nil
}

func noTransfer() error {
	return fault.New(fault.NotFound, "The URL has expired or never was valid: ask for another.").WithCode(codeNotFound)
}

// begin makes sure that one upload at a time writes the file.
func (x *transfer) begin() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.sending || x.status == active {
		return fault.New(fault.Conflict, "The file is being uploaded or run already.").WithCode(codeInvalid)
	}
	x.sending, x.status = true, expected
	return nil
}

func (x *transfer) received(ok bool, expires time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sending, x.expires = false, expires
	if ok {
		x.status = uploaded
	}
}

// save writes a body to a file and returns its MD5.
func save(path string, body io.Reader) (sum string, err error) {
	if body == nil {
		return "", fault.New(fault.Invalid, "The request has no body; send the file.").WithCode(codeInvalid)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	h := md5.New()
	_, err = io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, h)}, struct{ io.Reader }{body}, make([]byte, 256<<10))
	if err = errors.Join(err, f.Close()); err != nil {
		if fault.KindOf(err) == fault.Internal {
			err = fault.Wrap(err, fault.Invalid, "The upload ended early or cannot be kept: upload the file again.").WithCode(codeInvalid)
		}
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// send serves the file of an export.
func (t *transfers) send(_ context.Context, c *product.Call) (product.Reply, error) {
	one := t.byToken(c.Params["token"])
	if one == nil || one.kind != "export" {
		return product.Reply{}, noTransfer()
	}
	if _, err := os.Stat(one.path); err != nil {
		return product.Reply{}, noTransfer()
	}
	return product.Reply{Raw: &product.Raw{
		ContentType: "application/sql",
		Header:      map[string][]string{"Content-Disposition": {`attachment; filename="` + one.filename + `"`}},
		Write: func(_ context.Context, w io.Writer) error {
			f, err := os.Open(one.path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{f}, make([]byte, 256<<10))
			return err
		},
	}}, nil
}
