package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// holdAtMost is how long a request waits for a store while it changes hands.
const holdAtMost = 20 * time.Second

// stillHandingOver is what those are told who waited so long.
const stillHandingOver = "The node is handing over to a new process and has not finished yet: try again."

// passage is the way to a store that changes hands: while it is open requests pass and are counted,
// while it is being handed over they wait.
type passage struct {
	mu         sync.Mutex // guards the fields below
	state      passState
	reason     string        // why it is shut, for users
	changed    chan struct{} // closed with the next change of state
	inside     int           // requests being served
	streamless bool          // see endStreams
	left       chan struct{} // closed when inside reaches 0 while held; nil if nobody waits
}

func newPassage() passage { return passage{changed: make(chan struct{})} }

type passState uint8

const (
	passHeld   passState = iota // wait for another state
	passOpen                    // serve
	passShut                    // say why not
	passRelays                  // pass on to the successor
)

func (p *passage) turn(state passState, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.reason = state, reason
	close(p.changed)
	p.changed = make(chan struct{})
}

// changes returns a channel that is closed when the state changes: streams end then, for whoever has
// the store next serves them.
func (p *passage) changes() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.streamless {
		ended := make(chan struct{})
		close(ended)
		return ended
	}
	return p.changed
}

// endStreams ends streams for good, for a node that stops: they would never leave by themselves.
func (p *passage) endStreams() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streamless = true
	close(p.changed)
	p.changed = make(chan struct{})
}

// hold makes new requests wait and returns when those inside have left, or ctx ends.
func (p *passage) hold(ctx context.Context) error {
	p.turn(passHeld, "")
	p.mu.Lock()
	if p.inside == 0 {
		p.mu.Unlock()
		return nil
	}
	left := make(chan struct{})
	p.left = left
	p.mu.Unlock()
	select {
	case <-left:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter waits until the state says what happens to a request, and returns that; passHeld if it takes
// too long. After passOpen call leave.
func (p *passage) enter(ctx context.Context) (passState, string) {
	if state, reason, _ := p.look(); state != passHeld {
		return state, reason
	}
	patience := time.NewTimer(holdAtMost)
	defer patience.Stop()
	for {
		state, reason, changed := p.look()
		if state != passHeld {
			return state, reason
		}
		select {
		case <-changed:
		case <-patience.C:
			return passHeld, ""
		case <-ctx.Done():
			return passHeld, ""
		}
	}
}

// look returns the state; if that is open, the caller is inside.
func (p *passage) look() (passState, string, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == passOpen {
		p.inside++
	}
	return p.state, p.reason, p.changed
}

func (p *passage) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inside--
	if p.inside == 0 && p.left != nil {
		close(p.left)
		p.left = nil
	}
}

// visit is a request inside a passage that may step out of it and in again, while it does without the
// store for as long as its client likes.
type visit struct{ in atomic.Pointer[passage] }

type visitKey struct{}

// visiting makes the caller, who is inside p, a visit that those who are called with ctx find. Call leave
// at its end.
func visiting(ctx context.Context, p *passage) (context.Context, *visit) {
	v := &visit{}
	v.in.Store(p)
	return context.WithValue(ctx, visitKey{}, v), v
}

// visitOf returns the visit that ctx belongs to, or nil.
func visitOf(ctx context.Context) *visit {
	v, _ := ctx.Value(visitKey{}).(*visit)
	return v
}

// leave ends it, or steps out.
func (v *visit) leave() {
	if p := v.in.Swap(nil); p != nil {
		p.leave()
	}
}

// enter steps in again.
func (v *visit) enter(ctx context.Context, p *passage) (passState, string) {
	state, reason := p.enter(ctx)
	if state == passOpen {
		v.in.Store(p)
	}
	return state, reason
}
