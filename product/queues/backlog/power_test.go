package backlog_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"selvage/engine/state"
	"selvage/engine/state/powercut"
	"selvage/product/queues/backlog"
)

// plan has many senders and one consumer, which tell what they did: "+NAME" was sent, "?NAME" is about to be
// acknowledged, "-NAME" was. After the power is back, what was sent is there with its body unless it was to
// be acknowledged, and what was acknowledged is not.
func plan(rounds int) powercut.Plan {
	return powercut.Plan{Rounds: rounds, Writer: writeQueue, Verify: verifyQueue}
}

func openBacklog(dir string) (*state.DB, *backlog.Queue, error) {
	db, err := state.Open(dir, state.Options{})
	if err != nil {
		return nil, nil, err
	}
	s, err := backlog.Open(db, backlog.Options{Policy: func(string, string) backlog.Policy { return backlog.Policy{MaxRetries: 1000} }})
	if err == nil {
		_, err = s.Expire()
	}
	if err != nil {
		db.Close()
		return nil, nil, err
	}
	q, err := s.Queue(account, queueID)
	return db, q, err
}

// bodyOf is a message whose name is its beginning; every third is large.
func bodyOf(name string, i int) []byte {
	return []byte(name + "|" + strings.Repeat("b", i%3*2000))
}

func nameIn(body []byte) string {
	name, _, _ := strings.Cut(string(body), "|")
	return name
}

func writeQueue(dir string, round int, ack func(string)) error {
	db, q, err := openBacklog(dir)
	if err != nil {
		return err
	}
	defer db.Close()
	var all sync.WaitGroup
	var mu sync.Mutex
	say := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		ack(what)
	}
	failed := make(chan error, 5)
	for w := range 4 {
		all.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d.%d.%d", round, w, i)
				if _, err := q.Send([]backlog.Draft{{Format: backlog.Text, Body: bodyOf(name, i)}}, noLimit); err != nil {
					failed <- err
					return
				}
				say("+" + name)
			}
		})
	}
	all.Go(func() { failed <- consume(q, say) })
	err = <-failed
	all.Wait()
	return err
}

func consume(q *backlog.Queue, say func(string)) error {
	for i := 0; ; i++ {
		d, messages, err := q.Take(backlog.Wanted{Count: 7, Bytes: 1 << 20})
		if err != nil {
			return err
		}
		if d == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		verdicts := make([]backlog.Verdict, len(messages))
		for j := range verdicts {
			verdicts[j].Retry = (i+j)%4 == 0
		}
		for j, m := range messages {
			if !verdicts[j].Retry {
				say("?" + nameIn(m.Body))
			}
		}
		if err := d.Settle(verdicts, backlog.Policy{MaxRetries: 1000}); err != nil {
			return err
		}
		for j, m := range messages {
			if !verdicts[j].Retry {
				say("-" + nameIn(m.Body))
			}
		}
	}
}

// verifyQueue looks at what is there and takes nothing: the next round goes on with it.
func verifyQueue(dir string, acked []string) error {
	db, q, err := openBacklog(dir)
	if err != nil {
		return err
	}
	defer db.Close()
	st := q.Stats()
	there, err := q.Peek(int(st.Count)+1000, 1<<30)
	if err != nil {
		return err
	}
	if int64(len(there)) != st.Count {
		return fmt.Errorf("%d messages are there, %d are counted", len(there), st.Count)
	}
	found, bytes := map[string]bool{}, int64(0)
	for _, m := range there {
		name := nameIn(m.Body)
		bytes += int64(len(m.Body))
		if found[name] {
			return fmt.Errorf("%s is there twice", name)
		}
		found[name] = true
		var round, writer, i int
		if _, err := fmt.Sscanf(name, "%d.%d.%d", &round, &writer, &i); err != nil || string(m.Body) != string(bodyOf(name, i)) {
			return fmt.Errorf("the body of %s is not as it was sent: %v", name, err)
		}
	}
	if bytes != st.Bytes {
		return fmt.Errorf("%d bytes are there, %d are counted", bytes, st.Bytes)
	}
	return compare(found, acked)
}

func compare(found map[string]bool, acked []string) error {
	begun := map[string]bool{}
	for _, a := range acked {
		if name, ok := strings.CutPrefix(a, "?"); ok {
			begun[name] = true
		}
	}
	var faults []error
	for _, a := range acked {
		name := a[1:]
		switch {
		case a[0] == '+' && !begun[name] && !found[name]:
			faults = append(faults, fmt.Errorf("%s was sent and is gone", name))
		case a[0] == '-' && found[name]:
			faults = append(faults, fmt.Errorf("%s was acknowledged and is there", name))
		}
	}
	return errors.Join(faults...)
}

func TestKills(t *testing.T)     { powercut.Kill(t, plan(3)) }
func TestPowerCuts(t *testing.T) { powercut.Cut(t, plan(3)) }
