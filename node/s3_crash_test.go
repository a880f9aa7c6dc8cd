package node_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestS3SurvivesKills kills the node again and again while S3 clients put, upload in parts and delete.
// Each object is in the end what was acknowledged last, whole, or what a request was to make of it that got
// no answer.
func TestS3SurvivesKills(t *testing.T) {
	t.Parallel()
	const kills, clients = 25, 4
	dir := t.TempDir()
	var node atomic.Pointer[process]
	node.Store(up(t, dir))
	c := newS3Client(t, &node, "survivors")
	var writers []*s3Writer
	for i := range clients {
		writers = append(writers, &s3Writer{c: c.with(&http.Transport{}), name: fmt.Sprint("client", i), objects: map[string]*s3Object{}})
	}
	for range kills {
		var group sync.WaitGroup
		for _, w := range writers {
			group.Go(w.untilKilled)
		}
		time.Sleep(time.Duration(50+rand.IntN(400)) * time.Millisecond)
		node.Load().stop(syscall.SIGKILL)
		group.Wait()
		node.Store(up(t, dir))
		for _, w := range writers {
			w.settle(t)
		}
	}
	done := 0
	for _, w := range writers {
		w.check(t)
		done += w.done
	}
	t.Logf("%d acknowledged changes through %d kills", done, kills)
	if log := node.Load().log.String(); strings.Contains(log, "panic") || strings.Contains(log, "level=ERROR") {
		t.Errorf("the node is not well:\n%s", log)
	}
}

// s3Object is what is known of an object. nil is none.
type s3Object struct {
	now    []byte // acknowledged
	unsure bool   // a request got no answer, that was to make it next
	next   []byte
}

// s3Writer changes objects of its own and remembers what was acknowledged.
type s3Writer struct {
	c       *s3Client
	name    string
	objects map[string]*s3Object
	done    int
	made    int // of contents, so that none is like another
}

// untilKilled changes objects until a request gets no answer.
func (w *s3Writer) untilKilled() {
	defer w.c.http.CloseIdleConnections()
	for {
		key := fmt.Sprintf("%s/%d", w.name, rand.IntN(30))
		o := w.objects[key]
		if o == nil {
			o = &s3Object{}
			w.objects[key] = o
		}
		var change func() error
		o.next, change = w.choose(key)
		o.unsure = true
		if err := change(); err != nil {
			return
		}
		o.now, o.next, o.unsure = o.next, nil, false
		w.done++
	}
}

// choose returns a change of an object and what that makes of it.
func (w *s3Writer) choose(key string) (next []byte, change func() error) {
	w.made++
	small := fmt.Appendf(nil, "%s %d", key, w.made)
	switch n := rand.IntN(20); {
	case n < 9:
		return small, w.put(key, small)
	case n < 13:
		large := bytes.Repeat(small, 1+200_000/len(small)) // a file
		return large, w.put(key, large)
	case n < 15:
		return nil, func() error {
			_, _, err := w.c.do("DELETE", "/"+key, nil)
			return err
		}
	case n < 17:
		return nil, func() error {
			_, _, err := w.c.do("POST", "?delete=", []byte("<Delete><Object><Key>"+key+"</Key></Object></Delete>"))
			return err
		}
	default:
		first := bytes.Repeat(small, 1+(5<<20)/len(small))
		return append(bytes.Clone(first), small...), func() error { return w.c.putParts(key, first, small) }
	}
}

func (w *s3Writer) put(key string, content []byte) func() error {
	return func() error {
		_, _, err := w.c.do("PUT", "/"+key, content)
		return err
	}
}

// settle finds out what became of changes that got no answer.
func (w *s3Writer) settle(t *testing.T) {
	t.Helper()
	for key, o := range w.objects {
		if !o.unsure {
			continue
		}
		before, after := w.is(key, o.now), w.is(key, o.next)
		if before != nil && after != nil {
			t.Errorf("%s is neither what it was nor what it was to be: %v; %v", key, before, after)
		}
		if after == nil {
			o.now = o.next
		}
		o.next, o.unsure = nil, false
	}
}

// is compares an object with what it has to be; nil is none.
func (w *s3Writer) is(key string, want []byte) error {
	if want == nil {
		return w.c.lacks(key)
	}
	return w.c.has(key, want)
}

// check compares all objects and their list.
func (w *s3Writer) check(t *testing.T) {
	t.Helper()
	want := 0
	for key, o := range w.objects {
		if err := w.is(key, o.now); err != nil {
			t.Errorf("after all kills: %v", err)
		}
		if o.now != nil {
			want++
		}
	}
	data, _, err := w.c.do("GET", "?list-type=2&prefix="+w.name+"%2F", nil)
	must(t, err)
	var list struct{ Contents []struct{ Key string } }
	must(t, xml.Unmarshal(data, &list))
	if len(list.Contents) != want {
		t.Errorf("%s has %d objects in the list, want %d", w.name, len(list.Contents), want)
	}
}
